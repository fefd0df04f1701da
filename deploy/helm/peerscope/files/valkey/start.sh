# Writes the users with the hashes of their passwords, and starts the server.
set -eu
cd /etc/valkey
users=$(cat users.acl)
for role in exporter admin; do
  if [ ! -s "secret/$role-password" ]; then
    echo "Cannot start Valkey: the Secret has no password under the key \"$role-password\"" >&2
    exit 1
  fi
  hash=$(sha256sum "secret/$role-password")
  users=$(printf '%s\n' "$users" | sed "s/@$role@/#${hash%% *}/")
done
umask 077
printf '%s\n' "$users" > /data/users.acl
exec valkey-server valkey.conf

#!/bin/sh
# Makes .cache/debian-12, a bare Debian 12 with systemd, from apt's configured mirror. For packages.test.ts; takes root and debootstrap,
# a minute and 250 MB. .ci/run repeats it if this file changes.
set -eu
cd "$(dirname "$0")/../../.."
root=.cache/debian-12
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Codename: bookworm' | sort -u | head -n 1)
rm -rf "$root" .cache/debian-12.sh
trap 'rm -rf "$root"' EXIT # half a root is none
mkdir -p .cache
debootstrap --variant=minbase --include=systemd,systemd-sysv bookworm "$root" "$mirror"
rm -rf "$root/var/cache/apt/archives" "$root/var/lib/apt/lists"
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
trap - EXIT
cp test/e2e/packages/debian-root.sh .cache/debian-12.sh

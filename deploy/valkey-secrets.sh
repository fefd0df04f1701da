#!/bin/sh
# Prints the two Secrets of the store, with new passwords and the certificate of a new authority whose key is not kept:
#   sh deploy/valkey-secrets.sh NAMESPACE | kubectl create --filename -
# The second argument is the name of the Service, if it is not peerscope-valkey. The Secrets get its name.
set -eu
namespace=${1:?'the namespace is missing'}
service=${2:-peerscope-valkey}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
umask 077
cd "$folder"

# openssl writes its progress as errors, too.
run() { openssl "$@" 2>log || { cat log >&2; exit 1; }; }
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
run req -x509 $curve -days 3650 -subj "/CN=$service authority" -keyout ca.key -out ca.crt
run req $curve -subj "/CN=$service" -keyout tls.key -out tls.csr
printf 'subjectAltName=DNS:%s,DNS:%s.%s,DNS:%s.%s.svc\n' "$service" "$service" "$namespace" "$service" "$namespace" > extensions
run x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile extensions -out tls.crt

encode() { base64 < "$1" | tr -d '\n'; }
# Part of a URL, so hexadecimal digits.
openssl rand -hex 32 | tr -d '\n' > exporter-password
openssl rand -hex 32 | tr -d '\n' > admin-password
cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: $service
  namespace: $namespace
data:
  exporter-password: $(encode exporter-password)
  admin-password: $(encode admin-password)
---
apiVersion: v1
kind: Secret
metadata:
  name: $service-tls
  namespace: $namespace
type: kubernetes.io/tls
data:
  ca.crt: $(encode ca.crt)
  tls.crt: $(encode tls.crt)
  tls.key: $(encode tls.key)
END

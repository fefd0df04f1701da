#!/bin/sh
# Makes what the Dockerfile builds on, from Debian's packages: localhost/peerscope-build, a bookworm with Node.js, npm, setcap and a
# C compiler, and localhost/peerscope-base, the few packages of a distroless image and Node.js. For image.test.ts; takes root,
# debootstrap, buildah and `npm ci`, two minutes and 1 GB below .cache/image. .ci/run repeats it if this file changes.
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
cache=$root/.cache/image
node=$root/node_modules/node/bin/node
npm=$(dirname "$(dirname "$(realpath "$(command -v npm)")")")
# the mirror configured in apt's sources, whatever it is
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Codename: bookworm' | sort -u | head -n 1)

rm -rf "$cache"
mkdir -p "$cache"
trap 'rm -rf "$cache"' EXIT # half a store is none
build=$cache/build
debootstrap --variant=minbase --include=gcc,libc6-dev,libcap2-bin,musl-tools bookworm "$build" "$mirror"

base=$cache/base
mkdir -p "$base/nodejs/bin" "$cache/debs"
(cd "$cache/debs" && apt-get -qq -o APT::Sandbox::User=root download base-files libc6 libgcc-s1 libstdc++6 netbase tzdata)
for deb in "$cache"/debs/*.deb; do dpkg -x "$deb" "$base"; done
rm -r "$cache/debs"
cp "$node" "$base/nodejs/bin/node"

cp "$node" "$build/usr/local/bin/node"
cp -r "$npm" "$build/usr/local/lib/npm"
ln -s ../lib/npm/bin/npm-cli.js "$build/usr/local/bin/npm"

for name in build base; do
  own() { buildah --root "$cache/storage" --runroot "$cache/run" "$@"; }
  container=$(own from scratch)
  own add --quiet "$container" "$cache/$name" /
  own commit --quiet --rm "$container" "localhost/peerscope-$name"
  rm -r "${cache:?}/$name"
done
trap - EXIT
umount "$cache/storage/overlay" 2>/dev/null || true
cp "$0" "$cache/bases.sh"

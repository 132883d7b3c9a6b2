#!/bin/bash
# Makes a stand-in for the Node base image of the Dockerfile, where no image registry can be reached: a minimal Debian
# with the Node binary of this project's own `node` package and the machine's npm.
#
#   scripts/base-image.sh [IMAGE]        default: localhost/node-base:24
#
# Needs root, debootstrap, buildah, an installed node_modules and a Debian mirror. WORK=dir keeps the Debian root for the
# next time; STORAGE_DRIVER chooses buildah's (default vfs, which works everywhere).
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:-localhost/node-base:24}
work=${WORK:-$(mktemp -d)}
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
suite=bookworm
mirror=${MIRROR:-$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)}
root=$work/root
for program in buildah debootstrap; do
  command -v $program >/dev/null || { echo "$program is not installed (apt-get install buildah debootstrap)" >&2; exit 1; }
done

if [ ! -x "$root/usr/bin/env" ]; then
  mkdir -p "$work"
  debootstrap --variant=minbase --include=ca-certificates,binutils,libjemalloc2 "$suite" "$root" "${mirror:?MIRROR is needed: no Debian mirror is configured here}" >"$work/debootstrap.log" 2>&1 ||
    { tail -5 "$work/debootstrap.log" >&2; exit 1; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
fi

# What this machine trusts and how it reaches the npm registry, so that `npm ci` in the build can.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
install -m 755 "$(readlink -f node_modules/node/bin/node)" "$root/usr/local/bin/node"
npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
rm -rf "$root/usr/local/lib/node_modules/npm"
mkdir -p "$root/usr/local/lib/node_modules"
cp -rL "$npm" "$root/usr/local/lib/node_modules/npm"
ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
chmod 755 "$root/usr/local/lib/node_modules/npm/bin/npm-cli.js"

container=$(buildah from scratch)
trap 'buildah rm "$container" >/dev/null; [ -n "${WORK:-}" ] || rm -rf "$work"' EXIT
buildah add -q "$container" "$root" / >/dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
  --env npm_config_registry="$(npm config get registry)" --cmd node "$container"
buildah commit -q "$container" "$image" >/dev/null
echo "$image: Debian $suite, Node $(node_modules/node/bin/node --version), npm $(npm --version)"

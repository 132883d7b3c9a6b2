#!/bin/sh
# Lays out the root of the image: Node, the shared libraries it is linked with, the bundle, and a filled compile cache.
# Runs in the build stage of the Dockerfile.  image-root.sh ROOT DIST
set -eu
root=$1 dist=$2
node=$(readlink -f "$(command -v node)")

mkdir -p "$root/usr/local/bin" "$root/app" "$root/etc" "$root/run" "$root/var" "$root/tmp"
ln -s ../run "$root/var/run"
chmod 1777 "$root/tmp"
echo 'root:x:0:0:root:/:/sbin/nologin
mcp-sidecar:x:1001:1001:mcp-sidecar:/:/sbin/nologin' >"$root/etc/passwd"
echo 'root:x:0:
mcp-sidecar:x:1001:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

cp "$node" "$root/usr/local/bin/node"
# Symbols for debuggers are a seventh of the binary.
if command -v strip >/dev/null; then strip "$root/usr/local/bin/node"; fi
mkdir -p "$root/usr/local/lib"
cp -L "/usr/lib/$(uname -m)-linux-gnu/libjemalloc.so.2" "$root/usr/local/lib/"
# Each library at the very path where the loader of this machine looks for it.
needed=$(ldd "$node"; ldd "$root/usr/local/lib/libjemalloc.so.2")
case $needed in *'not found'*) echo "$needed" >&2; exit 1 ;; esac
echo "$needed" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

cp -r "$dist/." "$root/app/"
# There is no /usr/bin/env in the image.
sed -i '1s,^#!.*,#!/usr/local/bin/node,' "$root/app/mcp-sidecar.mjs"
chmod 755 "$root/app/mcp-sidecar.mjs"
ln -s ../../../app/mcp-sidecar.mjs "$root/usr/local/bin/mcp-sidecar"

# The cache is looked up by the user id that runs, and by paths, so it is filled as uid 1001 with the image as root.
mkdir -p "$root/app/compile-cache"
chmod 777 "$root/app/compile-cache"
cat >"$root/app/fill.mjs" <<'FILL'
import { readdirSync } from 'node:fs'
process.setgid?.(1001)
process.setuid?.(1001)
const { enableCompileCache, flushCompileCache } = await import('node:module')
enableCompileCache('/app/compile-cache')
const wanted = name => /^(?!demo).*\.mjs$/.test(name)
for (const folder of ['/app/chunks', '/app/commands/chunks', '/app/commands'])
  for (const name of readdirSync(folder)) if (wanted(name)) await import(`${folder}/${name}`)
process.argv = [process.argv[0], '/app/mcp-sidecar.mjs', '--version']
await import('/app/mcp-sidecar.mjs')
flushCompileCache()
FILL
chroot "$root" /usr/local/bin/node /app/fill.mjs
rm "$root/app/fill.mjs"
chmod -R a+rX,go-w "$root/app"

#!/bin/bash
# Builds the image and holds it against what its users rely on: uid 1001, a read-only root, no capabilities, a limit of
# 128 MiB, a health check, SIGTERM, its size. Calls go over mTLS to a server in the same (network) pod.
#
#   scripts/image-test.sh [IMAGE]        IMAGE: test this one instead of building
#   scripts/image-test.sh --can-run IMAGE   only says, by its exit code, whether this machine runs containers
#
# Needs buildah and podman (root); no network beyond what the build needs, none at all with IMAGE. Where no registry can
# be reached, scripts/base-image.sh makes the base:  NODE_IMAGE=localhost/node-base:24 scripts/image-test.sh
set -euo pipefail
cd "$(dirname "$0")/.."

export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
node_image=${NODE_IMAGE:-node:24-bookworm}
image=${1:-}
max_mib=${MAX_IMAGE_MIB:-150}
name=mcp-sidecar-image-test-$$
work=$(mktemp -d)
failures=0

cleanup() {
  # One by one: given a name that is gone, podman leaves the others.
  for container in "$name-sidecar" "$name-server"; do podman rm -f -t 0 "$container" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap cleanup EXIT

# Machines that may not raise limits, and hybrid cgroups, which crun refuses.
cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
cgroup_manager = "cgroupfs"
CONF
command -v runc >/dev/null && echo 'runtime = "runc"' >>"$work/containers.conf"
export CONTAINERS_CONF=$work/containers.conf

# Whether containers run here at all, with what the test asks of them.
if [ "${1:-}" = --can-run ]; then
  timeout 120 podman run --rm --network none --memory 128m --cap-drop ALL --entrypoint node "$2" -e 0
  exit
fi

for program in buildah podman; do
  command -v $program >/dev/null || { echo "$program is not installed (apt-get install buildah podman runc)"; exit 1; }
done

pass() { printf 'ok    %s\n' "$1"; }
fail() { printf 'FAIL  %s\n' "$1"; failures=$((failures + 1)); }
check() { if [ "$2" = "$3" ]; then pass "$1: $2"; else fail "$1: $2, want $3"; fi; }
sidecar() { podman exec "$name-sidecar" "$@"; }
inside() { sidecar node -e "$1"; }
wait_for() { # TEXT COMMAND...
  local what=$1; shift
  for _ in $(seq 150); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.1; done
  fail "$what within 15 s"; podman logs "$name-sidecar" 2>&1 | tail -20; exit 1
}

if [ -z "$image" ]; then
  image=localhost/mcp-sidecar:test
  # The docker format, since that of OCI has no HEALTHCHECK.
  buildah bud --format docker --isolation "${ISOLATION:-chroot}" ${PULL:---pull-never} \
    --build-arg NODE_IMAGE="$node_image" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    -t "$image" . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log"; exit 1; }
fi

# Said plainly, because what podman says of a machine that lacks something is said ten times over and of other things.
if ! podman run --rm --network none --entrypoint node "$image" --version >"$work/first.log" 2>&1; then
  echo 'podman cannot run a container here: it needs root, namespaces, cgroups that can be written, and runc or crun'
  cat "$work/first.log"
  exit 1
fi

field() { podman image inspect --format "$1" "$image"; }
check 'user' "$(field '{{.User}}')" 1001:1001
check 'title label' "$(field '{{index .Labels "org.opencontainers.image.title"}}')" mcp-sidecar
case $(podman image inspect "$image") in *'"health"'*) pass 'has a health check' ;; *) fail 'has a health check' ;; esac
mib=$(($(field '{{.Size}}') / 1048576))
if [ "$mib" -le "$max_mib" ]; then pass "size: $mib MiB, at most $max_mib"; else fail "size: $mib MiB, at most $max_mib"; fi

mount=$(podman image mount "$image")
for absent in bin/sh usr/bin/env usr/local/bin/npm usr/local/lib/node_modules usr/bin/apt app/node_modules; do
  if [ -e "$mount/$absent" ]; then fail "no /$absent"; fi
done
printf '      %s\n' "$(cd "$mount" && du -sm usr/local/bin/node lib* usr/lib* app 2>/dev/null | awk '{printf "%s %s MiB  ", $2, $1}')"
podman image unmount "$image" >/dev/null

# What the pod would mount: certificates, trust, configuration.
mkdir -p "$work/config" "$work/ca" "$work/tls"
chmod 755 "$work"
podman run --rm --network none --user 0 -v "$work:/made" "$image" pki --out /made/pki --dns localhost >/dev/null
cp "$work/pki/ca.crt" "$work/ca/ca.crt"
cp "$work/pki/server/"tls.* "$work/tls/"
chmod 444 "$work"/tls/* "$work/pki/gateway/"*
cat >"$work/config/config.yaml" <<'YAML'
listen: { address: "${MCP_SIDECAR_LISTEN:-0.0.0.0:8443}" }
upstream: { url: "${MCP_SIDECAR_UPSTREAM:-http://127.0.0.1:3000}" }
peers:
  - name: gateway
    match: { uri: "spiffe://example.org/ns/gateway/sa/kong" }
    mayAssert: { users: ["*"] }
policy:
  rules: [{ id: echo, effect: allow, methods: ["tools/call"], tools: [echo] }]
YAML

server='require("http").createServer((q,r)=>{let b="";q.on("data",c=>b+=c).on("end",()=>{const m=JSON.parse(b||"{}");
r.setHeader("content-type","application/json");r.end(JSON.stringify({jsonrpc:"2.0",id:m.id,result:{content:[{type:"text",text:q.headers["x-user-id"]||"nobody"}]}}))})}).listen(3000,"127.0.0.1")'
podman run -d --name "$name-server" --network none --entrypoint node "$image" -e "$server" >/dev/null 2>>"$work/podman.log"

# As the restricted profile asks, in the server's network like the second container of a pod.
run() { # NAME ARGS...
  podman run -d --name "$1" --network "container:$name-server" --read-only --read-only-tmpfs=false \
    --cap-drop ALL --security-opt no-new-privileges --memory 128m --memory-swap 128m --pids-limit 64 \
    -v "$work/config:/etc/mcp-sidecar:ro" -v "$work/tls:/var/run/mcp-sidecar/tls:ro" -v "$work/ca:/var/run/mcp-sidecar/ca:ro" \
    --mount type=tmpfs,destination=/run/mcp-sidecar,tmpfs-size=1m,tmpfs-mode=1777 "$image" >/dev/null 2>>"$work/podman.log"
}
run "$name-sidecar"
probe='fetch("http://127.0.0.1:9090/readyz").then(r=>process.exit(r.ok?0:1),()=>process.exit(1))'
wait_for 'becomes ready' inside "$probe"
pass 'becomes ready'

check 'uid and gid' "$(inside 'const f=require("fs").readFileSync("/proc/1/status","utf8");console.log(/Uid:\t(\d+)/.exec(f)[1]+":"+/Gid:\t(\d+)/.exec(f)[1])')" 1001:1001
check 'effective capabilities' "$(inside 'console.log(/CapEff:\t(\w+)/.exec(require("fs").readFileSync("/proc/1/status","utf8"))[1])')" 0000000000000000
check 'no new privileges' "$(inside 'console.log(/NoNewPrivs:\t(\d)/.exec(require("fs").readFileSync("/proc/1/status","utf8"))[1])')" 1
for path in / /app /app/compile-cache /tmp /etc; do
  check "$path cannot be written" "$(inside "try{require('fs').writeFileSync('$path/x','');console.log('written')}catch(e){console.log(e.code)}")" EROFS
done
limit=$(inside 'console.log(Math.round(process.constrainedMemory()/1048576)+" "+Math.round(v8.getHeapStatistics().heap_size_limit/1048576))')
if [ "${limit%% *}" = 128 ] && [ "${limit##* }" -lt 128 ]; then pass "memory limit and heap limit, MiB: $limit"; else fail "memory limit and heap limit, MiB: $limit"; fi
check 'its malloc' "$(inside 'console.log(/jemalloc/.test(require("fs").readFileSync("/proc/1/maps","utf8")))')" true
check 'metrics' "$(inside 'fetch("http://127.0.0.1:9090/metrics").then(r=>r.text()).then(t=>console.log(/^mcp_sidecar_upstream_up \d$/m.test(t)))')" true
check 'process 1 is the program' "$(inside 'console.log(require("fs").readFileSync("/proc/1/cmdline","utf8").split("\0").slice(0,3).join(" "))')" '/usr/local/bin/node /usr/local/bin/mcp-sidecar run'

call='const fs=require("fs"),p="/dev/stdin",k=JSON.parse(fs.readFileSync(p));
const q=require("https").request({host:"127.0.0.1",port:8443,path:"/mcp",method:"POST",ca:k.ca,cert:k.cert,key:k.key,servername:"localhost",
headers:{host:"localhost","content-type":"application/json",accept:"application/json, text/event-stream","x-user-id":"alice"}},
r=>{let b="";r.on("data",c=>b+=c).on("end",()=>console.log(r.statusCode,b))});
q.on("error",e=>console.log(e.code));q.end(JSON.stringify({jsonrpc:"2.0",id:1,method:"tools/call",params:{name:k.tool,arguments:{}}}))'
keys() { node -e 'const f=require("fs"),[d,tool]=process.argv.slice(1);console.log(JSON.stringify({ca:f.readFileSync(d+"/ca.crt","utf8"),cert:f.readFileSync(d+"/gateway/tls.crt","utf8"),key:f.readFileSync(d+"/gateway/tls.key","utf8"),tool}))' "$work/pki" "$1"; }
answer=$(keys echo | podman exec -i "$name-sidecar" node -e "$call")
case $answer in *alice*) pass 'an allowed call over mTLS reaches the server as alice' ;; *) fail "an allowed call over mTLS: $answer" ;; esac
answer=$(keys rm | podman exec -i "$name-sidecar" node -e "$call")
case $answer in *'"code":403'*) pass 'another tool is refused' ;; *) fail "another tool is refused: $answer" ;; esac

if podman healthcheck run "$name-sidecar" >/dev/null 2>&1; then pass 'the health check passes'; else fail "the health check passes: $(sidecar mcp-sidecar health 2>&1 || true)"; fi
rss=$(inside 'console.log(Math.round(/VmRSS:\s+(\d+)/.exec(require("fs").readFileSync("/proc/1/status","utf8"))[1]/1024))')
printf '      resident set: %s MiB\n' "$rss"

podman stop -t 40 "$name-sidecar" >/dev/null 2>>"$work/podman.log"
check 'exit code after SIGTERM' "$(podman inspect --format '{{.State.ExitCode}}' "$name-sidecar")" 0
check 'killed for memory' "$(podman inspect --format '{{.State.OOMKilled}}' "$name-sidecar")" false

[ "$failures" = 0 ] || { echo "$failures failed"; exit 1; }
echo "the image is good"

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { imageMalloc } from '../../test/support/image-malloc.ts'
import { freePort, isInstalled, type Lab, type Pki, root, untilOpen } from '../lab.ts'
import { untilReady } from '../measure.ts'
import { sidecarConfig } from './sidecar-config.ts'

/** Something that terminates mTLS on loopback and answers calls, from the upstream or, the floor, by itself. */
export interface Peer {
  readonly name: string
  readonly port: number
  readonly pid: number
  /** How it can be told what it is. */
  readonly about: string
  readonly stop: () => Promise<void>
  /** Exec to ready, where it was measured, ms. */
  readonly readyMs?: number
}

export interface PeerSetting {
  readonly lab: Lab
  readonly pki: Pki
  readonly upstreamPort: number
  /** `name=path[ --node-flag…]` of builds of the sidecar; without any, `dist/` when it is there, the sources otherwise. */
  readonly builds: readonly string[]
}

export const PEERS = ['floor', 'bare', 'sidecar', 'nginx', 'nginx-lua', 'haproxy', 'caddy'] as const
export type PeerName = (typeof PEERS)[number]

/** Starts a peer; a string says why it cannot be. The sidecar may be several, one for each build that is compared. */
export async function startPeer(name: PeerName, setting: PeerSetting): Promise<Peer[] | string> {
  switch (name) {
    case 'floor':
      return [
        await startOwn('floor', [], `bare Node ${process.versions.node} https server that answers by itself`, setting),
      ]
    case 'bare': {
      const about = `Node ${process.versions.node} that forwards with our HTTP/1.1 client and checks nothing`
      return [await startOwn('bare', [String(setting.upstreamPort)], about, setting)]
    }
    case 'sidecar': {
      if (setting.builds.length === 0) return [await startSidecar(name, undefined, setting)]
      const peers: Peer[] = []
      for (const build of setting.builds) {
        const [label, ...rest] = build.split('=') as [string, ...string[]]
        const [entry, ...nodeArgs] = rest.join('=').split(' ') as [string, ...string[]]
        peers.push(await startSidecar(label, path.resolve(root, entry), setting, nodeArgs))
      }
      return peers
    }
    case 'nginx':
      if (!isInstalled('nginx')) return 'not installed (apt-get install nginx)'
      return [await startNginx(setting, false)]
    case 'nginx-lua':
      if (!isInstalled('nginx') || !existsSync(LUA_MODULE)) {
        return 'not installed (apt-get install libnginx-mod-http-lua lua-cjson)'
      }
      return [await startNginx(setting, true)]
    case 'haproxy':
      if (!isInstalled('haproxy')) return 'not installed (apt-get install haproxy)'
      return [await startHaproxy(setting)]
    case 'caddy':
      if (!isInstalled('caddy')) return 'not installed (apt-get install caddy)'
      return [await startCaddy(setting)]
  }
}

function defaultEntry(): string {
  const bundle = path.join(root, 'dist/mcp-sidecar.mjs')
  return existsSync(bundle) ? bundle : path.join(root, 'src/main.ts')
}

/** Starts one of the bench's own Node programs, the floor and what stands between it and the sidecar. */
async function startOwn(name: 'floor' | 'bare', more: string[], about: string, at: PeerSetting): Promise<Peer> {
  const { lab, pki } = at
  const port = await freePort()
  const files = [pki.ca, pki.serverCert, pki.serverKey]
  const child = await lab.node(`bench/peers/${name}.ts`, [String(port), ...files, ...more])
  return { name, port, pid: child.pid ?? 0, about, stop: () => lab.stop(child) }
}

/** Starts the sidecar with everything on; its audit lines go to a pipe that is read and dropped. */
export async function startSidecar(
  name: string,
  entry: string | undefined,
  { lab, pki, upstreamPort }: Pick<PeerSetting, 'lab' | 'pki' | 'upstreamPort'>,
  nodeArgs: readonly string[] = IMAGE_FLAGS,
): Promise<Peer> {
  const [port, admin] = [await freePort(), await freePort()]
  const dir = lab.dir(name)
  const file = path.join(dir, 'sidecar.yaml')
  const operationsSocket = path.join(dir, 'ops.sock')
  writeFileSync(file, sidecarConfig({ port, admin, upstreamPort, pki, operationsSocket }))
  const program = entry ?? defaultEntry()
  const from = performance.now()
  const child = lab.spawnPiped(process.execPath, [...nodeArgs, program, 'run', '--config', file], {
    NODE_COMPILE_CACHE: lab.dir('compile-cache'),
    ...imageMalloc(),
  })
  const readyMs = await untilReady(`http://127.0.0.1:${admin}/readyz`, from, () => child.exitCode !== null)
  const malloc = imageMalloc().LD_PRELOAD === undefined ? '' : ' jemalloc'
  const about = `${path.relative(root, program)} with everything on, Node ${process.versions.node} ${nodeArgs.join(' ')}${malloc}`
  return { name, port, pid: child.pid ?? 0, about, stop: () => lab.stop(child), readyMs }
}

/** What the image sets, for a container of 128 MiB. */
const IMAGE_FLAGS = ['--max-semi-space-size=4', '--max-old-space-size=64', '--v8-pool-size=1']

const LUA_MODULE = '/usr/lib/nginx/modules/ngx_http_lua_module.so'

async function startNginx({ lab, pki, upstreamPort }: PeerSetting, isLua: boolean): Promise<Peer> {
  const name = isLua ? 'nginx-lua' : 'nginx'
  const port = await freePort()
  const dir = lab.dir(name)
  const lua = path.join(root, 'bench/peers/same-work.lua')
  const modules = isLua ? `load_module /usr/lib/nginx/modules/ndk_http_module.so; load_module ${LUA_MODULE};` : ''
  const http = isLua
    ? `lua_shared_dict windows 16m; init_by_lua_block { work = dofile("${lua}") }
  log_format audit escape=none "$audit"; access_log /dev/stdout audit;`
    : 'access_log off;'
  const location = isLua
    ? `set $audit ""; lua_need_request_body on;
      access_by_lua_block { work.check() }
      log_by_lua_block { work.record() }`
    : ''
  const conf = path.join(dir, 'nginx.conf')
  writeFileSync(
    conf,
    `${modules}
worker_processes 1; daemon off; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 8192; }
http {
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f;
  uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  client_max_body_size 4m; client_body_buffer_size 4m;
  ${http}
  upstream mcp { server 127.0.0.1:${upstreamPort}; keepalive 64; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${pki.serverCert}; ssl_certificate_key ${pki.serverKey};
    ssl_client_certificate ${pki.ca}; ssl_verify_client on; ssl_protocols TLSv1.3;
    ssl_session_tickets off; ssl_session_cache off;
    keepalive_requests 100000000; keepalive_timeout 600s;
    location / {
      ${location}
      proxy_pass http://mcp; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`,
  )
  const child = lab.spawnPiped('nginx', ['-c', conf, '-e', `${dir}/error.log`])
  await untilOpen(port)
  const about = isLua
    ? 'nginx 1 worker: mTLS, JSON decode, tool rules, two windows, redacted JSON audit line (Lua)'
    : 'nginx 1 worker: plain mTLS proxy'
  return { name, port, pid: child.pid ?? 0, about, stop: () => lab.stop(child) }
}

async function startHaproxy({ lab, pki, upstreamPort }: PeerSetting): Promise<Peer> {
  const port = await freePort()
  const dir = lab.dir('haproxy')
  const pem = path.join(dir, 'server.pem')
  writeFileSync(pem, readFileSync(pki.serverCert, 'utf8') + readFileSync(pki.serverKey, 'utf8'), { mode: 0o600 })
  const conf = path.join(dir, 'haproxy.cfg')
  writeFileSync(
    conf,
    `global
  nbthread 1
  maxconn 8192
  tune.ssl.cachesize 0
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always
frontend mtls
  bind 127.0.0.1:${port} ssl crt ${pem} ca-file ${pki.ca} verify required ssl-min-ver TLSv1.3 no-tls-tickets alpn h2,http/1.1
  default_backend mcp
backend mcp
  server mcp 127.0.0.1:${upstreamPort}
`,
  )
  const child = lab.spawn('haproxy', ['-f', conf, '-db'])
  await untilOpen(port)
  return {
    name: 'haproxy',
    port,
    pid: child.pid ?? 0,
    about: 'haproxy 1 thread: plain mTLS proxy',
    stop: () => lab.stop(child),
  }
}

async function startCaddy({ lab, pki, upstreamPort }: PeerSetting): Promise<Peer> {
  const port = await freePort()
  const dir = lab.dir('caddy')
  const conf = path.join(dir, 'Caddyfile')
  writeFileSync(
    conf,
    `{
  admin off
  auto_https off
  default_bind 127.0.0.1
  servers {
    protocols h1 h2
    timeouts {
      idle 1h
    }
  }
}
https://localhost:${port} {
  tls ${pki.serverCert} ${pki.serverKey} {
    protocols tls1.3
    client_auth {
      mode require_and_verify
      trusted_ca_cert_file ${pki.ca}
    }
  }
  reverse_proxy 127.0.0.1:${upstreamPort} {
    flush_interval -1
  }
}
`,
  )
  const child = lab.spawn('caddy', ['run', '--config', conf, '--adapter', 'caddyfile'], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, GOMAXPROCS: '1', HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
  })
  await untilOpen(port)
  return {
    name: 'caddy',
    port,
    pid: child.pid ?? 0,
    about: 'caddy (GOMAXPROCS=1): plain mTLS proxy',
    stop: () => lab.stop(child),
  }
}

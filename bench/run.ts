import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { mintDevPki } from '../src/edge/pki.ts'
import type { LoadOptions, LoadResult } from './load.ts'
import { sidecarConfig } from './peers/sidecar-config.ts'

/**
 * CPU microseconds (user + system, of all processes of the peer) per proxied `tools/call`, in alternating rounds of one
 * run, so that what else the machine does falls on all of them alike. Only the ratios mean anything on another machine.
 *
 *   node bench/run.ts [--rounds 5] [--seconds 3] [--connections 16] [--bytes 200] [--only floor,sidecar,nginx]
 */
const options = readArguments(process.argv.slice(2))
const root = path.resolve(import.meta.dirname, '..')
const work = mkdtempSync(path.join(os.tmpdir(), 'mcp-sidecar-bench-'))
const children: ChildProcess[] = []

interface Peer {
  name: string
  port: number
  pid: number
  /** Extra facts to print. */
  note?: string
}

interface Sample extends LoadResult {
  cpuMicros: number
}

try {
  await main()
} finally {
  for (const child of children) child.kill('SIGTERM')
  rmSync(work, { recursive: true, force: true })
}

async function main(): Promise<void> {
  const pkiDir = path.join(work, 'pki')
  await mintDevPki(pkiDir)
  const pki = {
    ca: path.join(pkiDir, 'ca.crt'),
    serverCert: path.join(pkiDir, 'server/tls.crt'),
    serverKey: path.join(pkiDir, 'server/tls.key'),
    cert: path.join(pkiDir, 'gateway/tls.crt'),
    key: path.join(pkiDir, 'gateway/tls.key'),
  }
  const upstreamPort = await freePort()
  await startNode('bench/peers/upstream.ts', [String(upstreamPort)])

  const peers: Peer[] = []
  if (wanted('floor')) {
    const port = await freePort()
    const child = await startNode('bench/peers/floor.ts', [String(port), pki.ca, pki.serverCert, pki.serverKey])
    peers.push({ name: 'floor', port, pid: child.pid ?? 0 })
  }
  if (wanted('sidecar')) {
    const port = await freePort()
    const admin = await freePort()
    const file = path.join(work, 'sidecar.yaml')
    writeFileSync(
      file,
      sidecarConfig({ port, admin, upstreamPort, pki, operationsSocket: path.join(work, 'ops.sock') }),
    )
    const entry = existsSync(path.join(root, 'dist/mcp-sidecar.mjs')) ? 'dist/mcp-sidecar.mjs' : 'src/main.ts'
    const child = spawn(process.execPath, [...(process.env["BENCH_NODE_ARGS"]?.split(" ") ?? []), entry, 'run', '--config', file], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.push(child)
    child.stdout?.resume()
    await untilReady(admin)
    peers.push({ name: 'sidecar', port, pid: child.pid ?? 0, note: entry })
  }
  if (wanted('nginx')) {
    if (installed('nginx')) peers.push(await startNginx('nginx', pki, upstreamPort))
    else say('nginx is not installed: left out (apt-get install nginx)')
  }

  const samples = new Map<string, Sample[]>(peers.map(peer => [peer.name, []]))
  for (let round = 0; round < options.rounds; round++) {
    for (const peer of peers) samples.get(peer.name)?.push(await measure(peer, pki))
  }
  report(peers, samples)
}

async function measure(peer: Peer, pki: { ca: string; cert: string; key: string }): Promise<Sample> {
  const load: LoadOptions = {
    port: peer.port,
    connections: options.connections,
    seconds: options.seconds,
    bodyBytes: options.bytes,
    pki: { ca: pki.ca, cert: pki.cert, key: pki.key },
    servername: 'localhost',
    headers: {
      'X-User-ID': 'ada@acme.example',
      'X-Org-ID': 'acme',
      'X-User-Scopes': 'mcp.read mcp.write',
      'MCP-Protocol-Version': '2025-11-25',
    },
  }
  const child = spawn(process.execPath, ['bench/load.ts', JSON.stringify(load)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let before = 0
  let cpu = 0
  let text = ''
  for await (const chunk of child.stdout) {
    text += String(chunk)
    if (before === 0 && text.includes('measuring\n')) before = cpuMicros(peer.pid)
    if (cpu === 0 && text.includes('measured\n')) cpu = cpuMicros(peer.pid) - before
  }
  const result = JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as LoadResult
  return { ...result, cpuMicros: cpu / Math.max(1, result.requests) }
}

function report(peers: Peer[], samples: Map<string, Sample[]>): void {
  const floor = median(samples.get('floor')?.map(sample => sample.cpuMicros) ?? [])
  say(
    `\n${options.rounds} alternating rounds of ${options.seconds} s, ${options.connections} connections, ${options.bytes}-byte calls, Node ${process.versions.node}\n`,
  )
  say(
    `${pad('peer', 12)}${pad('CPU µs/call', 14)}${pad('× floor', 10)}${pad('calls/s', 10)}${pad('p50 µs', 9)}${pad('p99 µs', 9)}errors`,
  )
  for (const peer of peers) {
    const own = samples.get(peer.name) ?? []
    const cpu = median(own.map(sample => sample.cpuMicros))
    const rate = median(own.map(sample => sample.requests / sample.seconds))
    const errors = own.reduce((sum, sample) => sum + sample.errors, 0)
    say(
      `${pad(peer.name, 12)}${pad(cpu.toFixed(1), 14)}${pad(floor > 0 ? (cpu / floor).toFixed(2) : '-', 10)}${pad(rate.toFixed(0), 10)}` +
        `${pad(String(median(own.map(sample => sample.p50))), 9)}${pad(String(median(own.map(sample => sample.p99))), 9)}${errors}${peer.note === undefined ? '' : `   ${peer.note}`}`,
    )
  }
}

async function startNginx(
  name: string,
  pki: { ca: string; serverCert: string; serverKey: string },
  upstreamPort: number,
): Promise<Peer> {
  const port = await freePort()
  const dir = path.join(work, name)
  execFileSync('mkdir', ['-p', dir])
  const conf = path.join(dir, 'nginx.conf')
  writeFileSync(
    conf,
    `worker_processes 1; daemon off; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
http {
  access_log off; client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  upstream mcp { server 127.0.0.1:${upstreamPort}; keepalive 64; }
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${pki.serverCert}; ssl_certificate_key ${pki.serverKey};
    ssl_client_certificate ${pki.ca}; ssl_verify_client on; ssl_protocols TLSv1.3;
    keepalive_requests 100000000;
    location / { proxy_pass http://mcp; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
`,
  )
  const child = spawn('nginx', ['-c', conf, '-e', `${dir}/error.log`], { stdio: 'inherit' })
  children.push(child)
  await untilOpen(port)
  return { name, port, pid: child.pid ?? 0 }
}

async function startNode(script: string, args: string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [script, ...args], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', code => reject(new Error(`${script} ended with ${code}`)))
  })
  return child
}

/** CPU time of a process and its children, in µs (`utime + stime`, fields 14 and 15 of /proc/PID/stat). */
function cpuMicros(pid: number): number {
  let ticks = 0
  for (const id of [pid, ...childrenOf(pid)]) {
    try {
      const stat = readFileSync(`/proc/${id}/stat`, 'utf8')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      ticks += Number(fields[11]) + Number(fields[12])
    } catch {
      // Ended meanwhile.
    }
  }
  return ticks * 10_000
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter(entry => /^[0-9]+$/.test(entry))
    .map(Number)
    .filter(id => {
      try {
        const stat = readFileSync(`/proc/${id}/stat`, 'utf8')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid
      } catch {
        return false
      }
    })
}

function installed(program: string): boolean {
  return ['/usr/sbin', '/usr/bin', '/usr/local/bin'].some(dir => existsSync(path.join(dir, program)))
}

function wanted(name: string): boolean {
  return options.only === undefined || options.only.includes(name)
}

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

async function untilOpen(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const open = await new Promise<boolean>(resolve => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(true))
      socket.once('error', () => resolve(false))
      socket.once('close', () => resolve(false))
      setTimeout(() => socket.destroy(), 500).unref()
    })
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`nothing listens on port ${port}`)
}

async function untilReady(adminPort: number): Promise<void> {
  await untilOpen(adminPort)
  for (let attempt = 0; attempt < 200; attempt++) {
    const response = await fetch(`http://127.0.0.1:${adminPort}/readyz`).catch(() => undefined)
    if (response?.ok === true) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('the sidecar did not become ready')
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

function pad(text: string, width: number): string {
  return text.padEnd(width)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function readArguments(argv: string[]): {
  rounds: number
  seconds: number
  connections: number
  bytes: number
  only: string[] | undefined
} {
  const value = (name: string, fallback: number): number => {
    const at = argv.indexOf(`--${name}`)
    return at < 0 ? fallback : Number(argv[at + 1])
  }
  const only = argv.indexOf('--only')
  return {
    rounds: value('rounds', 5),
    seconds: value('seconds', 3),
    connections: value('connections', 16),
    bytes: value('bytes', 200),
    only: only < 0 ? undefined : (argv[only + 1] ?? '').split(','),
  }
}

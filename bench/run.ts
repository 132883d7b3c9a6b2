import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { cpuMicros, freePort, Lab, median, type Pki, root } from './lab.ts'
import type { LoadOptions, LoadResult } from './load.ts'
import { PEERS, type Peer, type PeerName, startPeer } from './peers/start.ts'

/**
 * CPU microseconds (user + system, of all processes of the peer) per proxied `tools/call`, in alternating rounds of one
 * run, so that what else the machine does falls on all of them alike. Only the ratios mean anything on another machine.
 */
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    connections: { type: 'string', default: '16' },
    bytes: { type: 'string', default: '200' },
    http2: { type: 'boolean', default: false },
    only: { type: 'string', default: PEERS.join(',') },
    build: { type: 'string', multiple: true, default: [] },
    warmup: { type: 'string', default: '20000' },
  },
})

const lab = new Lab()
try {
  const pki = await lab.mintPki()
  const upstreamPort = await freePort()
  await lab.node('bench/peers/upstream.ts', [String(upstreamPort)])
  const peers: Peer[] = []
  for (const name of values.only.split(',') as PeerName[]) {
    const started = await startPeer(name, { lab, pki, upstreamPort, builds: values.build })
    if (typeof started === 'string') say(`${name} is left out: ${started}`)
    else peers.push(...started)
  }
  const samples = new Map<Peer, Sample[]>(peers.map(peer => [peer, []]))
  for (const peer of peers) await measure(peer, pki, Number(values.warmup))
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const peer of peers) samples.get(peer)?.push(await measure(peer, pki, 0))
  }
  for (const [peer, own] of samples) {
    const floor = median(samples.get(peers[0] as Peer)?.map(({ cpu }) => cpu) ?? [])
    const cpu = median(own.map(sample => sample.cpu))
    const ratios = own.map((sample, i) => sample.cpu / (samples.get(peers[0] as Peer)?.[i]?.cpu ?? 1))
    say(
      `${peer.name.padEnd(12)} ${cpu.toFixed(1).padStart(7)} µs  ${(cpu / floor).toFixed(2)} ×  (paired ${median(ratios).toFixed(2)} ×)  ` +
        `${median(own.map(s => s.requests / s.seconds))
          .toFixed(0)
          .padStart(
            6,
          )}/s  p50 ${median(own.map(s => s.p50)).toFixed(0)}  p99 ${median(own.map(s => s.p99)).toFixed(0)}  errors ${own.reduce((n, s) => n + s.errors, 0)}`,
    )
  }
} finally {
  await lab.close()
}

interface Sample extends LoadResult {
  readonly cpu: number
}

async function measure(peer: Peer, pki: Pki, warmupCalls: number): Promise<Sample> {
  const load: LoadOptions = {
    port: peer.port,
    connections: Number(values.connections),
    seconds: warmupCalls > 0 ? 0.1 : Number(values.seconds),
    bodyBytes: Number(values.bytes),
    isHttp2: values.http2,
    pki: { ca: pki.ca, cert: pki.cert, key: pki.key },
    headers: {
      'X-User-ID': 'ada@acme.example',
      'X-Org-ID': 'acme',
      'X-User-Scopes': 'mcp.read mcp.write',
      'MCP-Protocol-Version': '2025-11-25',
    },
    warmupMs: 300,
    warmupCalls,
  }
  const child = lab.spawn(process.execPath, ['bench/load.ts', JSON.stringify(load)], { cwd: root })
  let before = 0
  let cpu = 0
  let text = ''
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk)
    if (before === 0 && text.includes('measuring\n')) before = cpuMicros(peer.pid)
    if (cpu === 0 && text.includes('measured\n')) cpu = cpuMicros(peer.pid) - before
  }
  const result = JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as LoadResult
  return { ...result, cpu: cpu / Math.max(1, result.requests) }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
void performance

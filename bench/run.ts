import { parseArgs } from 'node:util'
import { anonymousKib, freePort, Lab, median, type Pki, sleep } from './lab.ts'
import { type CallSample, measureCalls, measureHandshakes, measureStreams } from './measure.ts'
import { PEERS, type Peer, type PeerName, type PeerSetting, startPeer, startSidecar } from './peers/start.ts'
import { type Bar, type Table, textOf, writeReport } from './report.ts'

/**
 * The sidecar with everything on beside its peers, in alternating rounds of one run: CPU of one call by default, and
 * with `--all` latency at half of capacity, handshakes, memory, idle streams and the time from exec to ready as well.
 * bench/README.md says how to read what it prints and writes.
 */
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '16' },
    bytes: { type: 'string', default: '200' },
    http2: { type: 'boolean', default: false },
    only: { type: 'string', default: PEERS.join(',') },
    build: { type: 'string', multiple: true, default: [] },
    warmup: { type: 'string', default: '50000' },
    all: { type: 'boolean', default: false },
    latency: { type: 'boolean', default: false },
    linear: { type: 'boolean', default: false },
    handshakes: { type: 'boolean', default: false },
    memory: { type: 'boolean', default: false },
    streams: { type: 'string', default: '1000' },
    ready: { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const seconds = Number(values.seconds)
const connections = Number(values.connections)
const warmup = Number(values.warmup)

/** Of each connection, before anything is measured. */
const CALLS_TO_SETTLE = 10
/** Peers and protocols that V8 has compiled. */
const warm = new Set<string>()

const lab = new Lab()
try {
  await main()
} finally {
  await lab.close()
}

async function main(): Promise<void> {
  const pki = await lab.mintPki()
  const upstreamPort = await freePort()
  await lab.node('bench/peers/upstream.ts', [String(upstreamPort)])
  const setting: PeerSetting = { lab, pki, upstreamPort, builds: values.build }
  const peers: Peer[] = []
  for (const name of values.only.split(',') as PeerName[]) {
    const started = await startPeer(name, setting)
    if (typeof started === 'string') say(`${name} is left out: ${started}`)
    else peers.push(...started)
  }
  const tables: Table[] = []
  const show = (table: Table): void => {
    tables.push(table)
    say(textOf(table))
  }

  let bars: Bar[] = []
  let capacity = 0
  for (const isHttp2 of values.all ? [false, true] : [values.http2]) {
    for (const bytes of values.bytes.split(',').map(sizeOf)) {
      const samples = await inTurns(peers, pki, { connections, seconds, bodyBytes: bytes, isHttp2 })
      const about = `${bytes} bytes each way, ${isHttp2 ? 'HTTP/2' : 'HTTP/1.1'}, ${connections} connections, ${rounds} rounds of ${seconds} s, medians`
      show(cpuTable(`CPU of one call: ${about}`, peers, samples))
      if (bars.length === 0)
        bars = peers.map(peer => ({ name: peer.name, value: median(samplesOf(samples, peer, 'cpu')) }))
      if (capacity === 0) capacity = capacityOf(samples)
    }
  }
  if (values.all || values.latency) show(await latencyTable(peers, pki, capacity / 2))
  if (values.all || values.linear) show(await linearTable(peers, pki))
  if (values.all || values.handshakes) show(await handshakeTable(peers, pki))
  if (values.all || values.memory) show(await memoryTable(pki, setting))
  if (values.all || values.ready) show(await readyTable(setting))
  say(`\nwritten to ${writeReport(tables, bars, `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim())}`)
}

type Samples = ReadonlyMap<Peer, readonly CallSample[]>

async function inTurns(peers: readonly Peer[], pki: Pki, load: Parameters<typeof measureCalls>[3]): Promise<Samples> {
  const samples = new Map<Peer, CallSample[]>(peers.map(peer => [peer, []]))
  for (const peer of peers) {
    // Once for each protocol; what is new about other bodies and connections is little.
    const protocol = `${peer.name} ${load.isHttp2}`
    const warmupCalls = warm.has(protocol) ? Math.ceil(warmup / 20) : warmup
    warm.add(protocol)
    await measureCalls(lab, peer, pki, { ...load, seconds: 0.1, warmupCalls })
  }
  // A call is measured, not what a thousand handshakes have left to clear away.
  const settled = { ...load, warmupCalls: load.connections * CALLS_TO_SETTLE }
  for (let round = 0; round < rounds; round++) {
    for (const peer of peers) samples.get(peer)?.push(await measureCalls(lab, peer, pki, settled))
  }
  return samples
}

function cpuTable(title: string, peers: readonly Peer[], samples: Samples): Table {
  const cpuOf = (name: string): number => {
    const peer = peers.find(one => one.name === name)
    return peer === undefined ? Number.NaN : median(samplesOf(samples, peer, 'cpu'))
  }
  const rows = peers.map(peer => {
    const own = samples.get(peer) ?? []
    const cpu = median(samplesOf(samples, peer, 'cpu'))
    return [
      peer.name,
      cpu.toFixed(1),
      ratio(cpu, cpuOf('floor')),
      ratio(cpu, cpuOf('nginx-lua')),
      median(own.map(sample => sample.requests / sample.seconds)).toFixed(0),
      String(own.reduce((sum, sample) => sum + sample.errors, 0)),
      peer.about,
    ]
  })
  return {
    title,
    about: 'User and system time of all processes of the peer, over the calls that were answered.',
    head: ['peer', 'CPU µs', '× floor', '× nginx-lua', 'calls/s', 'errors', 'what it is'],
    rows,
  }
}

/** Calls a second of the slowest proxy; everybody is then asked for half of that. */
function capacityOf(samples: Samples): number {
  const rates = [...samples].map(([, own]) => median(own.map(sample => sample.requests / sample.seconds)))
  return Math.min(...rates)
}

async function latencyTable(peers: readonly Peer[], pki: Pki, rate: number): Promise<Table> {
  const load = { connections, seconds: Math.max(3, seconds), bodyBytes: 200, isHttp2: false, rate }
  const samples = new Map<Peer, CallSample[]>(peers.map(peer => [peer, []]))
  for (let round = 0; round < rounds; round++) {
    for (const peer of peers) samples.get(peer)?.push(await measureCalls(lab, peer, pki, load))
  }
  const of = (peer: Peer, field: 'p50' | 'p99' | 'p999'): number => median(samplesOf(samples, peer, field))
  const floor = peers.find(peer => peer.name === 'floor')
  const fields = ['p50', 'p99', 'p999'] as const
  return {
    title: `Latency at ${rate.toFixed(0)} calls/s, half of what the slowest takes`,
    about: 'In µs, and what is added to the floor, medians of the rounds.',
    head: ['peer', 'p50', 'p99', 'p99.9', 'added p50', 'added p99', 'added p99.9'],
    rows: peers.map(peer => [
      peer.name,
      ...fields.map(field => of(peer, field).toFixed(0)),
      ...fields.map(field => (floor === undefined ? '-' : (of(peer, field) - of(floor, field)).toFixed(0))),
    ]),
  }
}

/** What a call costs with sixty times the connections, and with ten times the bytes. */
async function linearTable(peers: readonly Peer[], pki: Pki): Promise<Table> {
  const few = await inTurns(peers, pki, { connections: 16, seconds, bodyBytes: 200, isHttp2: false })
  const many = await inTurns(peers, pki, { connections: 1000, seconds, bodyBytes: 200, isHttp2: false })
  const small = await inTurns(peers, pki, { connections, seconds, bodyBytes: 16 * 1024, isHttp2: false })
  const large = await inTurns(peers, pki, { connections, seconds, bodyBytes: 160 * 1024, isHttp2: false })
  return {
    title: 'Is the cost linear? CPU of one call, HTTP/1.1',
    about: 'µs, and how many times the cost of the column before: of 16 connections, of a tenth of the bytes.',
    head: ['peer', '16 connections', '1,000', 'times', '16 KiB', '160 KiB', 'times'],
    rows: peers.map(peer => {
      const [a, b, c, d] = [few, many, small, large].map(samples => median(samplesOf(samples, peer, 'cpu')))
      const of = (value: number | undefined): string => (value ?? Number.NaN).toFixed(1)
      return [peer.name, of(a), of(b), ratio(b ?? 0, a ?? 0), of(c), of(d), ratio(d ?? 0, c ?? 0)]
    }),
  }
}

async function handshakeTable(peers: readonly Peer[], pki: Pki): Promise<Table> {
  const rows: string[][] = []
  for (const peer of peers) {
    const { perSecond, cpu } = await measureHandshakes(lab, peer, pki, Math.max(2, seconds))
    rows.push([peer.name, perSecond.toFixed(0), cpu.toFixed(0)])
  }
  return {
    title: 'Handshakes: TLS 1.3, full, with a client certificate, 8 at a time',
    about: 'The rate is as much the generator’s as the peer’s; the CPU is the peer’s alone.',
    head: ['peer', 'handshakes/s', 'CPU µs each'],
    rows,
  }
}

async function memoryTable(pki: Pki, setting: PeerSetting): Promise<Table> {
  const count = Number(values.streams)
  const rows: string[][] = []
  for (const name of values.only.split(',') as PeerName[]) {
    // Each figure is of a process of its own: what one experiment has freed, the next would take for nothing.
    const idle = await inFreshPeer(name, setting, async peer => {
      await sleep(3000)
      return anonymousKib(peer.pid)
    })
    if (idle === undefined) continue
    const most = await inFreshPeer(name, setting, peer => mostUnderLoad(peer, pki))
    const row = [name, mib(idle), mib(most ?? 0)]
    for (const isHttp2 of [false, true]) {
      const streams = await inFreshPeer(name, setting, async peer => {
        await measureCalls(lab, peer, pki, { connections: 16, seconds: 1, bodyBytes: 200, isHttp2 })
        return measureStreams(lab, peer, pki, count, isHttp2)
      })
      row.push(name === 'floor' || name === 'bare' ? '-' : `${streams?.kibEach.toFixed(0)} (${streams?.open} open)`)
    }
    rows.push(row)
  }
  return {
    title: 'Memory: RssAnon of all processes of the peer',
    about: `Idle is before the first call; load is the most seen in 10 s with 64 connections; then KiB for each of ${count} idle event streams, on connections of their own and a hundred on each HTTP/2 connection.`,
    head: ['peer', 'idle MiB', 'load MiB', 'KiB a stream, HTTP/1.1', 'KiB a stream, HTTP/2'],
    rows,
  }
}

async function inFreshPeer<T>(
  name: PeerName,
  setting: PeerSetting,
  measure: (peer: Peer) => Promise<T>,
): Promise<T | undefined> {
  const started = await startPeer(name, setting)
  if (typeof started === 'string') return undefined
  const [peer, ...others] = started
  try {
    return peer === undefined ? undefined : await measure(peer)
  } finally {
    for (const one of [peer, ...others]) await one?.stop()
  }
}

async function mostUnderLoad(peer: Peer, pki: Pki): Promise<number> {
  let most = 0
  const watch = setInterval(() => {
    most = Math.max(most, anonymousKib(peer.pid))
  }, 100)
  await measureCalls(lab, peer, pki, { connections: 64, seconds: 10, bodyBytes: 200, isHttp2: false })
  clearInterval(watch)
  return most
}

async function readyTable(setting: PeerSetting): Promise<Table> {
  const times: number[] = []
  let about = ''
  for (let i = 0; i < 5; i++) {
    const peer = await startSidecar(`ready-${i}`, undefined, setting)
    times.push(peer.readyMs ?? Number.NaN)
    about = peer.about
    await peer.stop()
  }
  return {
    title: 'Exec to ready',
    about: `From the start of the process to the first 200 of /readyz, five starts, ms: ${about}.`,
    head: ['median', 'all'],
    rows: [[median(times).toFixed(0), times.map(ms => ms.toFixed(0)).join(' ')]],
  }
}

function samplesOf(samples: Samples, peer: Peer, field: keyof CallSample): number[] {
  return (samples.get(peer) ?? []).map(sample => sample[field])
}

function ratio(value: number, to: number): string {
  return Number.isNaN(to) ? '-' : (value / to).toFixed(2)
}

function mib(kib: number): string {
  return (kib / 1024).toFixed(1)
}

/** `16KiB` as bytes. */
function sizeOf(text: string): number {
  const unit = text.endsWith('KiB') ? 1024 : text.endsWith('MiB') ? 1024 * 1024 : 1
  return Number.parseInt(text, 10) * unit
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

import { parseArgs } from 'node:util'
import { anonymousKib, freePort, keepCoresAwake, Lab, machineTicks, median, type Pki, sleep } from './lab.ts'
import type { TurnOrder } from './load.ts'
import { measureHandshakes, measureStreams } from './measure.ts'
import { PEERS, type Peer, type PeerName, type PeerSetting, startPeer, startSidecar } from './peers/start.ts'
import { type Bar, type Table, textOf, writeReport } from './report.ts'
import { inTurns, type Load, LoadEnded, type Runner, type Samples, startRunner, warmUp } from './turns.ts'

/**
 * The sidecar with everything on beside its peers, in alternating turns of one run: CPU of one call by default, and
 * with `--all` latency at half of capacity, handshakes, memory, idle streams and the time from exec to ready as well.
 * bench/README.md says how to read what it prints and writes.
 */
const { values } = parseArgs({
  options: {
    turns: { type: 'string', default: '24' },
    ms: { type: 'string', default: '250' },
    connections: { type: 'string', default: '16' },
    bytes: { type: 'string', default: '200' },
    http2: { type: 'boolean', default: false },
    only: { type: 'string', default: PEERS.join(',') },
    build: { type: 'string', multiple: true, default: [] },
    warmup: { type: 'string', default: '50000' },
    all: { type: 'boolean', default: false },
    latency: { type: 'boolean', default: false },
    rate: { type: 'string' },
    linear: { type: 'boolean', default: false },
    handshakes: { type: 'boolean', default: false },
    memory: { type: 'boolean', default: false },
    streams: { type: 'string', default: '1000' },
    ready: { type: 'boolean', default: false },
  },
})
const turns = Number(values.turns)
const ms = Number(values.ms)
const connections = Number(values.connections)

/** So long a process that has slept takes, at most, until its code and data are near the core again. */
const LEAD_MS = 100

/** What V8 has compiled for each protocol; another size of bodies and more connections bring little that is new. */
const warm = new Set<boolean>()

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
  const before = machineTicks()
  const tables: Table[] = []
  const show = (table: Table): void => {
    tables.push(table)
    say(textOf(table))
  }

  let bars: Bar[] = []
  let capacity = 0
  for (const isHttp2 of values.all ? [false, true] : [values.http2]) {
    for (const bytes of values.bytes.split(',').map(sizeOf)) {
      const runners = await runnersOf(peers, pki, { connections, bodyBytes: bytes, isHttp2 })
      const samples = await measure(runners)
      const about = `${bytes} bytes each way, ${isHttp2 ? 'HTTP/2' : 'HTTP/1.1'}, ${connections} connections`
      show(cpuTable(`CPU of one call: ${about}`, runners, samples))
      if (bars.length === 0) bars = runners.map(one => ({ name: one.peer.name, value: samples.median(one, 'cpu') }))
      if (capacity === 0) capacity = Math.min(...runners.map(one => samples.callsPerSecond(one)))
    }
  }
  const asked: [boolean, (peers: readonly Peer[]) => Promise<Table>][] = [
    [values.latency, those => latencyTable(those, pki, Number(values.rate ?? capacity / 2))],
    [values.linear, those => linearTable(those, pki)],
    [values.handshakes, those => handshakeTable(those, pki)],
    [values.memory, () => memoryTable(pki, setting)],
    [values.ready, () => readyTable(setting)],
  ]
  for (const [isAsked, table] of asked) {
    if (!values.all && !isAsked) continue
    show(await withoutThoseWhoClose(peers, table))
  }
  const command = `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim()
  say(`\nwritten to ${writeReport(tables, bars, { command, stolenShare: stolenSince(before) })}`)
}

/** The table of all peers, or of those who keep their connections: Caddy has closed some of a thousand that all ask. */
async function withoutThoseWhoClose(
  peers: readonly Peer[],
  table: (peers: readonly Peer[]) => Promise<Table>,
): Promise<Table> {
  try {
    return await table(peers)
  } catch (error) {
    if (!(error instanceof LoadEnded) || peers.length === 1) throw error
    say(`\n${error.peer.name} has closed a connection, and the next table is without it`)
    const made = await withoutThoseWhoClose(
      peers.filter(peer => peer !== error.peer),
      table,
    )
    return { ...made, about: `${made.about} Without ${error.peer.name}, which closed a connection.` }
  }
}

/** The share of the machine's CPU time that the hypervisor gave to others. */
function stolenSince(before: ReturnType<typeof machineTicks>): number {
  const now = machineTicks()
  return (now.stolen - before.stolen) / Math.max(1, now.all - before.all)
}

/** A generator for each peer, its connections open and what they will ask of V8 compiled. */
async function runnersOf(peers: readonly Peer[], pki: Pki, load: Load): Promise<Runner[]> {
  const runners = await Promise.all(peers.map(peer => startRunner(lab, peer, pki, load)))
  const calls = Number(values.warmup)
  await warmUp(runners, warm.has(load.isHttp2) ? Math.max(calls / 20, load.connections * 10) : calls)
  warm.add(load.isHttp2)
  return runners
}

/** Takes turns, and ends the generators. */
async function measure(runners: readonly Runner[], order: TurnOrder = { ms }): Promise<Samples> {
  const samples = await inTurns(runners, turns, order)
  await Promise.all(runners.map(runner => runner.stop()))
  return samples
}

function cpuTable(title: string, runners: readonly Runner[], samples: Samples): Table {
  const others = ['floor', 'nginx-lua', ...buildNames().slice(0, 1)]
  return {
    title,
    about: `User and system time of all processes of the peer, over the calls that were answered; medians of ${turns} turns of ${ms} ms, and of the turns’ ratios.`,
    head: ['peer', 'CPU µs', ...others.map(name => `× ${name}`), 'calls/s', 'errors', 'what it is'],
    rows: runners.map(one => [
      one.peer.name,
      samples.median(one, 'cpu').toFixed(1),
      ...others.map(name => ratio(samples.ratio(one, named(runners, name), 'cpu'))),
      samples.callsPerSecond(one).toFixed(0),
      String(samples.errors(one)),
      one.peer.about,
    ]),
  }
}

async function latencyTable(peers: readonly Peer[], pki: Pki, rate: number): Promise<Table> {
  const runners = await runnersOf(peers, pki, { connections, bodyBytes: 200, isHttp2: false })
  const awake = keepCoresAwake()
  // Closed also when a peer ends the turns: the tables behind this one are of cores that sleep as they like.
  const samples = await measure(runners, { ms: 2 * ms, rate, leadMs: LEAD_MS }).finally(() => awake?.close())
  const floor = named(runners, 'floor')
  const fields = ['p50', 'p99', 'p999'] as const
  return {
    title: `Latency at ${rate.toFixed(0)} calls/s${values.rate === undefined ? ', half of what the slowest takes' : ''}`,
    about: `In µs, and what is added to the floor: medians of ${turns} turns of ${2 * ms} ms, each after ${LEAD_MS} ms that do not count, and of the turns’ differences. ${awake === undefined ? 'The cores may go to sleep between calls' : 'The cores are kept awake'}. Last, the p99 of those turns alone from which the hypervisor took no CPU time, and their number.`,
    head: ['peer', 'p50', 'p99', 'p99.9', 'added p50', 'added p99', 'added p99.9', 'p99 undisturbed'],
    rows: runners.map(one => [
      one.peer.name,
      ...fields.map(field => samples.median(one, field).toFixed(0)),
      ...fields.map(field => (floor === undefined ? '-' : samples.added(one, floor, field).toFixed(0))),
      undisturbedP99(samples, one),
    ]),
  }
}

function undisturbedP99(samples: Samples, runner: Runner): string {
  const { median, turns } = samples.undisturbed(runner, 'p99')
  return turns === 0 ? '-' : `${median.toFixed(0)} (${turns})`
}

/** What a call costs with sixty times the connections, and with ten times the bytes. */
async function linearTable(peers: readonly Peer[], pki: Pki): Promise<Table> {
  const connected = await beside(peers, pki, [16, 200], [1000, 200])
  const sized = await beside(peers, pki, [16, 16 * 1024], [16, 160 * 1024])
  return {
    title: 'Is the cost linear? CPU of one call, HTTP/1.1',
    about: 'µs, and how many times the cost of the column before: of 16 connections, of a tenth of the bytes.',
    head: ['peer', '16 connections', '1,000', 'times', '16 KiB', '160 KiB', 'times'],
    rows: peers.map((peer, i) => [peer.name, ...(connected[i] ?? []), ...(sized[i] ?? [])]),
  }
}

/** For each peer the cost of two loads, [connections, bytes] each, that take turns, and their ratio. */
async function beside(
  peers: readonly Peer[],
  pki: Pki,
  ...loads: readonly [readonly [number, number], readonly [number, number]]
): Promise<string[][]> {
  const [less, more] = (await Promise.all(
    loads.map(([count, bodyBytes]) => runnersOf(peers, pki, { connections: count, bodyBytes, isHttp2: false })),
  )) as [Runner[], Runner[]]
  const samples = await measure([...less, ...more])
  return less.map((one, i) => {
    const other = more[i] as Runner
    const costs = [one, other].map(runner => samples.median(runner, 'cpu').toFixed(1))
    return [...costs, ratio(samples.ratio(other, one, 'cpu'))]
  })
}

async function handshakeTable(peers: readonly Peer[], pki: Pki): Promise<Table> {
  const rows: string[][] = []
  for (const peer of peers) {
    const { perSecond, cpu } = await measureHandshakes(lab, peer, pki, 2)
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
    const idle: number[] = []
    for (let i = 0; i < 3; i++) {
      const one = await inFreshPeer(name, setting, async peer => {
        await sleep(3000)
        return anonymousKib(peer.pid)
      })
      if (one !== undefined) idle.push(one)
    }
    if (idle.length === 0) continue
    const most = await inFreshPeer(name, setting, peer => mostUnderLoad(peer, pki))
    const row = [name, mib(median(idle)), mib(most ?? 0)]
    for (const isHttp2 of [false, true]) {
      const streams = await inFreshPeer(name, setting, async peer => {
        await load(peer, pki, { connections: 16, bodyBytes: 200, isHttp2 }, 1000)
        return measureStreams(lab, peer, pki, count, isHttp2)
      })
      row.push(
        name === 'floor' || name === 'bare'
          ? '-'
          : streams?.open
            ? `${streams.kibEach.toFixed(0)} (${streams.open} open)`
            : 'none open',
      )
    }
    rows.push(row)
  }
  return {
    title: 'Memory: RssAnon of all processes of the peer',
    about: `Idle is before the first call, the median of three starts; load is the most seen in 10 s with 64 connections; then KiB for each of ${count} idle event streams, on connections of their own and a hundred on each HTTP/2 connection.`,
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
  await load(peer, pki, { connections: 64, bodyBytes: 200, isHttp2: false }, 10_000)
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

async function load(peer: Peer, pki: Pki, what: Load, forMs: number): Promise<void> {
  const runner = await startRunner(lab, peer, pki, what)
  await runner.turn({ ms: forMs })
  await runner.stop()
}

function buildNames(): string[] {
  return values.build.length < 2 ? [] : values.build.map(build => build.slice(0, build.indexOf('=')))
}

function named(runners: readonly Runner[], name: string): Runner | undefined {
  return runners.find(({ peer }) => peer.name === name)
}

function ratio(value: number): string {
  return Number.isNaN(value) ? '-' : value.toFixed(2)
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

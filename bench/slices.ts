import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { freePort, Lab, median, type Pki } from './lab.ts'
import type { LoadOptions } from './load.ts'
import { HEADERS } from './measure.ts'
import { type Peer, type PeerName, startPeer } from './peers/start.ts'

/**
 * CPU of one call, peers and builds in turns of a quarter of a second: what a shared machine does to a figure from one
 * minute to the next it does to all of them, and the median of the turns' ratios says what a run in long rounds cannot.
 *
 *     node bench/slices.ts --only floor,sidecar --build 'before=dist-before/mcp-sidecar.mjs' --build 'now=dist/mcp-sidecar.mjs'
 */
const { values } = parseArgs({
  options: {
    turns: { type: 'string', default: '40' },
    ms: { type: 'string', default: '250' },
    connections: { type: 'string', default: '16' },
    bytes: { type: 'string', default: '200' },
    http2: { type: 'boolean', default: false },
    only: { type: 'string', default: 'floor,sidecar' },
    build: { type: 'string', multiple: true, default: [] },
    warmup: { type: 'string', default: '8000' },
  },
})

interface Runner {
  readonly peer: Peer
  /** Loads it for so many ms. @returns CPU µs of a call. */
  run(ms: number): Promise<number>
}

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
  const runners: Runner[] = []
  for (const name of values.only.split(',') as PeerName[]) {
    const started = await startPeer(name, { lab, pki, upstreamPort, builds: values.build })
    if (typeof started === 'string') console.log(`${name} is left out: ${started}`)
    else for (const peer of started) runners.push(await runnerFor(peer, pki))
  }
  // In turns as well: a connection that rests for long is closed.
  for (let ms = 0; ms < Number(values.warmup); ms += 500) for (const { run } of runners) await run(500)
  const costs = runners.map((): number[] => [])
  for (let turn = 0; turn < Number(values.turns); turn++) {
    // Backwards every other time, so that nobody always comes after the same one.
    const order = runners.map((_, i) => (turn % 2 === 0 ? i : runners.length - 1 - i))
    for (const i of order) costs[i]?.push((await runners[i]?.run(Number(values.ms))) ?? Number.NaN)
  }
  const width = Math.max(...runners.map(({ peer }) => peer.name.length)) + 2
  console.log(`${''.padEnd(width)}${'best 10th'.padStart(10)}${'median'.padStart(10)}   median of the turns' ratios to`)
  console.log(`${''.padEnd(width + 22)}${runners.map(({ peer }) => peer.name.padStart(width)).join('')}`)
  runners.forEach(({ peer }, i) => {
    const own = costs[i] ?? []
    const best = own.toSorted((a, b) => a - b)[Math.floor(own.length / 10)] ?? Number.NaN
    const ratios = costs.map(other => median(own.map((cost, turn) => cost / (other[turn] ?? Number.NaN))))
    const cells = ratios.map(ratio => ratio.toFixed(3).padStart(width)).join('')
    console.log(
      `${peer.name.padEnd(width)}${best.toFixed(1).padStart(10)}${median(own).toFixed(1).padStart(10)}  ${cells}`,
    )
  })
}

async function runnerFor(peer: Peer, pki: Pki): Promise<Runner> {
  const options: LoadOptions = {
    port: peer.port,
    connections: Number(values.connections),
    seconds: 0,
    bodyBytes: Number(values.bytes),
    isHttp2: values.http2,
    pki,
    headers: HEADERS,
    warmupMs: 0,
    warmupCalls: 0,
  }
  const child = lab.spawn(process.execPath, ['bench/slice-load.ts', JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface(child.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]()
  await lines.next()
  return {
    peer,
    run: async ms => {
      const before = cpuNanos(peer.pid)
      child.stdin?.write(`go ${ms}\n`)
      const calls = Number((await lines.next()).value)
      return (cpuNanos(peer.pid) - before) / 1000 / calls
    },
  }
}

/** CPU time of a process and its children so far, in ns: of each thread by the scheduler, not by the kernel's tick. */
function cpuNanos(pid: number): number {
  let nanos = 0
  for (const id of [pid, ...childrenOf(pid)]) {
    for (const task of readdirSync(`/proc/${id}/task`)) {
      nanos += Number(readFileSync(`/proc/${id}/task/${task}/schedstat`, 'utf8').split(' ')[0])
    }
  }
  return nanos
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
}

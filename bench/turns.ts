import { createInterface } from 'node:readline'
import { cpuNanos, type Lab, machineTicks, median, type Pki } from './lab.ts'
import type { LoadOptions, TurnOrder, TurnResult } from './load.ts'
import type { Peer } from './peers/start.ts'

/** What the gateway says about the user of each call. */
export const HEADERS = {
  'X-User-ID': 'ada@acme.example',
  'X-Org-ID': 'acme',
  'X-User-Scopes': 'mcp.read mcp.write',
  'MCP-Protocol-Version': '2025-11-25',
}

export interface Sample extends TurnResult {
  /** CPU µs of one call: user and system time of all processes of the peer. */
  readonly cpu: number
  /** Ticks of 10 ms of the whole machine's CPU time that the hypervisor gave away meanwhile. */
  readonly stolen: number
}

/** A peer and a load generator of its own, whose connections stay open between its turns. */
export interface Runner {
  readonly peer: Peer
  turn(order: TurnOrder): Promise<Sample>
  stop(): Promise<void>
}

/** A generator has ended, because its peer closed a connection for one. */
export class LoadEnded extends Error {
  readonly peer: Peer

  constructor(peer: Peer) {
    super(`the load on ${peer.name} ended`)
    this.peer = peer
  }
}

export type Load = Pick<LoadOptions, 'connections' | 'bodyBytes' | 'isHttp2'>

export async function startRunner(lab: Lab, peer: Peer, pki: Pki, load: Load): Promise<Runner> {
  const options: LoadOptions = { port: peer.port, pki, headers: HEADERS, ...load }
  const child = lab.spawn(process.execPath, ['bench/load.ts', JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface(child.stdout as NodeJS.ReadableStream)[Symbol.asyncIterator]()
  const line = async (): Promise<string> => {
    const { value, done } = await lines.next()
    if (done) throw new LoadEnded(peer)
    return value
  }
  await line()
  return {
    peer,
    async turn(order) {
      const before = cpuNanos(peer.pid)
      const { stolen } = machineTicks()
      child.stdin?.write(`${JSON.stringify(order)}\n`)
      const result = JSON.parse(await line()) as TurnResult
      return {
        ...result,
        cpu: (cpuNanos(peer.pid) - before) / 1000 / Math.max(1, result.calls),
        stolen: machineTicks().stolen - stolen,
      }
    },
    stop: () => lab.stop(child),
  }
}

/**
 * Turns of all in alternation: what a shared machine does to a figure from one minute to the next it does to all of
 * them, and the median of the turns' ratios says what long rounds cannot.
 */
export async function inTurns(runners: readonly Runner[], turns: number, order: TurnOrder): Promise<Samples> {
  const samples = new Samples(runners)
  for (let turn = 0; turn < turns; turn++) {
    // Backwards every other time, so that nobody always comes after the same one.
    for (const runner of turn % 2 === 0 ? runners : runners.toReversed()) {
      samples.add(runner, await runner.turn(order))
    }
  }
  return samples
}

/** Calls until each peer has answered so many, or a minute is over. */
export async function warmUp(runners: readonly Runner[], calls: number): Promise<void> {
  const until = performance.now() + 60_000 * runners.length
  const left = new Map(runners.map(runner => [runner, calls]))
  while (left.size > 0 && performance.now() < until) {
    for (const [runner, missing] of left) {
      const rest = missing - (await runner.turn({ ms: 500 })).calls
      if (rest > 0) left.set(runner, rest)
      else left.delete(runner)
    }
  }
}

/** What each has shown in each of its turns. */
export class Samples {
  readonly #all: ReadonlyMap<Runner, Sample[]>

  constructor(runners: readonly Runner[]) {
    this.#all = new Map(runners.map(runner => [runner, []]))
  }

  add(runner: Runner, sample: Sample): void {
    this.#all.get(runner)?.push(sample)
  }

  median(runner: Runner, field: keyof Sample): number {
    return median(this.#of(runner, field))
  }

  /** The same of those turns alone from which the hypervisor took nothing, and how many those were. */
  undisturbed(runner: Runner, field: keyof Sample): { readonly median: number; readonly turns: number } {
    const calm = (this.#all.get(runner) ?? []).filter(({ stolen }) => stolen === 0).map(sample => sample[field])
    return { median: median(calm), turns: calm.length }
  }

  callsPerSecond(runner: Runner): number {
    return median((this.#all.get(runner) ?? []).map(({ calls, seconds }) => calls / seconds))
  }

  errors(runner: Runner): number {
    return this.#of(runner, 'errors').reduce((sum, errors) => sum + errors, 0)
  }

  /** Median of the turns' ratios; NaN without the other. */
  ratio(runner: Runner, other: Runner | undefined, field: keyof Sample): number {
    return this.#compare(runner, other, field, (own, its) => own / its)
  }

  /** Median of the turns' differences; NaN without the other. */
  added(runner: Runner, other: Runner | undefined, field: keyof Sample): number {
    return this.#compare(runner, other, field, (own, its) => own - its)
  }

  #of(runner: Runner, field: keyof Sample): number[] {
    return (this.#all.get(runner) ?? []).map(sample => sample[field])
  }

  #compare(
    runner: Runner,
    other: Runner | undefined,
    field: keyof Sample,
    compare: (own: number, its: number) => number,
  ): number {
    if (other === undefined) return Number.NaN
    const its = this.#of(other, field)
    return median(this.#of(runner, field).map((own, turn) => compare(own, its[turn] as number)))
  }
}

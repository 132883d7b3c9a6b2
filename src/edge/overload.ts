import { totalmem } from 'node:os'
import { performance } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'

/**
 * Says when there is too much to do, and how much of it not to take. What is new goes first, and what is cheapest to
 * refuse: handshakes and streams that are meant to stay (`busy`), then a growing share of the calls, at their head and
 * before their body is read (`full`). What has been taken is finished. Health and metrics have a listener of their own
 * and are never refused.
 */
export class Overload {
  readonly #options: OverloadOptions
  readonly #judge = new LoadJudge()
  #timer: NodeJS.Timeout | undefined
  #dueMono = 0
  #ticks = 0
  #memoryShare = 0

  constructor(options: OverloadOptions = {}) {
    this.#options = options
  }

  /** `normal`, `busy` or `full`. */
  get level(): Level {
    return this.#judge.level
  }

  start(): void {
    this.#dueMono = performance.now() + TICK_MS
    this.#timer = setInterval(() => this.#tick(), TICK_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Whether this one is not to be taken; of calls a share, so that load and refusals settle instead of swinging. */
  refuses(what: 'handshake' | 'stream' | 'call'): boolean {
    if (this.#judge.level === 'normal') return false
    if (what !== 'call') return true
    return Math.random() < this.#judge.share
  }

  #tick(): void {
    const now = performance.now()
    const lateMs = this.#options.watchesTimers === false ? 0 : Math.max(0, now - this.#dueMono)
    this.#dueMono = now + TICK_MS
    if (this.#ticks++ % TICKS_A_LOOK === 0) this.#memoryShare = (this.#options.memoryShare ?? memoryShare)()
    const before = this.#judge.level
    this.#judge.look(lateMs, this.#memoryShare)
    if (this.#judge.level !== before) this.#options.onLevel?.(this.#judge.level, this.#judge.describe())
  }
}

export interface OverloadOptions {
  /** Share of the memory that this process may use, 0 to 1. */
  readonly memoryShare?: () => number
  /** False in a process whose timers are late by the work of others, such as a test that is its own client and server. */
  readonly watchesTimers?: boolean
  readonly onLevel?: (level: Level, why: string) => void
}

export type Level = 'normal' | 'busy' | 'full'

const TICK_MS = 100
const TICKS_A_LOOK = 10

/** The arithmetic, without a clock: how late timers are, on average, and how much memory is used. */
export class LoadJudge {
  #lateMs = 0
  #memoryShare = 0
  level: Level = 'normal'
  /** Share of the calls that are not to be taken, 0 to 0.9: some always pass, or nobody would see that it is over. */
  share = 0

  /** @param lateMs  How late one timer of `TICK_MS` fired. @param memoryShare  0 to 1. */
  look(lateMs: number, memoryShare: number): void {
    this.#lateMs += (lateMs - this.#lateMs) * WEIGHT
    this.#memoryShare = memoryShare
    // What has been left has to fall well below the line first, so that nothing swings around it.
    const busy = this.level === 'normal' ? 1 : LEAVE
    const full = this.level === 'full' ? LEAVE : 1
    if (this.#lateMs >= FULL.lateMs * full || memoryShare >= memoryLine(FULL.memoryShare, full)) this.level = 'full'
    else if (this.#lateMs >= BUSY.lateMs * busy || memoryShare >= memoryLine(BUSY.memoryShare, busy))
      this.level = 'busy'
    else this.level = 'normal'
    const byLateness = (this.#lateMs - FULL.lateMs) / FULL.lateMs
    const byMemory = (memoryShare - FULL.memoryShare) / (1 - FULL.memoryShare)
    this.share = this.level === 'full' ? Math.min(0.9, Math.max(0.2, byLateness, byMemory)) : 0
  }

  describe(): string {
    return `timers are ${Math.round(this.#lateMs)} ms late, ${Math.round(this.#memoryShare * 100)} % of the memory is used`
  }
}

const BUSY = { lateMs: 200, memoryShare: 0.85 }
const FULL = { lateMs: 400, memoryShare: 0.93 }
/** One timer in ten counts as much as the nine before it: a pause of the garbage collector is no overload. */
const WEIGHT = 0.2
const LEAVE = 0.6

/** Memory is left at five points below, since what a process has taken it does not give back so easily. */
function memoryLine(share: number, factor: number): number {
  return factor === 1 ? share : share - 0.05
}

/** Of the cgroup's limit, or of V8's for the heap, whichever is nearer. */
function memoryShare(): number {
  const { used_heap_size: heap, heap_size_limit: most } = getHeapStatistics()
  const limit = process.constrainedMemory()
  // Without a limit the kernel says a number beyond all memory.
  const resident = limit > 0 && limit <= totalmem() ? process.memoryUsage.rss() / limit : 0
  return Math.max(heap / most, resident)
}

/**
 * A circuit breaker over one upstream. It opens when, within the window, at least `minimum` calls ended and at least
 * `errorPercent` of them failed; after `openForMs` one call is let through, and its end decides.
 *
 * What counts as failed is the caller's word: HTTP 5xx, connections that break, deadlines, JSON-RPC -32603, and not a
 * tool's own `isError`. Times are ms of a monotonic clock, handed in.
 */
export interface BreakerOptions {
  readonly errorPercent: number
  readonly minimum: number
  readonly windowMs: number
  readonly openForMs: number
}

export type BreakerState = 'closed' | 'open' | 'half-open'

const SLICES = 10

export class Breaker {
  readonly #options: BreakerOptions
  readonly #sliceMs: number
  /** Calls that ended well and badly, by slice of the window. */
  readonly #good = new Float64Array(SLICES)
  readonly #failed = new Float64Array(SLICES)
  #slice = 0
  #openUntilMono = 0
  #state: BreakerState = 'closed'
  #probing = false

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#sliceMs = options.windowMs / SLICES
  }

  get state(): BreakerState {
    return this.#state
  }

  /** @returns undefined when the call may go, else after how many ms another may be tried. */
  admit(nowMono: number): number | undefined {
    if (this.#state === 'closed') return undefined
    if (this.#state === 'open') {
      if (nowMono < this.#openUntilMono) return Math.ceil(this.#openUntilMono - nowMono)
      this.#state = 'half-open'
      this.#probing = false
    }
    if (this.#probing) return Math.min(1000, this.#options.openForMs)
    this.#probing = true
    return undefined
  }

  /** How a call that was admitted has ended. */
  note(failed: boolean, nowMono: number): void {
    if (this.#state === 'half-open') {
      if (failed) this.#open(nowMono)
      else this.#close(nowMono)
      return
    }
    if (this.#state === 'open') return
    this.#advance(nowMono)
    const at = this.#slice % SLICES
    if (!failed) {
      this.#good[at] = (this.#good[at] as number) + 1
      return
    }
    this.#failed[at] = (this.#failed[at] as number) + 1
    let good = 0
    let bad = 0
    for (let i = 0; i < SLICES; i++) {
      good += this.#good[i] as number
      bad += this.#failed[i] as number
    }
    if (good + bad >= this.#options.minimum && bad * 100 >= (good + bad) * this.#options.errorPercent)
      this.#open(nowMono)
  }

  /** A call that was admitted ended without saying anything about the upstream (the client left). */
  forget(): void {
    if (this.#state === 'half-open') this.#probing = false
  }

  #open(nowMono: number): void {
    this.#state = 'open'
    this.#probing = false
    this.#openUntilMono = nowMono + this.#options.openForMs
  }

  #close(nowMono: number): void {
    this.#state = 'closed'
    this.#probing = false
    this.#good.fill(0)
    this.#failed.fill(0)
    this.#slice = Math.floor(nowMono / this.#sliceMs)
  }

  #advance(nowMono: number): void {
    const slice = Math.floor(nowMono / this.#sliceMs)
    const steps = Math.min(SLICES, Math.max(0, slice - this.#slice))
    for (let i = 1; i <= steps; i++) {
      const at = (this.#slice + i) % SLICES
      this.#good[at] = 0
      this.#failed[at] = 0
    }
    this.#slice = Math.max(slice, this.#slice)
  }
}

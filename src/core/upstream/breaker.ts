/**
 * A circuit breaker over one upstream. It opens when, within the window, at least `minimum` calls ended and at least
 * `errorPercent` of them failed; after `openForMs` one call is let through as a probe, and what becomes of it decides.
 *
 * What counts as failed is the caller's word: HTTP 5xx, connections that break, deadlines, JSON-RPC -32603 with the caution
 * of `noteInternalError`, and not a tool's own `isError`. Times are ms of a monotonic clock, handed in.
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
  #epoch = 0
  /** Who was the last to be told of an internal error. */
  #lastTold = ''

  constructor(options: BreakerOptions) {
    this.#options = options
    this.#sliceMs = options.windowMs / SLICES
  }

  get state(): BreakerState {
    return this.#state
  }

  /**
   * Another number after each change of state. A call keeps the one that it was admitted in: how it ends is news only as
   * long as that has not changed. Else a stream that was opened in better times would, at its end, close a breaker that
   * is being probed.
   */
  get epoch(): number {
    return this.#epoch
  }

  /** @returns undefined when the call may go, else after how many ms another may be tried. */
  admit(nowMono: number): number | undefined {
    if (this.#state === 'closed') return undefined
    if (this.#state === 'open') {
      if (nowMono < this.#openUntilMono) return Math.ceil(this.#openUntilMono - nowMono)
      this.#become('half-open')
    }
    if (this.#probing) return Math.min(1000, this.#options.openForMs)
    this.#probing = true
    return undefined
  }

  /** How a call that was admitted in `epoch` has ended. */
  note(failed: boolean, nowMono: number, epoch: number): void {
    if (epoch !== this.#epoch || this.#state === 'open') return
    if (this.#state === 'half-open') {
      if (failed) this.#open(nowMono)
      else this.#close(nowMono)
      return
    }
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

  /**
   * A call has ended with JSON-RPC -32603, "internal error". With the SDKs that is whatever a handler throws, an unknown
   * name for one, so one caller can bring about as many as he likes. Several in a row that the same one is told count
   * once: he does not close the server to the others, and a server that has failed tells everybody.
   *
   * @param who  Tells callers apart.
   */
  noteInternalError(who: string, nowMono: number, epoch: number): void {
    if (who === this.#lastTold) return this.forget(epoch)
    this.#lastTold = who
    this.note(true, nowMono, epoch)
  }

  /** Something else has shown that the upstream may be back: the next call is let through at once. */
  reconsider(): void {
    this.#openUntilMono = 0
  }

  /** The answer to a call has begun well and may go on for hours: a probe need not wait for the end of a stream. */
  began(nowMono: number, epoch: number): void {
    if (this.#state === 'half-open' && epoch === this.#epoch) this.#close(nowMono)
  }

  /** A call ended without saying anything about the upstream (the client left): another one may be the probe. */
  forget(epoch: number): void {
    if (this.#state === 'half-open' && epoch === this.#epoch) this.#probing = false
  }

  #become(state: BreakerState): void {
    this.#state = state
    this.#probing = false
    this.#epoch += 1
  }

  #open(nowMono: number): void {
    this.#become('open')
    this.#openUntilMono = nowMono + this.#options.openForMs
  }

  #close(nowMono: number): void {
    this.#become('closed')
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

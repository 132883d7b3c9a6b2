import type { Refusal } from '../core/refusal.ts'
import type { Admitted } from './call.ts'
import type { Relay } from './relay.ts'

export interface StreamBounds {
  readonly perCaller: number
  readonly ageMs: number
}

/**
 * Event streams that are open. They outlive the moment in which their caller was judged, so they are counted for each
 * caller, end when they grow too old, and are judged again when what they were judged by changes.
 */
export class OpenStreams {
  readonly #streams = new Map<Relay, { owner: string; openedMono: number }>()
  readonly #perOwner = new Map<string, number>()
  readonly #ownerOf: (call: Admitted) => string
  readonly #bounds: () => StreamBounds

  constructor(ownerOf: (call: Admitted) => string, bounds: () => StreamBounds) {
    this.#ownerOf = ownerOf
    this.#bounds = bounds
  }

  get size(): number {
    return this.#streams.size
  }

  /** A refusal when this caller has as many streams open as one may; only a GET is known to open one beforehand. */
  full(call: Admitted): Refusal | undefined {
    if (call.route.kind !== 'stream') return undefined
    const { perCaller } = this.#bounds()
    if ((this.#perOwner.get(this.#ownerOf(call)) ?? 0) < perCaller) return undefined
    return { reason: 'streams_exhausted', limit: perCaller, retryAfterMs: 1000 }
  }

  add(relay: Relay): void {
    const owner = this.#ownerOf(relay.call)
    this.#streams.set(relay, { owner, openedMono: relay.call.exchange.startedMono })
    this.#perOwner.set(owner, (this.#perOwner.get(owner) ?? 0) + 1)
  }

  delete(relay: Relay): void {
    const entry = this.#streams.get(relay)
    if (entry === undefined) return
    this.#streams.delete(relay)
    const left = (this.#perOwner.get(entry.owner) ?? 1) - 1
    if (left === 0) this.#perOwner.delete(entry.owner)
    else this.#perOwner.set(entry.owner, left)
  }

  /** Ends what is too old, or whose token has ended. */
  sweep(nowMono: number, nowMs: number): void {
    const { ageMs } = this.#bounds()
    for (const [relay, { openedMono }] of this.#streams) {
      const { user } = relay.call.caller
      if (nowMono - openedMono >= ageMs) relay.interrupt('stream_age')
      else if (user?.expiresAtMs !== undefined && user.expiresAtMs <= nowMs) relay.interrupt('user_token_expired')
    }
  }

  /**
   * Another generation of the configuration is in use: ends the streams of which `judge` says why their caller may not
   * have them any more, and gives the others what `tell` has for them.
   */
  judgeAgain(judge: (call: Admitted) => string | undefined, tell: (call: Admitted) => readonly Buffer[]): void {
    for (const relay of [...this.#streams.keys()]) {
      const reason = judge(relay.call)
      if (reason !== undefined) relay.interrupt(reason)
      else for (const event of tell(relay.call)) relay.inject(event)
    }
  }
}

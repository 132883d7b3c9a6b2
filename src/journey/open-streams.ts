import type { Exchange } from '../core/audit/exchange.ts'
import type { Message } from '../core/mcp/message.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Forwarded } from './call.ts'
import type { Relay } from './relay.ts'

export interface StreamBounds {
  readonly perCaller: number
  readonly inAll: number
  readonly ageMs: number
}

/** A call, sent on or not yet. */
export type Counted = Pick<Forwarded, 'exchange' | 'caller' | 'route' | 'posted'>

/**
 * Event streams that are open. They outlive the moment in which their caller was judged, so they end when they grow too
 * old, and are judged again when what they were judged by changes.
 *
 * Those that are opened to stay (a GET, or `subscriptions/listen` of the modern era) are counted for each caller, from
 * the moment in which they are let pass. An answer that happens to come as a stream is over with its call.
 */
export class OpenStreams {
  readonly #streams = new Map<Relay, number>()
  readonly #lasting = new Set<Exchange>()
  readonly #perOwner = new Map<string, number>()
  readonly #ownerOf: (call: Counted) => string
  readonly #bounds: () => StreamBounds

  constructor(ownerOf: (call: Counted) => string, bounds: () => StreamBounds) {
    this.#ownerOf = ownerOf
    this.#bounds = bounds
  }

  get size(): number {
    return this.#streams.size
  }

  /** Counts a call that opens a stream to stay; a refusal when its caller, or all together, have as many as they may. */
  reserve(call: Counted): Refusal | undefined {
    if (call.route.kind !== 'stream' && !call.posted.messages.some(opensStream)) return undefined
    const { perCaller, inAll } = this.#bounds()
    if (this.#lasting.size >= inAll) return { reason: 'sidecar_overloaded', retryAfterMs: 1000 }
    const owner = this.#ownerOf(call)
    const open = this.#perOwner.get(owner) ?? 0
    if (open >= perCaller) return { reason: 'streams_exhausted', limit: perCaller, retryAfterMs: 1000 }
    this.#perOwner.set(owner, open + 1)
    this.#lasting.add(call.exchange)
    return undefined
  }

  /** The call is over, or was refused after all. Calls that were not counted may be given, too. */
  release(call: Counted): void {
    if (!this.#lasting.delete(call.exchange)) return
    const owner = this.#ownerOf(call)
    const left = (this.#perOwner.get(owner) ?? 1) - 1
    if (left === 0) this.#perOwner.delete(owner)
    else this.#perOwner.set(owner, left)
  }

  add(relay: Relay): void {
    this.#streams.set(relay, relay.call.exchange.startedMono)
  }

  delete(relay: Relay): void {
    this.#streams.delete(relay)
  }

  /** Ends what is too old, or whose token has ended. */
  sweep(nowMono: number, nowMs: number): void {
    const { ageMs } = this.#bounds()
    for (const [relay, openedMono] of this.#streams) {
      const { user } = relay.call.caller
      if (nowMono - openedMono >= ageMs) relay.interrupt('stream_age')
      else if (user?.expiresAtMs !== undefined && user.expiresAtMs <= nowMs) relay.interrupt('user_token_expired')
    }
  }

  /**
   * Another generation of the configuration is in use: ends the streams of which `judge` says why their caller may not
   * have them any more, and gives the others what `tell` has for them.
   */
  judgeAgain(judge: (call: Forwarded) => string | undefined, tell: (call: Forwarded) => readonly Buffer[]): void {
    for (const relay of [...this.#streams.keys()]) {
      const reason = judge(relay.call)
      if (reason !== undefined) relay.interrupt(reason)
      else for (const event of tell(relay.call)) relay.inject(event)
    }
  }
}

function opensStream(message: Message): boolean {
  return message.method === 'subscriptions/listen'
}

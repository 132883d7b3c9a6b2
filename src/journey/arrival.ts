import type { ConnectionFacts } from '../core/audit/exchange.ts'
import type { Peer } from '../core/identity/caller.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'

/** One HTTP request as it has arrived over a verified connection, before anything in it has been believed. */
export interface Arrival {
  readonly method: string
  /** Request target as sent: path and query. */
  readonly target: string
  /** `[name, value, …]` in the order and spelling of the wire; HTTP/2 pseudo headers are left out, `host` stands for `:authority`. */
  readonly rawHeaders: readonly string[]
  /** Size of the head where nothing below has bounded it: over HTTP/2 a client may not have seen our settings yet. Else 0. */
  readonly headBytes: number
  readonly connection: ArrivalConnection
  readonly reply: Reply
  /** Set when a quota refuses: what its answer says of the limits. */
  quotaHeaders: readonly string[]
  readonly isBodyRead: boolean
  /** Whatever is to be known of the head is known: `rawHeaders` is empty from now on. */
  forgetHead(): void
  /** The call is over, and with it whatever still referred to its body. May be told more than once. */
  forgetBody(): void
  /**
   * Reads the body of a POST once, whole; without waiting when it is here already. Refuses `message_too_large`,
   * `request_timeout`, `request_malformed` (cut off) and `sidecar_overloaded` (too many large ones at a time).
   */
  readBody(limitBytes: number): Result<Buffer, Refusal> | Promise<Result<Buffer, Refusal>>
}

/** The connection that requests arrive on; one gateway connection carries many users, so nothing about a user is kept here. */
export interface ArrivalConnection {
  readonly facts: ConnectionFacts
  /** The entry of `peers` that matched, remembered for one generation of the configuration. */
  peer: { generation: number; peer: Peer | undefined } | undefined
  /** Whether this connection is being closed: answers then say so. */
  readonly retiring: boolean
  /** Calls whose answers are open, so that they can be ended with the connection. */
  readonly calls: { readonly size: number; add(call: OpenCall): unknown; delete(call: OpenCall): unknown }
  /** A call's answer is over. */
  done(call: OpenCall): void
}

/** An answer that is under way and may have to end before its end. */
export interface OpenCall {
  /** Ends an event stream at the next event boundary; a plain answer goes on. */
  interrupt(reason: string): void
  /** Called now and then: ends what has had its time. */
  checkTime(nowMono: number): void
}

export interface ReplyListener {
  /** The client takes more again. */
  drained(): void
  /** The client has gone before the answer was complete, or does not read it; the reason in a few words. */
  left(why: string): void
}

/** The way back to the client. Nothing is buffered beyond what the client's window holds. */
export interface Reply {
  /** Status and headers, `[name, value, …]`. Sent with the first piece of the body, or at once with `flush`. */
  head(status: number, headers: readonly string[], flush: boolean): void
  /** @returns false when the client is slower than this: wait for `listener.drained`. */
  write(chunk: Buffer): boolean
  /** Ends the answer as complete. */
  end(chunk?: Buffer): void
  /** Ends the answer as broken: what was sent must not look complete. */
  break(): void
  /**
   * Who hears of the client while the answer is under way. An object, and no functions set for each call: V8 puts a
   * function that is assigned to a property among what lives long, and all that it refers to stays with it.
   */
  listener: ReplyListener | undefined
  /** It has gone already. */
  readonly isGone: boolean
  /** Bytes of body that were handed to the kernel or to the TLS layer. */
  readonly bytesWritten: number
  readonly headSent: boolean
}

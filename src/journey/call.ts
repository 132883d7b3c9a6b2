import type { Exchange } from '../core/audit/exchange.ts'
import type { ArrivalHeaders } from '../core/identity/arrival-headers.ts'
import type { Caller } from '../core/identity/caller.ts'
import type { Posted } from '../core/mcp/message.ts'
import type { Verdict } from '../core/policy/verdict.ts'
import type { QuotaLease } from '../core/quota/decision.ts'
import type { Target } from '../core/request-path.ts'
import type { Snapshot } from '../live/live.ts'
import type { Settings } from '../live/settings.ts'
import type { Arrival } from './arrival.ts'

/**
 * What each step has proved, as a type that the next one asks for: `forward` takes only an `Admitted` call, so "not yet
 * checked" does not compile.
 */
export interface Received {
  readonly arrival: Arrival
  readonly exchange: Exchange
  /** One generation of the configuration judges the call from beginning to end. */
  readonly settings: Snapshot<Settings>
  readonly route: Route
  readonly target: Target
  readonly headers: ArrivalHeaders
}

export interface Identified extends Received {
  readonly caller: Caller
}

export interface Called extends Identified {
  readonly posted: Posted
  /** The session that the call names, which is known to be the caller's own. */
  readonly session: string | undefined
}

export interface Permitted extends Called {
  readonly verdict: Verdict
}

export interface Admitted extends Permitted {
  /** Slots and windows drawn from, given back when the exchange closes. */
  readonly lease: QuotaLease | undefined
  /** RateLimit headers for the answer. */
  readonly quotaHeaders: readonly string[]
}

/**
 * What is kept of a call that has been sent on: what its answer, its line and another judgement of its stream need. Many
 * may wait for their answers, and streams stay open for hours; headers, with the tokens in them, and bodies do not.
 */
export interface Forwarded extends Omit<Admitted, 'headers' | 'target' | 'posted' | 'verdict'> {
  readonly posted: Pick<Posted, 'messages'>
  /** The client asks for what it has missed of a stream (`Last-Event-ID`). */
  readonly resumes: boolean
}

/** Which configured path a request matched, and how it is to be read. */
export interface Route {
  /** The entry of `upstream.paths`, for metrics. */
  readonly path: string
  readonly kind: 'post' | 'stream' | 'delete' | 'metadata'
}

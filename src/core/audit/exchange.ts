import type { ClientCertificate, Peer, User } from '../identity/caller.ts'
import type { Message, RpcId } from '../mcp/message.ts'
import type { Verdict } from '../policy/verdict.ts'
import type { Demand } from '../quota/demand.ts'
import type { QuotaReading } from '../quota/reading.ts'
import type { Refusal } from '../refusal.ts'

/** How an exchange ended, as the audit field `outcome` and the metric label `status` say it. */
export type Outcome = 'success' | 'tool_error' | 'error' | 'refused' | 'aborted'

/**
 * All that is known of one HTTP exchange, filled in step by step. It is opened before the first step and closed exactly
 * once, in one place, whatever happened; the audit line and the metrics are both made from it, so they cannot disagree.
 *
 * Times: `startedAtMs` is wall-clock ms since the epoch, everything named `…Mono` is ms of a monotonic clock.
 */
export interface Exchange {
  /** The peer's own, when it sent an acceptable one, else a new one. */
  requestId: string
  readonly startedAtMs: number
  readonly startedMono: number
  /** HTTP method, and the configured path that matched (`other` before or without a match). */
  readonly httpMethod: string
  route: string
  readonly connection: ConnectionFacts
  forwardedFor: string | undefined
  userAgent: string | undefined
  /** Well-formed: version, trace, parent and flags, and what a later version may add. */
  traceparent: string | undefined
  peer: Peer | undefined
  user: User | undefined
  /** The message, or the messages of a batch. */
  messages: readonly Message[]
  /** Digest of the session id, never the id. */
  session: string | undefined
  verdict: Verdict | undefined
  /** What the tightest quota says. */
  quota: QuotaReading | undefined
  /** What was drawn from the quotas; one of several keys is there once for each. Undefined when they did not admit it. */
  drawn: readonly Demand[] | undefined
  refusal: Refusal | undefined
  outcome: Outcome | undefined
  status: number
  rpcError: { code: number; message: string } | undefined
  /** What went wrong, in words for the operator; redacted before it is written. */
  error: string | undefined
  bytesIn: number
  bytesOut: number
  /** When the upstream was asked, and when its answer ended. */
  upstreamStartedMono: number | undefined
  upstreamEndedMono: number | undefined
  endedMono: number | undefined
  /** The answer is an event stream; its `mcp.started` line has been written. */
  streamed: boolean
  /** Id for the answer to a request whose message could not be accepted. */
  replyId?: RpcId | undefined
  /** Room for its lines has been reserved, and is given back when it closes. */
  hasRoom?: boolean
  /** Generations of configuration and trust that judged this exchange. */
  readonly generation: { readonly config: number; readonly trust: number }
}

/** What is known of a TLS connection from its handshake on. */
export interface ConnectionFacts {
  readonly remoteAddress: string
  readonly certificate: ClientCertificate | undefined
  /** Protocol version, group and cipher: `TLSv1.3 X25519MLKEM768 TLS_AES_256_GCM_SHA384`. */
  readonly tls: string
  readonly httpVersion: '1.1' | '2'
}

import { performance } from 'node:perf_hooks'
import type { Exchange } from '../core/audit/exchange.ts'
import { WELL_KNOWN } from '../core/identity/challenge.ts'
import type { TokenVerifier } from '../core/identity/token.ts'
import type { RpcId } from '../core/mcp/message.ts'
import { readPostedHeaders } from '../core/mcp/posted-headers.ts'
import { readPosted } from '../core/mcp/read-posted.ts'
import { answerFor, type Refusal } from '../core/refusal.ts'
import { err } from '../core/result.ts'
import type { Breaker } from '../core/upstream/breaker.ts'
import type { Live } from '../live/live.ts'
import type { Settings } from '../live/settings.ts'
import { answerHeaders } from './answer-headers.ts'
import type { Arrival } from './arrival.ts'
import type { Admitted } from './call.ts'
import { checkPolicy } from './check-policy.ts'
import { drawQuota, type QuotaLedger } from './draw-quota.ts'
import type { ExchangeBook } from './exchange-book.ts'
import { forward } from './forward.ts'
import { identifyCaller, peerOf, presentedBy, recognisePeer } from './identify.ts'
import { judgeStream } from './judge-stream.ts'
import type { OpenStreams } from './open-streams.ts'
import { answersFor, type PassageParts, passageFor } from './passage-for.ts'
import { type Owners, readMessage } from './read-message.ts'
import { type HostCheck, openExchange, receive } from './receive.ts'
import { refuse, requestIdOf } from './refuse.ts'
import type { RelayParts } from './relay.ts'
import type { Steps } from './serve-call.ts'
import type { Upstream } from './upstream.ts'

/** What the steps need of the edges. What can be reloaded is asked for anew with each call. */
export interface StepParts extends PassageParts {
  readonly settings: Live<Settings>
  readonly trustGeneration: () => number
  readonly hosts: () => HostCheck
  readonly verifier: () => TokenVerifier | undefined
  readonly owners: Owners & PassageParts['owners']
  readonly quota: QuotaLedger
  readonly upstream: Upstream
  readonly breaker: Breaker
  readonly book: ExchangeBook
  readonly streams: OpenStreams
  readonly metadata: () =>
    | { serves(path: string): boolean; readonly headers: readonly string[]; readonly body: Buffer }
    | undefined
  /** Why no call is taken now: starting, draining, overloaded. */
  readonly closedFor: (method: string) => Refusal | undefined
}

/** Puts the steps together; `serveCall` says in which order they are taken. */
export function makeSteps(parts: StepParts): Steps {
  const { settings, book, breaker, streams } = parts

  const relayParts: RelayParts = {
    upstream: parts.upstream,
    book,
    sessionCalls: parts.sessionCalls,
    answersFor: call => answersFor(call, parts),
    passageFor: (call, answers, status, headers) => passageFor(call, answers, status, headers, parts),
    answerHeaders,
    refuse: (call, refusal) => answerRefusal(call.arrival, call.exchange, refusal, undefined),
    settle: call => {
      call.lease?.release()
      streams.release(call)
      call.arrival.forgetBody()
    },
    plainAnswerMs: () => settings.current().value.config.limits.streamAgeMs,
    streamOpened(relay) {
      streams.add(relay)
      // Those that are open are judged again with each new generation; this one was not open when the last one came.
      const { generation, value } = settings.current()
      return relay.call.settings.generation === generation ? undefined : judgeStream(relay.call, value, Date.now())
    },
    streamClosed: relay => streams.delete(relay),
    note: (failed, epoch) => breaker.note(failed, performance.now(), epoch),
    noteInternalError: ({ caller }, epoch) =>
      breaker.noteInternalError(parts.owners.ownerOf(caller), performance.now(), epoch),
    began: epoch => breaker.began(performance.now(), epoch),
    forget: epoch => breaker.forget(epoch),
  }

  function answerRefusal(arrival: Arrival, exchange: Exchange, refusal: Refusal, id: RpcId | undefined): void {
    const current = settings.current().value
    arrival.forgetBody()
    refuse(arrival, exchange, refusal, { settings: current, book, id, quotaHeaders: arrival.quotaHeaders })
  }

  return {
    openExchange: arrival =>
      openExchange(arrival, { config: settings.current().generation, trust: parts.trustGeneration() }),

    receive(arrival, exchange) {
      const closed = parts.closedFor(arrival.method)
      if (closed !== undefined) return err(closed)
      return receive(arrival, exchange, settings.current(), parts.hosts())
    },

    serveMetadata(received) {
      // No user is needed to learn how to become one, but who is not on the list of peers is served nothing.
      const { connection } = received.arrival
      if (peerOf(connection, received.settings) === undefined) {
        return { reason: 'peer_not_listed', presented: presentedBy(connection) }
      }
      const document = parts.metadata()
      if (document === undefined || !document.serves(received.target.path)) {
        return { reason: 'request_path_unknown', path: WELL_KNOWN }
      }
      const { reply } = received.arrival
      reply.head(200, document.headers, false)
      reply.end(received.arrival.method === 'HEAD' ? undefined : document.body)
      return undefined
    },

    identify: received => identifyCaller(received, parts.verifier()),
    readMessage: identified => readMessage(identified, parts.owners),
    checkPolicy,
    reserveRoom: exchange => book.admit(exchange),
    drawQuota: permitted => drawQuota(permitted, parts.quota),

    forward(admitted: Admitted) {
      const refusal = streams.reserve(admitted) ?? heldBack(breaker)
      if (refusal !== undefined) {
        admitted.lease?.release()
        streams.release(admitted)
        return answerRefusal(admitted.arrival, admitted.exchange, refusal, undefined)
      }
      const { epoch } = breaker
      try {
        forward(admitted, relayParts, epoch)
      } catch (fault) {
        // What ends here has no end of its own that would give these back.
        relayParts.settle(admitted)
        breaker.forget(epoch)
        throw fault
      }
    },

    refuseUnread(connection, refusal) {
      const generation = { config: settings.current().generation, trust: parts.trustGeneration() }
      const exchange = openExchange({ method: '', connection }, generation)
      exchange.peer = peerOf(connection, settings.current())
      exchange.refusal = refusal
      exchange.outcome = 'refused'
      exchange.status = answerFor(refusal).status
      exchange.endedMono = performance.now()
      book.closed(exchange, () => {})
    },

    async refuse(arrival, exchange, refusal) {
      recognisePeer(arrival, exchange, settings.current())
      answerRefusal(arrival, exchange, refusal, exchange.replyId ?? (await idOfUnread(arrival, exchange, settings)))
    },
  }
}

function heldBack(breaker: Breaker): Refusal | undefined {
  const retryAfterMs = breaker.admit(performance.now())
  return retryAfterMs === undefined ? undefined : { reason: 'upstream_breaker_open', retryAfterMs }
}

/**
 * The request's own id, when it was refused before its body was read: an error without it cannot be told from the
 * answer to another request.
 */
async function idOfUnread(arrival: Arrival, exchange: Exchange, settings: Live<Settings>): Promise<RpcId | undefined> {
  if (arrival.method !== 'POST' || arrival.isBodyRead) return undefined
  const { limits } = settings.current().value.config
  const body = await arrival.readBody(Math.min(limits.bodyBytes, MOST_FOR_AN_ID))
  if (!body.ok) return undefined
  exchange.bytesIn = body.value.length
  const read = readPosted(body.value, readPostedHeaders(arrival.rawHeaders), limits)
  return read.ok ? requestIdOf(read.value.messages) : read.error.id
}

/** A refused caller's body is read only this far for its id. */
const MOST_FOR_AN_ID = 256 * 1024

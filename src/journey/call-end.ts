import { performance } from 'node:perf_hooks'
import type { Exchange, Outcome } from '../core/audit/exchange.ts'
import type { ListedKind } from '../core/mcp/list-filter.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'
import type { Forwarded } from './call.ts'
import type { CallAnswers } from './call-answers.ts'
import type { ExchangeBook } from './exchange-book.ts'
import type { Counted } from './open-streams.ts'
import type { PendingCall, SessionCalls } from './session-calls.ts'

export interface CallEndParts {
  readonly book: ExchangeBook
  readonly sessionCalls: SessionCalls
  /** Gathers what the server says to the requests of a call, and says what its lists may show. */
  answersFor(call: Forwarded): AnswerParts
  /** Everything that a closed exchange gives back. Called exactly once. */
  settle(call: Counted & Pick<Forwarded, 'lease' | 'arrival'>): void
  /** Tells the breaker how the upstream did; `epoch` is the breaker's when it let the call pass. */
  note(failed: boolean, epoch: number): void
  /** The server has said that it is itself at fault. */
  noteInternalError(call: Forwarded, epoch: number): void
  /** A stream has begun well; its end may be hours away. */
  began(epoch: number): void
  /** The call ended without saying anything of the upstream. */
  forget(epoch: number): void
}

/** What is known of the answer to a call before it comes. */
export interface AnswerParts {
  readonly answers: CallAnswers
  readonly isList: boolean
  readonly shows: (kind: ListedKind, name: string) => boolean
}

/**
 * The end of a forwarded call, which need not be that of its HTTP answer: in a session of the legacy era the answer may
 * come on another stream, and the call is over when it does, or when it cannot come any more. Whichever way it ends, the
 * exchange is closed once, the breaker hears of it, and what the call held is given back.
 */
export class CallEnd implements PendingCall {
  readonly expected: AnswerParts
  readonly #call: Forwarded
  readonly #exchange: Exchange
  readonly #parts: CallEndParts
  readonly #epoch: number
  #isFailureNoted = false
  /** The HTTP answer is over and the call is not. */
  #isDeferred = false
  #isClosed = false
  /** Why no answer can come on another stream any more. */
  lostFor: string | undefined
  /** Why a stream has ended early whose rest the client may fetch by another. */
  #brokenOffFor: string | undefined
  /** How long the answer may take once it is to come elsewhere, ms. */
  #elsewhereMs = 0
  /** Until the call is deferred it is watched by its own connection to the server. */
  giveUpMono = Number.POSITIVE_INFINITY

  constructor(call: Forwarded, parts: CallEndParts, epoch: number) {
    this.#call = call
    this.#exchange = call.exchange
    this.#parts = parts
    this.#epoch = epoch
    this.expected = parts.answersFor(call)
  }

  get isList(): boolean {
    return this.expected.isList
  }

  get shows(): AnswerParts['shows'] {
    return this.expected.shows
  }

  get isAnswered(): boolean {
    return this.expected.answers.outcome !== undefined
  }

  /**
   * The call goes out: in its session the answer may come on another stream, even before its own begins.
   *
   * @param elsewhereMs  How long the answer may take once its own HTTP answer is over.
   */
  expect(elsewhereMs: number): void {
    this.#elsewhereMs = elsewhereMs
    const { session, posted } = this.#call
    if (session === undefined) return
    const { sessionCalls } = this.#parts
    for (const message of posted.messages) {
      if (message.kind === 'request' && message.id !== undefined) sessionCalls.expect(session, message.id, this)
      else if (message.method === 'notifications/cancelled') {
        const id = message.params?.['requestId']
        if (typeof id === 'string' || typeof id === 'number') sessionCalls.cancelled(session, id)
      }
    }
  }

  /** A stream has begun, or the server has taken the call: a breaker that is being probed need not wait for the end. */
  began(): void {
    this.#parts.began(this.#epoch)
  }

  /** The server has failed in this call, whatever becomes of the answer. */
  noteFailure(): void {
    if (!this.#isFailureNoted) this.#parts.note(true, this.#epoch)
    this.#isFailureNoted = true
  }

  /** An error of HTTP is the answer, whatever its body says; and somebody has to be left who can tell of another. */
  get mayComeElsewhere(): boolean {
    return this.#call.session !== undefined && this.lostFor === undefined && this.#exchange.status < 400
  }

  /**
   * The same when the HTTP answer ends before its time. Such a call holds no slot any more, so nothing bounds how many
   * there are; with large bodies, which their audit lines tell of, they would keep other large ones out.
   */
  get mayBeFetched(): boolean {
    return this.mayComeElsewhere && this.#exchange.bytesIn <= MOST_KEPT_BYTES
  }

  /** The HTTP answer is over, without the answer to the call. @param bytesOut  Its bytes. */
  defer(bytesOut: number): void {
    this.#isDeferred = true
    this.#exchange.bytesOut = bytesOut
    this.giveUpMono = performance.now() + this.#elsewhereMs
    this.began()
  }

  /** Likewise when the HTTP answer ended before its time, and the client may fetch the rest by another stream. */
  deferRest(bytesOut: number, brokenOffFor: string): void {
    this.#brokenOffFor = brokenOffFor
    // That stream takes a slot of its own; a caller with a single one could not fetch his answer.
    this.#call.lease?.release()
    this.defer(bytesOut)
  }

  /** The answer has come on another stream of the session, or is about to come on its own. */
  answered(seen: SeenMessage): void {
    this.expected.answers.see(seen)
    const { outcome } = this.expected.answers
    if (this.#isDeferred && outcome !== undefined) this.#close(outcome, nothing)
  }

  /** No answer on another stream is matched to the call any more. */
  lost(why: string): void {
    this.lostFor = why
    if (!this.#isDeferred) return
    this.#exchange.error ??= this.#brokenOffFor === undefined ? why : `${this.#brokenOffFor}; ${why}`
    this.#close('aborted', nothing)
  }

  /**
   * The HTTP answer is over, and the call with it.
   *
   * @param bytesOut  Bytes of the answer.
   * @param last      Sends what is left of it, once the line is with the kernel.
   */
  close(outcome: Outcome, bytesOut: number, last: () => void): void {
    this.#exchange.bytesOut = bytesOut
    this.#close(outcome, last)
  }

  /** The call is answered by a refusal, which closes the exchange by itself. */
  settle(): void {
    this.#isClosed = true
    this.#isDeferred = false
    this.#tellBreaker()
    const { session, posted } = this.#call
    if (session !== undefined) {
      for (const message of posted.messages) {
        if (message.id !== undefined) this.#parts.sessionCalls.settle(session, message.id, this)
      }
    }
    this.#parts.settle(this.#call)
  }

  /** How a call has ended whose plain HTTP answer is over, and whose answer has not been seen. */
  unanswered(): Outcome {
    if (this.#exchange.status >= 400) return 'error'
    this.#exchange.error ??= this.lostFor ?? 'the server has answered without a response to the request'
    return 'aborted'
  }

  #close(outcome: Outcome, last: () => void): void {
    if (this.#isClosed) return
    this.settle()
    const exchange = this.#exchange
    // Nothing but an error has such a status, also for what expects no answer and finds no error with its id.
    exchange.outcome = outcome !== 'aborted' && exchange.status >= 400 ? 'error' : outcome
    exchange.rpcError = this.expected.answers.rpcError
    exchange.endedMono = performance.now()
    this.#parts.book.closed(exchange, last)
  }

  #tellBreaker(): void {
    if (this.#isFailureNoted) return
    if (this.#exchange.status >= 500) this.#parts.note(true, this.#epoch)
    else if (this.expected.answers.rpcError?.code === INTERNAL_ERROR)
      this.#parts.noteInternalError(this.#call, this.#epoch)
    else if (this.#exchange.status > 0) this.#parts.note(false, this.#epoch)
    // A call that its client broke off says nothing about the server.
    else this.#parts.forget(this.#epoch)
  }
}

const MOST_KEPT_BYTES = 64 * 1024
/** JSON-RPC 2.0 §5.1. */
const INTERNAL_ERROR = -32603

function nothing(): void {}

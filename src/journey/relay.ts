import { performance } from 'node:perf_hooks'
import type { Exchange, Outcome } from '../core/audit/exchange.ts'
import type { Refusal } from '../core/refusal.ts'
import type { OpenCall, Reply, ReplyListener } from './arrival.ts'
import type { Forwarded } from './call.ts'
import { type AnswerParts, CallEnd, type CallEndParts } from './call-end.ts'
import { headerOf } from './header-of.ts'
import type { Passage } from './passage.ts'
import type { AnswerSink, Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest } from './upstream.ts'

export interface RelayParts extends CallEndParts {
  readonly upstream: Upstream
  /** Chooses how the body is read, and learns what the head tells (sessions). */
  passageFor(call: Forwarded, answers: AnswerParts, status: number, headers: readonly string[]): Passage
  /** Headers for the client: hop-by-hop fields gone, quota headers added. */
  answerHeaders(call: Forwarded, headers: readonly string[], bodyLength: number | undefined): string[]
  refuse(call: Forwarded, refusal: Refusal): void
  /** @returns why the stream has to end at once, when its caller would be refused by now. */
  streamOpened(relay: Relay): string | undefined
  streamClosed(relay: Relay): void
  /** Longest that an answer which is no stream may take once it has begun. */
  plainAnswerMs(): number
}

/**
 * Carries one answer from the upstream to the client, unbuffered, with backpressure both ways, and ends the exchange:
 * at the last byte, when either side breaks off, or when the stream has to end with the caller's standing.
 *
 * The audit line of a plain answer is with the kernel before the answer's last piece leaves; an event stream's
 * `mcp.started` line before its first.
 */
export class Relay implements AnswerSink, OpenCall, ReplyListener {
  readonly call: Forwarded
  readonly #parts: RelayParts
  readonly #end: CallEnd
  readonly #exchange: Exchange
  readonly #reply: Reply
  #upstream: UpstreamCall | undefined
  #passage: Passage | undefined
  #isStream = false
  /** The last piece of a plain answer, held until the audit line is written. */
  #last: Buffer | undefined
  /** The line that must come first is not with the kernel yet; what arrives meanwhile waits here. */
  #waiting: Buffer[] | undefined
  #over = false
  #ended = false
  #interruptedFor: string | undefined
  #breakMono = Number.POSITIVE_INFINITY
  /** Nothing that was sent of an event stream waits for its client. */
  #isTaken = false
  /** Events of our own that wait for a boundary. */
  #injected: Buffer[] | undefined

  constructor(call: Forwarded, parts: RelayParts, epoch: number) {
    this.call = call
    this.#parts = parts
    this.#exchange = call.exchange
    this.#reply = call.arrival.reply
    this.#end = new CallEnd(call, parts, epoch)
  }

  get isStream(): boolean {
    return this.#isStream
  }

  start(request: UpstreamRequest): void {
    const { arrival } = this.call
    // While the call waited for a key, for room or for a quota its client may have gone, and nobody would tell again.
    if (this.#reply.isGone) return this.left('the client left')
    arrival.connection.calls.add(this)
    this.#reply.listener = this
    this.#exchange.upstreamStartedMono = performance.now()
    this.#end.expect(request.firstByteMs)
    this.#upstream = this.#parts.upstream.send(request, this)
  }

  head(status: number, headers: readonly string[], bodyLength: number | undefined): void {
    if (this.#over) return
    const encoding = headerOf(headers, 'content-encoding')
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      this.#drop({ reason: 'upstream_answer_encoded', encoding })
      return
    }
    this.#exchange.status = status
    this.#passage = this.#parts.passageFor(this.call, this.#end.expected, status, headers)
    if (this.#passage.fault !== undefined) {
      this.#drop(this.#passage.fault)
      return
    }
    const isStream = headerOf(headers, 'content-type')?.toLowerCase().startsWith('text/event-stream') === true
    if (!isStream) {
      // Nothing is sent yet: a body that breaks before its first byte still becomes a clean refusal.
      this.#held = { status, headers, bodyLength }
      return
    }
    this.#isStream = true
    if (status < 500) this.#end.began()
    this.#interruptedFor ??= this.#parts.streamOpened(this)
    this.#exchange.streamed = true
    this.#waiting = []
    // Never with the server's length: a list is cut, events of our own go in, and a stream may have to end early. What is
    // missing would be taken from the next answer on the connection, which may be another user's.
    this.#streamHead = this.#parts.answerHeaders(this.call, headers, undefined)
    this.#parts.book.started(this.#exchange, () => this.#release())
    if (this.#interruptedFor !== undefined) this.interrupt(this.#interruptedFor)
  }

  /** Headers of an event stream, which wait for its line as its events do. */
  #streamHead: readonly string[] | undefined
  #held: { status: number; headers: readonly string[]; bodyLength: number | undefined } | undefined

  data(chunk: Buffer): boolean {
    if (this.#over || this.#passage === undefined) return true
    const piece = this.#passage.take(chunk)
    if (this.#passage.fault !== undefined) {
      this.#drop(this.#passage.fault)
      return true
    }
    if (!this.#isStream) {
      if (piece === undefined) return true
      const before = this.#last
      this.#last = piece
      if (before === undefined) return true
      this.#sendHead()
      return this.#reply.write(before)
    }
    let flows = true
    if (piece !== undefined) {
      if (this.#waiting !== undefined) {
        this.#waiting.push(piece)
        flows = false
      } else {
        flows = this.#isTaken = this.#reply.write(piece)
      }
    }
    if (this.#injected !== undefined) this.#writeInjected()
    if (this.#passage.stopped) this.#endStream()
    return flows
  }

  end(): void {
    if (this.#over || this.#passage === undefined) return
    this.#exchange.upstreamEndedMono = performance.now()
    const rest = this.#passage.finish()
    if (this.#passage.fault !== undefined) {
      this.#drop(this.#passage.fault)
      return
    }
    if (this.#isStream) {
      if (this.#waiting !== undefined) {
        if (rest !== undefined) this.#waiting.push(rest)
        this.#ended = true
        return
      }
      if (rest !== undefined) this.#reply.write(rest)
      this.#closeStream()
      return
    }
    if (rest !== undefined && this.#last !== undefined) {
      this.#sendHead()
      this.#reply.write(this.#last)
    }
    this.#last = rest ?? this.#last
    const last = this.#last
    const send = (): void => {
      this.#sendHead(last)
      this.#reply.end(last)
    }
    // The answer may have been quicker on another stream.
    const outcome = this.#passage.outcome ?? this.#end.expected.answers.outcome
    if (outcome === undefined && this.#mayDefer()) {
      this.#defer()
      this.#parts.book.started(this.#exchange, send)
      return
    }
    this.#close(outcome ?? this.#end.unanswered(), send)
  }

  /** An event stream ends without the answer to its call when the server means to go on elsewhere. */
  #closeStream(): void {
    const outcome = this.#passage?.outcome
    if (outcome === undefined && this.#mayDefer()) {
      this.#defer()
      this.#reply.end()
      return
    }
    if (outcome === undefined) this.#exchange.error ??= this.#end.lostFor
    this.#close(outcome ?? 'aborted', () => this.#reply.end())
  }

  #mayDefer(): boolean {
    return this.#interruptedFor === undefined && this.#end.mayComeElsewhere
  }

  /** The answer to the call comes on another stream of the session. @param brokenOffFor  Why this one ends before its time. */
  #defer(brokenOffFor?: string): void {
    this.#over = true
    if (brokenOffFor === undefined) this.#end.defer(this.#bytesOut())
    else this.#end.deferRest(this.#bytesOut(), brokenOffFor)
    this.#leave()
  }

  fail(failure: UpstreamFailure): void {
    if (this.#over) return
    this.#exchange.upstreamEndedMono = performance.now()
    if (failure.kind !== 'busy') this.#end.noteFailure()
    this.#exchange.error = `upstream ${failure.kind}: ${failure.detail}`
    this.#drop(refusalFor(failure))
  }

  /** Ends an event stream at its next event boundary; a plain answer is nearly over and goes on. */
  interrupt(reason: string): void {
    if (this.#over || this.#ended) return
    if (this.#interruptedFor === undefined) this.#breakMono = performance.now() + BOUNDARY_MS
    this.#interruptedFor = reason
    if (!this.#isStream || this.#passage === undefined) return
    this.#exchange.error = `stream ended: ${reason}`
    if (this.#passage.stop()) this.#endStream()
  }

  /**
   * A stream whose event does not end is broken off; a plain answer may take as long to arrive as a stream may live, so
   * that a server which drips keeps nothing for ever.
   */
  checkTime(nowMono: number): void {
    if (this.#over) return
    if (this.#isStream) {
      if (nowMono < this.#breakMono) return
      this.#upstream?.cancel()
      this.#close('aborted', () => this.#reply.break())
      return
    }
    const waitedMs = Math.round(nowMono - (this.#exchange.upstreamStartedMono ?? nowMono))
    if (this.#held === undefined && !this.#reply.headSent) return
    if (waitedMs >= this.#parts.plainAnswerMs()) this.#drop({ reason: 'upstream_timeout', waitedMs })
  }

  /** Puts an event of our own into the stream, between two of the server's. */
  inject(event: Buffer): void {
    if (this.#over || !this.#isStream) return
    this.#injected ??= []
    this.#injected.push(event)
    this.#writeInjected()
  }

  #writeInjected(): void {
    if (this.#waiting !== undefined || this.#passage?.atBoundary !== true) return
    const injected = this.#injected ?? []
    this.#injected = undefined
    for (const event of injected) this.#reply.write(event)
  }

  /** The line is with the kernel: what has waited for it may go. */
  #release(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (this.#over || waiting === undefined) return
    this.#reply.head(this.#exchange.status, this.#streamHead ?? [], true)
    let flows = true
    for (const piece of waiting) flows = this.#isTaken = this.#reply.write(piece)
    if (this.#passage?.stopped === true) this.#endStream()
    else if (this.#ended) this.#closeStream()
    else if (flows) this.#upstream?.resume()
  }

  #endStream(): void {
    if (this.#waiting !== undefined) return
    this.#upstream?.cancel()
    if (this.#interruptedFor === 'stream_age' && this.#isResumable()) {
      this.#exchange.error = undefined
      this.#defer(`stream ended: ${this.#interruptedFor}`)
      this.#reply.end()
      return
    }
    this.#close(this.#passage?.outcome ?? 'aborted', () => this.#reply.end())
  }

  #sendHead(only?: Buffer): void {
    const held = this.#held
    if (held === undefined || this.#passage === undefined) return
    this.#held = undefined
    const length = this.#passage.rewrites ? only?.length : held.bodyLength
    this.#reply.head(held.status, this.#parts.answerHeaders(this.call, held.headers, length), false)
  }

  /** The answer cannot be passed on, or not to its end. */
  #drop(refusal: Refusal): void {
    if (this.#over) return
    this.#upstream?.cancel()
    if (!this.#reply.headSent) {
      this.#over = true
      this.#leave()
      this.#end.settle()
      this.#parts.refuse(this.call, refusal)
      return
    }
    // Part of it is with the client already; ending it in order would make it look complete.
    this.#exchange.refusal = refusal
    this.#exchange.error ??= refusal.reason
    this.#close('aborted', () => this.#reply.break())
  }

  drained(): void {
    this.#isTaken = true
    this.#upstream?.resume()
  }

  left(why: string): void {
    if (this.#over) return
    this.#exchange.upstreamEndedMono ??= performance.now()
    this.#upstream?.cancel()
    const outcome = this.#outcomeForOneWhoLeaves()
    if (outcome === undefined && this.#interruptedFor === undefined && this.#isResumable()) {
      return this.#defer(why)
    }
    if (outcome === undefined) this.#exchange.error ??= why
    this.#close(outcome ?? 'aborted', nothing)
  }

  /** Some clients leave a stream as soon as they have their answer, and do not wait for its end: such a call is done. */
  #outcomeForOneWhoLeaves(): Outcome | undefined {
    const hasAnswer = this.#isStream && this.#isTaken && this.call.route.kind === 'post'
    return hasAnswer ? this.#passage?.outcome : undefined
  }

  /** The server goes on with the call, and the client may fetch the rest of its stream, the answer in it, by another. */
  #isResumable(): boolean {
    return this.#passage?.isResumable === true && this.#passage.outcome === undefined && this.#end.mayBeFetched
  }

  #close(outcome: Outcome, last: () => void): void {
    if (this.#over) return
    this.#over = true
    this.#leave()
    this.#end.close(outcome, this.#bytesOut(), last)
  }

  #bytesOut(): number {
    return this.#reply.bytesWritten + (this.#isStream ? 0 : (this.#last?.length ?? 0))
  }

  /** The client's side is done with: nothing of it may call back any more. */
  #leave(): void {
    this.#reply.listener = undefined
    this.call.arrival.connection.done(this)
    if (this.#isStream) this.#parts.streamClosed(this)
  }
}

function refusalFor(failure: UpstreamFailure): Refusal {
  switch (failure.kind) {
    case 'unreachable':
      return { reason: 'upstream_unreachable', detail: failure.detail, retryAfterMs: 1000 }
    case 'busy':
      return { reason: 'sidecar_overloaded', retryAfterMs: 1000 }
    case 'timeout':
      return { reason: 'upstream_timeout', waitedMs: failure.waitedMs }
    case 'invalid':
      return { reason: 'upstream_answer_invalid', detail: failure.detail }
    case 'broke':
      return { reason: 'upstream_broke', detail: failure.detail }
  }
}

/** Longest that an interrupted stream may take to reach the end of an event. */
const BOUNDARY_MS = 10_000

function nothing(): void {}

import { performance } from 'node:perf_hooks'
import type { AnswerSink, UpstreamCall, UpstreamFailure, UpstreamRequest } from '../journey/upstream.ts'

/** The connection on which a call is under way. */
interface CarryingWire {
  pause(): void
  resume(): void
  destroy(): void
}

/** One request and what becomes of it. */
export class Call implements UpstreamCall {
  /** Until it is written. */
  #request: UpstreamRequest | undefined
  /** How long its parts may take, for as long as the call lives. */
  readonly firstByteMs: number
  readonly idleMs: number
  readonly #answer: AnswerSink
  wire: CarryingWire | undefined
  over = false
  startedMono = 0
  /** By then it has to have a connection. */
  connectByMono = 0
  /** The next byte has to be here by then. */
  deadlineMono = 0
  answered = false
  paused = false

  constructor(request: UpstreamRequest, answer: AnswerSink) {
    this.#request = request
    this.firstByteMs = request.firstByteMs
    this.idleMs = request.idleMs
    this.#answer = answer
  }

  /** To be called once: while the call waits for its answer, nobody needs head and body any more. */
  take(): UpstreamRequest {
    const request = this.#request as UpstreamRequest
    this.#request = undefined
    return request
  }

  head(status: number, headers: string[], bodyLength: number | undefined): void {
    this.answered = true
    this.#answer.head(status, headers, bodyLength)
  }

  data(chunk: Buffer): void {
    if (this.over) return
    if (!this.#answer.data(chunk) && !this.over && !this.paused) {
      this.paused = true
      this.wire?.pause()
    }
  }

  end(): void {
    if (this.over) return
    this.over = true
    this.#answer.end()
  }

  fail(what: UpstreamFailure): void {
    if (this.over) return
    this.over = true
    this.#answer.fail(what)
  }

  resume(): void {
    // Once it is over the connection is another call's.
    if (!this.paused || this.over) return
    this.paused = false
    this.deadlineMono = performance.now() + this.idleMs
    this.wire?.resume()
  }

  cancel(): void {
    if (this.over) return
    this.over = true
    this.wire?.destroy()
  }
}

export function failure(
  kind: UpstreamFailure['kind'],
  detail: string,
  sent: boolean,
  waitedMs: number,
): UpstreamFailure {
  return { kind, detail, sent, waitedMs: Math.round(waitedMs) }
}

import type { Outcome } from '../core/audit/exchange.ts'
import { AnswerScan } from '../core/mcp/answer-scan.ts'
import { filterLists, type ListFilter } from '../core/mcp/list-filter.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'
import type { Refusal } from '../core/refusal.ts'
import type { CallAnswers } from './call-answers.ts'

/** Passes the body of an answer on and reads it meanwhile; one kind for JSON, one for lists, one for event streams. */
export interface Passage {
  /** @returns what may go to the client now, undefined while it has to be held. */
  take(chunk: Buffer): Buffer | undefined
  /** @returns what was held, at the end of the answer. */
  finish(): Buffer | undefined
  /** Set when the answer cannot be passed on. */
  readonly fault: Refusal | undefined
  /** How the call ended by what was read; undefined when the answer to it has not been seen. */
  readonly outcome: Outcome | undefined
  readonly rpcError: { code: number; message: string } | undefined
  /** The body's length is not the upstream's. */
  readonly rewrites: boolean
  /** Asks for the end at the next event boundary. @returns whether that is now. */
  stop(): boolean
  /** No event is half passed on: one of our own may go in between. False for everything but event streams. */
  readonly atBoundary: boolean
  /** An event with an id has been passed on: whoever leaves the stream may go on after it on another (`Last-Event-ID`). */
  readonly isResumable: boolean
  /** After `stop`: the boundary has been passed on, nothing more may be. */
  readonly stopped: boolean
}

/** Bytes that are not read: answers to notifications, empty bodies, media types that MCP does not use. */
export class PlainPassage implements Passage {
  readonly fault = undefined
  readonly outcome: Outcome | undefined
  readonly rpcError = undefined
  readonly rewrites = false
  readonly stopped = false
  readonly atBoundary = false
  readonly isResumable = false

  /** @param outcome  Undefined when the answer to the call is to come elsewhere. */
  constructor(outcome: Outcome | undefined) {
    this.outcome = outcome
  }

  take(chunk: Buffer): Buffer {
    return chunk
  }

  finish(): undefined {
    return undefined
  }

  stop(): boolean {
    return false
  }
}

/** A JSON answer: passed on as it comes, its top-level keys noticed on the way. */
export class JsonPassage implements Passage {
  readonly rewrites: boolean = false
  readonly stopped = false
  readonly atBoundary = false
  readonly isResumable = false
  readonly #answers: CallAnswers
  readonly #scan: AnswerScan

  constructor(answers: CallAnswers) {
    this.#answers = answers
    this.#scan = new AnswerScan(seen => answers.see(seen))
  }

  get fault(): Refusal | undefined {
    return this.#answers.fault
  }

  get outcome(): Outcome | undefined {
    return this.#answers.outcome
  }

  get rpcError(): { code: number; message: string } | undefined {
    return this.#answers.rpcError
  }

  take(chunk: Buffer): Buffer | undefined {
    this.#scan.push(chunk)
    return chunk
  }

  finish(): Buffer | undefined {
    return undefined
  }

  stop(): boolean {
    return false
  }
}

/** A JSON answer that is a list: held until it is whole, then without what the caller may not use. */
export class ListPassage implements Passage {
  readonly rewrites = true
  readonly stopped = false
  readonly atBoundary = false
  readonly isResumable = false
  readonly #answers: CallAnswers
  readonly #filter: ListFilter
  readonly #limitBytes: number
  readonly #isAccepted: boolean
  readonly #held: Buffer[] = []
  #heldBytes = 0
  #fault: Refusal | undefined

  /** @param isAccepted  The status says that the answer comes elsewhere (202): the body may be a word like `Accepted`. */
  constructor(answers: CallAnswers, filter: ListFilter, limitBytes: number, isAccepted = false) {
    this.#answers = answers
    this.#isAccepted = isAccepted
    this.#filter = filter
    this.#limitBytes = limitBytes
  }

  get fault(): Refusal | undefined {
    return this.#fault ?? this.#answers.fault
  }

  get outcome(): Outcome | undefined {
    return this.#answers.outcome
  }

  get rpcError(): { code: number; message: string } | undefined {
    return this.#answers.rpcError
  }

  take(chunk: Buffer): undefined {
    this.#heldBytes += chunk.length
    if (this.#heldBytes > this.#limitBytes) {
      this.#fault = { reason: 'upstream_event_too_large', limitBytes: this.#limitBytes }
      return undefined
    }
    this.#held.push(chunk)
    return undefined
  }

  finish(): Buffer | undefined {
    const whole = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held)
    if (whole.length === 0) return undefined
    new AnswerScan((seen: SeenMessage) => this.#answers.see(seen)).push(whole)
    const filtered = filterLists(whole, this.#filter)
    if (filtered.ok) return filtered.value
    if (this.#isAccepted && !whole.includes('{')) return whole
    this.#fault = filtered.error
    return undefined
  }

  stop(): boolean {
    return false
  }
}

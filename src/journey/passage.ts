import type { Outcome } from '../core/audit/exchange.ts'
import type { Refusal } from '../core/refusal.ts'

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
  /** The body's length changes, or is not known before its end. */
  readonly rewrites: boolean
  /** Asks for the end at the next event boundary. @returns whether that is now. */
  stop(): boolean
  /** After `stop`: the boundary has been passed on, nothing more may be. */
  readonly stopped: boolean
}

/** Bytes that are not read: answers to notifications, empty bodies, media types that MCP does not use. */
export class PlainPassage implements Passage {
  readonly fault = undefined
  readonly outcome: Outcome
  readonly rpcError = undefined
  readonly rewrites = false
  readonly stopped = false

  constructor(status: number) {
    this.outcome = status < 400 ? 'success' : 'error'
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

import { performance } from 'node:perf_hooks'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'
import { type BodyRoom, SMALL_BODY } from './body-room.ts'

/** The body of one request while it arrives, kept from its first byte on. What comes after a refusal is thrown away. */
export class IncomingBody {
  /** All of it has come. */
  isWhole = false
  isAsked = false
  #first: Buffer | undefined
  #more: Buffer[] | undefined
  /** Small pieces, copied together: a client may send its body byte by byte, and each would keep a few hundred more. */
  #small: Buffer | undefined
  #smallBytes = 0
  #bytes = 0
  #limitBytes = Number.POSITIVE_INFINITY
  /** When it has to be whole; `Infinity` while nobody waits for it. */
  #dueMono = Number.POSITIVE_INFINITY
  #waitedMs = 0
  #refusal: Refusal | undefined
  #settle: ((body: Result<Buffer, Refusal>) => void) | undefined
  readonly #room: BodyRoom | undefined
  /** Bytes that were taken from the room. */
  #roomBytes = 0

  constructor(room?: BodyRoom) {
    this.#room = room
  }

  get isRefused(): boolean {
    return this.#refusal !== undefined
  }

  /** Somebody waits for it. */
  get isAwaited(): boolean {
    return this.#settle !== undefined
  }

  /** @returns false when more has come than is kept for somebody who may never ask: the rest has to wait. */
  take(piece: Buffer): boolean {
    if (this.#refusal !== undefined) return true
    this.#bytes += piece.length
    if (this.#bytes > this.#limitBytes) this.refuse({ reason: 'message_too_large', limitBytes: this.#limitBytes })
    else if (this.isAsked && !this.#hasRoom()) this.refuse(NO_ROOM)
    else if (this.#first === undefined) this.#first = piece
    else this.#keep(piece)
    return this.isAsked || this.#bytes <= MOST_UNASKED
  }

  /** Only for what has been asked for: whoever asks is sure to say when the call is over. */
  #hasRoom(): boolean {
    if (this.#room === undefined || this.#bytes <= SMALL_BODY) return true
    if (!this.#room.take(this.#bytes - this.#roomBytes, this.#bytes)) return false
    this.#roomBytes = this.#bytes
    return true
  }

  /** The call is over, and nothing of its body is kept. */
  letGo(): void {
    this.#room?.giveBack(this.#roomBytes)
    this.#roomBytes = 0
  }

  #keep(piece: Buffer): void {
    this.#more ??= [this.#first as Buffer]
    if (piece.length >= SMALL_BYTES) {
      this.#keepSmall()
      this.#more.push(piece)
      return
    }
    if (this.#small !== undefined && this.#smallBytes + piece.length > this.#small.length) this.#keepSmall()
    this.#small ??= Buffer.allocUnsafeSlow(SMALL_BYTES * 4)
    this.#smallBytes += piece.copy(this.#small, this.#smallBytes)
  }

  #keepSmall(): void {
    if (this.#small !== undefined) this.#more?.push(this.#small.subarray(0, this.#smallBytes))
    this.#small = undefined
    this.#smallBytes = 0
  }

  /** All of it has come. */
  end(): void {
    this.isWhole = true
    if (this.#settle !== undefined) this.#answer(ok(this.#all()))
  }

  /** It will not come, or is not wanted. */
  refuse(refusal: Refusal): void {
    if (this.#refusal !== undefined) return
    this.#refusal = refusal
    this.#first = undefined
    this.#more = undefined
    this.#small = undefined
    this.letGo()
    this.#answer(err(refusal))
  }

  /** To be called once. Without waiting when it is here already, or refused; else it has to be here in `withinMs`. */
  read(limitBytes: number, withinMs: number): Result<Buffer, Refusal> | Promise<Result<Buffer, Refusal>> {
    this.isAsked = true
    this.#limitBytes = limitBytes
    if (this.#bytes > limitBytes) this.refuse({ reason: 'message_too_large', limitBytes })
    else if (!this.#hasRoom()) this.refuse(NO_ROOM)
    if (this.#refusal !== undefined) return err(this.#refusal)
    if (this.isWhole) return ok(this.#all())
    this.#dueMono = performance.now() + withinMs
    this.#waitedMs = withinMs
    return new Promise(resolve => {
      this.#settle = resolve
    })
  }

  checkTime(nowMono: number): void {
    if (nowMono >= this.#dueMono) this.refuse({ reason: 'request_timeout', waitedMs: this.#waitedMs })
  }

  /** Hands it over: nothing of it stays here. */
  #all(): Buffer {
    this.#keepSmall()
    const all = this.#more === undefined ? (this.#first ?? EMPTY) : Buffer.concat(this.#more, this.#bytes)
    this.#first = undefined
    this.#more = undefined
    return all
  }

  #answer(body: Result<Buffer, Refusal>): void {
    this.#dueMono = Number.POSITIVE_INFINITY
    const settle = this.#settle
    this.#settle = undefined
    settle?.(body)
  }
}

export const CUT_OFF: Refusal = { reason: 'request_malformed', detail: 'the body was cut off' }
const EMPTY = Buffer.alloc(0)
const SMALL_BYTES = 1024
/** As much as a client may send over HTTP/2 before it is told to go on. */
const MOST_UNASKED = 64 * 1024
const NO_ROOM: Refusal = { reason: 'sidecar_overloaded', retryAfterMs: 1000 }

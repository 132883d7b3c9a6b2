import type { Http2ServerRequest } from 'node:http2'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'

/** The body of one request while it arrives: read once, whole and bounded. What comes after a refusal is thrown away. */
export class BodyReading {
  readonly result: Promise<Result<Buffer, Refusal>>
  readonly #limitBytes: number
  #resolve!: (result: Result<Buffer, Refusal>) => void
  readonly #settled: (result: Result<Buffer, Refusal>) => void
  #first: Buffer | undefined
  #more: Buffer[] | undefined
  #bytes = 0
  #isOver = false

  /** @param settled  Called with the result, before anybody who waits for it goes on. */
  constructor(request: Http2ServerRequest, limitBytes: number, settled: (result: Result<Buffer, Refusal>) => void) {
    this.#limitBytes = limitBytes
    this.#settled = settled
    this.result = new Promise(resolve => {
      this.#resolve = resolve
    })
    request.on('data', (chunk: Buffer) => this.#take(chunk))
    request.on('end', () => this.#end())
    request.on('close', () => this.refuse(CUT_OFF))
  }

  refuse(refusal: Refusal): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#settle(err(refusal))
  }

  #settle(result: Result<Buffer, Refusal>): void {
    this.#settled(result)
    this.#resolve(result)
  }

  #take(chunk: Buffer): void {
    if (this.#isOver) return
    this.#bytes += chunk.length
    if (this.#bytes > this.#limitBytes) this.refuse({ reason: 'message_too_large', limitBytes: this.#limitBytes })
    else if (this.#first === undefined) this.#first = chunk
    else if (this.#more === undefined) this.#more = [this.#first, chunk]
    else this.#more.push(chunk)
  }

  #end(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#settle(ok(this.#more === undefined ? (this.#first ?? EMPTY) : Buffer.concat(this.#more, this.#bytes)))
  }
}

export const CUT_OFF: Refusal = { reason: 'request_malformed', detail: 'the body was cut off' }
const EMPTY = Buffer.alloc(0)

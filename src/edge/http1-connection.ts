import { performance } from 'node:perf_hooks'
import type { TLSSocket } from 'node:tls'
import { type RequestHead, type RequestParts, RequestReader } from '../core/http1/request-reader.ts'
import type { Refusal } from '../core/refusal.ts'
import type { ArrivalDeadlines } from './arrival-deadlines.ts'
import type { Connection } from './connection.ts'
import { Http1Arrival } from './http1-arrival.ts'

export interface Http1Options {
  /** Most bytes of a head. */
  readonly headBytes: number
  readonly headersMs: number
  readonly idleMs: number
  readonly deadlines: ArrivalDeadlines
  arrival(arrival: Http1Arrival): void
  /** Bytes that never became a request. The connection is answered here, and ends. */
  malformed(connection: Connection, refusal: Refusal): void
}

/**
 * HTTP/1.1 on one verified connection: one request at a time, in the order in which they came. What a client sends before
 * it has its answer waits here, at most `MOST_WAITING`, and then in its own kernel.
 *
 * Why not Node's server: docs/decisions/0006-http1-server.md. HTTP/2 stays with Node.
 */
export class Http1Connection implements RequestParts {
  readonly connection: Connection
  readonly options: Http1Options
  readonly #socket: TLSSocket
  readonly #reader: RequestReader
  /** `Keep-Alive` and its time, for every answer after which the connection stays. */
  readonly stays: string
  /** The request that is being read or answered. */
  #current: Http1Arrival | undefined
  /** Its head has just been read, and nobody has been told. */
  #isNew = false
  /** What has come of requests after the current one. */
  #waiting: Buffer | undefined
  #isReading = false
  #isPaused = false
  #isOver = false
  /** The framing of a body was not understood: what comes after it means nothing. */
  #isDeaf = false
  /** When the last answer was over, or a head began; at first when the connection was opened. */
  #sinceMono = performance.now()
  #isFirst = true
  /** One for all answers: what is made for each call lives as long as the next full garbage collection. */
  readonly onSent = (error?: Error | null): void => {
    if (error == null) this.#current?.sent()
  }

  constructor(socket: TLSSocket, connection: Connection, options: Http1Options) {
    this.#socket = socket
    this.connection = connection
    this.options = options
    this.#reader = new RequestReader(options.headBytes)
    this.stays = `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(options.idleMs / 1000)}\r\n`
    connection.waiting.add(this)
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#current?.drained())
    socket.on('end', () => this.#onGone())
    socket.on('close', () => this.#onGone())
  }

  /** @internal */
  get socket(): TLSSocket {
    return this.#socket
  }

  head(head: RequestHead): void {
    this.#isFirst = false
    this.#isNew = true
    this.#current = new Http1Arrival(head, this)
    this.connection.requestBegun()
  }

  data(piece: Buffer): void {
    this.#current?.take(piece)
  }

  /** Called by the connection now and then. */
  checkTime(nowMono: number): void {
    if (this.#isOver) return
    if (this.#current !== undefined) return this.#current.checkTime(nowMono)
    const { headersMs, idleMs } = this.options
    if (this.#isFirst || !this.#reader.isBetween) {
      if (nowMono - this.#sinceMono >= headersMs) this.#refuse({ reason: 'request_timeout', waitedMs: headersMs }, 408)
    } else if (nowMono - this.#sinceMono >= idleMs + IDLE_MARGIN_MS) this.#end()
  }

  /** @internal The body has been asked for, and more of it may come. */
  readOn(): void {
    if (!this.#isPaused || this.#waiting !== undefined) return
    this.#isPaused = false
    this.#socket.resume()
  }

  /** @internal Nobody has asked for the body yet, and much of it has come. */
  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#socket.pause()
  }

  /** @internal The answer is with the kernel. @param last  Nothing more is taken from this connection. */
  answered(last: boolean): void {
    this.#current = undefined
    this.#sinceMono = performance.now()
    this.connection.requestOver()
    // A connection that was told to go while it answered has just ended: what waits would be done and never answered.
    if (last || !this.#socket.writable) {
      this.#isOver = true
      this.#waiting = undefined
      return
    }
    this.#reader.next()
    if (!this.#isReading) this.#readWaiting()
  }

  #onData(chunk: Buffer): void {
    // What crosses our end of the connection must not be done either; its client sees that it was not taken.
    if (this.#isOver || this.#isDeaf || !this.#socket.writable) return
    if (this.#waiting !== undefined || (this.#current !== undefined && this.#reader.isWhole)) return this.#wait(chunk)
    if (this.#reader.isBetween && !this.#isFirst) this.#sinceMono = performance.now()
    this.#read(chunk)
  }

  /** Reads until the chunk ends or a request has to be answered first. */
  #read(chunk: Buffer): void {
    let at = 0
    this.#isReading = true
    while (at < chunk.length && !this.#isOver && !this.#isDeaf) {
      const next = this.#reader.feed(chunk, at, this)
      if (typeof next !== 'number') {
        this.#isReading = false
        const status = next.kind === 'malformed' ? 400 : 431
        if (status === 431) return this.#refuse({ reason: 'request_headers_too_large' }, 431)
        return this.#refuse({ reason: 'request_malformed', detail: next.detail }, 400)
      }
      at = next
      const arrival = this.#current
      if (arrival === undefined) continue
      if (this.#reader.isWhole) arrival.whole()
      if (this.#isNew) {
        // Told only now: of a small request the body has come with the head, and need not be waited for.
        this.#isNew = false
        this.options.arrival(arrival)
      }
      if (this.#current === arrival && this.#reader.isWhole) break
    }
    this.#isReading = false
    if (at < chunk.length && !this.#isOver && !this.#isDeaf) this.#wait(at === 0 ? chunk : chunk.subarray(at))
  }

  #wait(chunk: Buffer): void {
    this.#waiting = this.#waiting === undefined ? chunk : Buffer.concat([this.#waiting, chunk])
    if (this.#waiting.length > MOST_WAITING) this.pause()
  }

  #readWaiting(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    if (waiting !== undefined) this.#read(waiting)
    if (this.#waiting === undefined) this.readOn()
  }

  /** Answers what never became a request. */
  #refuse(refusal: Refusal, status: 400 | 408 | 431): void {
    const cut = this.#current
    if (cut !== undefined) {
      // The request is known and its body is not to be read: it has an exchange of its own, which tells of it.
      this.#isDeaf = true
      cut.cutOff(refusal)
      // It may be as new as its fault.
      if (this.#isNew) this.options.arrival(cut)
      this.#isNew = false
      return
    }
    this.#isOver = true
    this.options.malformed(this.connection, refusal)
    if (this.#socket.writable) {
      const head = `HTTP/1.1 ${status} ${REASON[status]}\r\nConnection: close\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n`
      this.#socket.end(head)
    }
    // A peer that keeps sending must not keep the socket.
    this.linger()
  }

  /** @internal Throws away what still comes, for a moment: closing on unread bytes could take the answer with it (RFC 9112 §9.6). */
  linger(): void {
    this.#isOver = true
    this.#socket.resume()
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref()
  }

  #end(): void {
    this.#isOver = true
    this.#socket.destroySoon()
  }

  #onGone(): void {
    const current = this.#current
    this.#isOver = true
    this.#current = undefined
    this.#waiting = undefined
    if (current === undefined) return
    this.connection.requestOver()
    current.left()
  }
}

/** Requests that a client has sent ahead; beyond this it has to wait. */
const MOST_WAITING = 64 * 1024
/** So that a client which keeps to the `Keep-Alive` it was told never meets a connection that is just closing. */
const IDLE_MARGIN_MS = 1000
const LINGER_MS = 1000
const REASON = { 400: 'Bad Request', 408: 'Request Timeout', 431: 'Request Header Fields Too Large' } as const

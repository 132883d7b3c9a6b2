import { performance } from 'node:perf_hooks'
import type { TLSSocket } from 'node:tls'
import { type RequestHead, type RequestParts, RequestReader } from '../core/http1/request-reader.ts'
import type { Refusal } from '../core/refusal.ts'
import type { ArrivalDeadlines } from './arrival-deadlines.ts'
import type { BodyRoom } from './body-room.ts'
import type { Connection } from './connection.ts'
import { Http1Arrival } from './http1-arrival.ts'

export interface Http1Options {
  /** Most bytes of a head. */
  readonly headBytes: number
  readonly headersMs: number
  readonly idleMs: number
  readonly deadlines: ArrivalDeadlines
  readonly bodyRoom: BodyRoom
  /** Calls `read` of the connection when its turn has come. */
  inTurn(connection: Http1Connection): void
  arrival(arrival: Http1Arrival): void
  /** Bytes that never became a request. The connection is answered here, and ends. */
  malformed(connection: Connection, refusal: Refusal): void
}

/**
 * HTTP/1.1 on one verified connection: one request at a time, in the order in which they came. What a client sends before
 * it has its answer waits here, at most `MOST_WAITING`, and then in its own kernel, but not for long: see `MOST_PAUSED_MS`.
 *
 * A request is read when its turn has come, and not before: of a crowd that asks at once there is nothing but bytes until
 * then. What is made of them would grow old while it waits, and cost a collection of the old.
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
  /** What has come and is still to be read: of a request whose turn has not come, or after the current one. */
  #waiting: Buffer[] | undefined
  #waitingBytes = 0
  #isInTurn = false
  #isPaused = false
  #pausedMono = 0
  /** As much of a body has come as is kept for somebody who may never ask for it. */
  #isHeld = false
  #isGone = false
  #isOver = false
  /** @internal What still comes is thrown away: the framing of a body was not understood, or too much was sent ahead. */
  isDeaf = false
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
    if (this.#isOver || this.#isInTurn) return
    if (this.#current !== undefined) {
      if (this.#isPaused && !this.#isHeld) this.#checkPaused(nowMono)
      return this.#current.checkTime(nowMono)
    }
    const { headersMs, idleMs } = this.options
    if (this.#isFirst || !this.#reader.isBetween) {
      if (nowMono - this.#sinceMono >= headersMs) this.#refuse({ reason: 'request_timeout', waitedMs: headersMs }, 408)
    } else if (nowMono - this.#sinceMono >= idleMs + IDLE_MARGIN_MS) this.#end()
  }

  /** Behind the same call for too long: what was sent ahead is not done, and the connection ends with the answer. */
  #checkPaused(nowMono: number): void {
    if (nowMono - Math.max(this.#pausedMono, this.#sinceMono) < MOST_PAUSED_MS) return
    this.isDeaf = true
    this.#waiting = undefined
    this.#waitingBytes = 0
    this.#resume()
  }

  /** @internal Nobody has asked for the body yet, and much of it has come. */
  hold(): void {
    this.#isHeld = true
    this.#pause()
  }

  /** @internal The body has been asked for: nothing of it is held back, and whoever leaves is noticed. */
  readOn(): void {
    this.#isHeld = false
    this.#resume()
  }

  #pause(): void {
    if (this.#isPaused) return
    this.#socket.pause()
    this.#isPaused = true
    this.#pausedMono = performance.now()
  }

  #resume(): void {
    if (!this.#isPaused || this.#isHeld || this.#waitingBytes > MOST_WAITING) return
    this.#isPaused = false
    this.#socket.resume()
  }

  /** @internal The answer is with the kernel. @param last  Nothing more is taken from this connection. */
  answered(last: boolean): void {
    this.#current = undefined
    this.#sinceMono = performance.now()
    // The request was whole: what is not listened to is what was sent ahead.
    if (this.isDeaf && this.#reader.isWhole) this.connection.retiredFor ??= 'TOO_MUCH_SENT_AHEAD'
    this.connection.requestOver()
    // A connection that was told to go while it answered has just ended: what waits would be done and never answered.
    if (last || !this.#socket.writable) {
      this.#isOver = true
      this.#waiting = undefined
      return
    }
    this.#reader.next()
    this.#isHeld = false
    if (this.#waiting === undefined) this.#resume()
    else this.#waitForTurn()
  }

  #onData(chunk: Buffer): void {
    // What crosses our end of the connection must not be done either; its client sees that it was not taken.
    if (this.#isOver || this.isDeaf || !this.#socket.writable) return
    const isBetween = this.#current === undefined && this.#waiting === undefined && this.#reader.isBetween
    if (isBetween && !this.#isFirst) this.#sinceMono = performance.now()
    if (this.#waiting === undefined) this.#waiting = [chunk]
    else if (this.#waiting.length < MOST_PIECES) this.#waiting.push(chunk)
    else this.#waiting = [Buffer.concat([...this.#waiting, chunk])]
    this.#waitingBytes += chunk.length
    if (this.#current === undefined) this.#waitForTurn()
    // The rest of a body that somebody may be waiting for.
    else if (!this.#reader.isWhole) this.#readWaiting()
    if (this.#waitingBytes > MOST_WAITING) this.#pause()
  }

  #waitForTurn(): void {
    if (this.#isInTurn) return
    this.#isInTurn = true
    this.connection.hasUnread = true
    this.options.inTurn(this)
  }

  /** Its turn has come. */
  read(): void {
    this.#isInTurn = false
    this.#readWaiting()
    if (this.#isGone) this.#isOver = true
    this.connection.isRead()
  }

  /** Reads until nothing waits or a request has to be answered first. */
  #readWaiting(): void {
    while (this.#waiting !== undefined && !this.#isOver && !this.isDeaf) {
      if (this.#current !== undefined && this.#reader.isWhole) break
      const chunk = this.#waiting[0] as Buffer
      const read = this.#reader.feed(chunk, 0, this)
      if (typeof read !== 'number') {
        if (read.kind === 'malformed') this.#refuse({ reason: 'request_malformed', detail: read.detail }, 400)
        else this.#refuse({ reason: 'request_headers_too_large' }, 431)
        return
      }
      this.#waitingBytes -= read
      if (read < chunk.length) this.#waiting[0] = chunk.subarray(read)
      else if (this.#waiting.length === 1) this.#waiting = undefined
      else this.#waiting.shift()
    }
    const current = this.#current
    if (current !== undefined && this.#reader.isWhole) current.whole()
    // Told only now: of a small request the body has come with the head, and need not be waited for.
    if (current !== undefined && this.#isNew) this.#tell(current)
    this.#resume()
  }

  #tell(arrival: Http1Arrival): void {
    this.#isNew = false
    // Whoever has left before his turn is not served, and has his line all the same.
    if (this.#isGone) this.#leave()
    this.options.arrival(arrival)
  }

  /** Answers what never became a request. */
  #refuse(refusal: Refusal, status: 400 | 408 | 431): void {
    const cut = this.#current
    if (cut !== undefined) {
      // The request is known and its body is not to be read: it has an exchange of its own, which tells of it.
      this.isDeaf = true
      cut.cutOff(refusal)
      // It may be as new as its fault.
      if (this.#isNew) this.#tell(cut)
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
    if (this.#isGone) return
    this.#isGone = true
    if (this.#current !== undefined) this.#leave()
    // What has come, and waits for its turn, is still read then.
    if (!this.#isInTurn) this.#isOver = true
  }

  #leave(): void {
    const current = this.#current
    this.#current = undefined
    this.#isOver = true
    this.#waiting = undefined
    this.connection.requestOver()
    current?.left()
  }
}

/** Requests that a client has sent ahead; beyond this it has to wait. */
const MOST_WAITING = 64 * 1024
/**
 * How long it has to wait behind one call. A socket that is paused does not tell that its client has left: the call would
 * go on for nobody, a stream for an hour. Most calls are over in this time, and gateways send nothing ahead.
 */
const MOST_PAUSED_MS = 10_000
/** A client may send them byte by byte, and what there is of a piece besides its bytes is a few hundred more. */
const MOST_PIECES = 32
/** So that a client which keeps to the `Keep-Alive` it was told never meets a connection that is just closing. */
const IDLE_MARGIN_MS = 1000
const LINGER_MS = 1000
const REASON = { 400: 'Bad Request', 408: 'Request Timeout', 431: 'Request Header Fields Too Large' } as const

import net from 'node:net'
import { performance } from 'node:perf_hooks'
import { type AnswerParts, AnswerReader } from '../core/http1/answer-reader.ts'
import type { UpstreamFailure, UpstreamRequest } from '../journey/upstream.ts'
import { WhileInTime } from './turns.ts'
import { type Call, failure } from './upstream-call.ts'

/** What a connection tells the pool that it belongs to. */
export interface WirePool {
  /** The connection has been made. */
  connected(wire: Wire): void
  /** No connection could be made, and this one is gone. */
  refused(what: UpstreamFailure): void
  /** The connection can serve again. */
  idled(wire: Wire): void
  /** The connection is gone. */
  gone(wire: Wire): void
}

export type UpstreamTarget = { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string }

/**
 * Where the kernel puts what the server sends, for all connections: what has landed is taken out on the same tick. It
 * spares each read a buffer of its own, and the queue of a stream that nobody needs here.
 */
const LANDING = Buffer.allocUnsafeSlow(64 * 1024)

/** A crowd of answers in one turn would hold up whoever else waits for the event loop: health probes, other calls. */
const ANSWERS = new WhileInTime<Wire>(takeHeld)

/** Longest that an idle connection is kept when the server gives no hint; below what servers usually close after. */
const IDLE_MS = 4000
const ONE_WRITE_BYTES = 16 * 1024

/** One connection to the server. */
export class Wire implements AnswerParts {
  readonly #socket: net.Socket
  readonly #pool: WirePool
  readonly #reader = new AnswerReader()
  readonly #startedMono: number
  readonly #connectByMono: number
  #call: Call | undefined
  #connected = false
  #destroyed = false
  #ended = false
  #hasBody = false
  /** The server may have answered without having read the body: what is left of it would begin the next request. */
  #mayHaveLeftBody = false
  /** What has come and was late, see `ANSWERS`. Nothing more is read meanwhile. */
  #held: Buffer | undefined
  idleSinceMono = 0
  idleUntilMono = 0

  constructor(target: UpstreamTarget, connectMs: number, pool: WirePool) {
    this.#pool = pool
    this.#startedMono = performance.now()
    this.#connectByMono = this.#startedMono + connectMs
    const onread = { buffer: LANDING, callback: (bytes: number) => this.#onLanded(bytes) }
    const socket =
      target.kind === 'unix'
        ? net.connect({ path: target.path, onread })
        : net.connect({ host: target.host, port: target.port, noDelay: true, autoSelectFamily: false, onread })
    this.#socket = socket
    socket.on('connect', () => this.#onConnect())
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error: NodeJS.ErrnoException) => this.#onGone(error.code ?? error.message))
    socket.on('close', () => this.#onGone('closed'))
  }

  get isConnected(): boolean {
    return this.#connected
  }

  get usable(): boolean {
    return this.#connected && !this.#destroyed && !this.#ended
  }

  serve(call: Call): void {
    this.#call = call
    call.wire = this
    this.#reader.begin()
    const request = call.take()
    const head = headOf(request)
    const body = request.body
    this.#mayHaveLeftBody = false
    this.#hasBody = body !== undefined && body.length > 0
    if (body === undefined || body.length === 0) {
      this.#socket.write(head, 'latin1')
    } else if (body.length <= ONE_WRITE_BYTES) {
      const whole = Buffer.allocUnsafe(head.length + body.length)
      whole.write(head, 0, 'latin1')
      body.copy(whole, head.length)
      this.#socket.write(whole)
    } else {
      this.#socket.cork()
      this.#socket.write(head, 'latin1')
      this.#socket.write(body)
      this.#socket.uncork()
    }
  }

  checkTime(now: number): void {
    if (!this.#connected) {
      if (now >= this.#connectByMono) this.#refuse('unreachable', 'no connection in time')
      return
    }
    const call = this.#call
    if (call === undefined) {
      if (now >= this.idleUntilMono) this.destroy()
      return
    }
    // While the client is slow, or we are, it is our own pause that keeps the server silent.
    if (!call.paused && this.#held === undefined && now >= call.deadlineMono) {
      const waitedMs = call.answered ? call.idleMs : now - call.startedMono
      this.#fault(failure('timeout', call.answered ? 'the answer stopped' : 'no answer', true, waitedMs))
    }
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#socket.destroy()
    this.#pool.gone(this)
  }

  head(status: number, headers: string[], bodyLength: number | undefined): void {
    // Refusals are what servers send before they read; and what is still in our own queue nobody has read.
    this.#mayHaveLeftBody ||= this.#hasBody && (status >= 400 || this.#socket.writableLength > 0)
    this.#call?.head(status, headers, bodyLength)
  }

  data(chunk: Buffer): void {
    this.#call?.data(chunk)
  }

  end(): void {
    const call = this.#call
    this.#call = undefined
    call?.end()
  }

  #onConnect(): void {
    this.#connected = true
    this.#pool.connected(this)
    if (this.#call === undefined) this.#rest(performance.now())
  }

  /** @returns whether more may be read: false while the client is slower than the server, and while this waits. */
  #onLanded(bytes: number): boolean {
    const chunk = Buffer.allocUnsafe(bytes)
    LANDING.copy(chunk, 0, 0, bytes)
    const now = performance.now()
    // What nobody asked for is never held: the connection would be given to a call, and that would be its answer.
    if (this.#call !== undefined && ANSWERS.isLate(now)) {
      this.#held = chunk
      // As it is now: the kernel may take the rest of the body before this has its turn.
      if (this.#socket.writableLength > 0) this.#mayHaveLeftBody = true
      ANSWERS.wait(this)
      return false
    }
    this.#onData(chunk, now)
    return this.#call?.paused !== true
  }

  /** @internal What was late has its turn. */
  takeHeld(): void {
    const chunk = this.#held
    this.#held = undefined
    if (chunk === undefined || this.#destroyed) return
    this.#onData(chunk, performance.now())
    if (this.#call?.paused !== true) this.#socket.resume()
  }

  #onData(chunk: Buffer, now: number): void {
    const call = this.#call
    if (call === undefined) {
      // Bytes that nobody asked for would be taken for the answer to the next call.
      this.destroy()
      return
    }
    const fault = this.#reader.feed(chunk, this)
    if (fault !== undefined) {
      if (this.#call === undefined) this.destroy()
      else this.#fault(failure('invalid', fault, true, now - call.startedMono))
      return
    }
    // A head that drips does not count as an answer.
    if (call.answered) call.deadlineMono = now + call.idleMs
    if (this.#call === undefined) {
      if (!this.#reader.keepAlive || this.#mayHaveLeftBody) this.destroy()
      else {
        // Of a slow client's answer the end may wait on our side; the server's side is free.
        if (call.paused) this.#socket.resume()
        this.#rest(now)
      }
    }
  }

  #onEnd(): void {
    this.#ended = true
    const call = this.#call
    if (call !== undefined && this.#connected) {
      const fault = this.#reader.close(this)
      if (fault !== undefined && this.#call !== undefined) {
        this.#fault(failure('broke', fault, true, performance.now() - call.startedMono))
        return
      }
    }
    this.destroy()
  }

  #onGone(why: string): void {
    // What had come before may be the whole answer.
    this.takeHeld()
    if (!this.#connected) {
      if (!this.#destroyed) this.#refuse(NO_ROOM.has(why) ? 'busy' : 'unreachable', why)
      return
    }
    const call = this.#call
    if (call === undefined) this.destroy()
    else this.#fault(failure('broke', why, true, performance.now() - call.startedMono))
  }

  #refuse(kind: UpstreamFailure['kind'], why: string): void {
    this.destroy()
    this.#pool.refused(failure(kind, why, false, performance.now() - this.#startedMono))
  }

  #fault(what: UpstreamFailure): void {
    const call = this.#call
    this.#call = undefined
    this.destroy()
    call?.fail(what)
  }

  #rest(now: number): void {
    const hintMs = this.#reader.idleHintMs
    if (!this.usable) {
      this.destroy()
      return
    }
    const keepMs = hintMs === undefined ? IDLE_MS : Math.min(hintMs - 1000, 60_000)
    if (keepMs <= 0) {
      this.destroy()
      return
    }
    this.idleSinceMono = now
    this.idleUntilMono = now + keepMs
    this.#pool.idled(this)
  }
}

function headOf(request: UpstreamRequest): string {
  let head = `${request.method} ${request.path} HTTP/1.1\r\n`
  const { headers } = request
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
  return `${head}\r\n`
}

function takeHeld(wire: Wire): void {
  wire.takeHeld()
}

/** Not the server's fault: this process has no descriptors, ports or buffers left. */
const NO_ROOM: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'EADDRNOTAVAIL', 'ENOBUFS', 'ENOMEM'])

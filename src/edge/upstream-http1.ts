import net from 'node:net'
import { performance } from 'node:perf_hooks'
import { type AnswerParts, AnswerReader } from '../core/http1/answer-reader.ts'
import type { AnswerSink, Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest } from '../journey/upstream.ts'

export interface Http1UpstreamOptions {
  readonly target: { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string }
  readonly connectMs: number
  /** Most connections at a time; a call beyond them fails as unreachable. */
  readonly maxConnections: number
}

/** Longest that an idle connection is kept when the server gives no hint; below what servers usually close after. */
const IDLE_MS = 4000
/** After this long in the pool a connection is looked at for one turn of the event loop before it is used again. */
const LOOK_AFTER_MS = 250
/** Deadlines are checked this often, by one timer for all calls. */
const SWEEP_MS = 100
const ONE_WRITE_BYTES = 16 * 1024

/**
 * HTTP/1.1 to the server in the same pod: a bounded pool of keep-alive connections, one write a request, answers handed
 * on as they arrive. Written for this one hop, where undici's generality costs more CPU than all checks together
 * (docs/decisions/0003-upstream-client.md).
 *
 * A server that closes idle connections never costs a call: its `Keep-Alive` hint is kept with a margin, and since the
 * kernel hands over a loopback FIN at once, one turn of the event loop before reuse is enough to see it.
 */
export class Http1Upstream implements Upstream {
  readonly #options: Http1UpstreamOptions
  readonly #idle: Wire[] = []
  readonly #wires = new Set<Wire>()
  #closed = false
  #sweep: NodeJS.Timeout | undefined

  constructor(options: Http1UpstreamOptions) {
    this.#options = options
  }

  get openConnections(): number {
    return this.#wires.size
  }

  get idleConnections(): number {
    return this.#idle.length
  }

  send(request: UpstreamRequest, answer: AnswerSink): UpstreamCall {
    const call = new Call(request, answer)
    if (this.#closed) {
      process.nextTick(fail, call, failure('unreachable', 'the sidecar is closing', false, 0))
      return call
    }
    this.#start(call)
    return call
  }

  close(): void {
    this.#closed = true
    for (const wire of this.#idle.splice(0)) wire.destroy()
    if (this.#wires.size === 0) this.#stopSweep()
  }

  /** Ends every connection, also those with a call under way. */
  destroy(): void {
    this.close()
    for (const wire of this.#wires) wire.destroy()
    this.#stopSweep()
  }

  #start(call: Call): void {
    const now = performance.now()
    call.startedMono = now
    call.deadlineMono = now + call.request.firstByteMs
    for (let wire = this.#idle.pop(); wire !== undefined; wire = this.#idle.pop()) {
      if (!wire.usable || now >= wire.idleUntilMono) {
        wire.destroy()
        continue
      }
      if (now - wire.idleSinceMono < LOOK_AFTER_MS) {
        wire.serve(call)
        return
      }
      wire.reserve(call)
      setImmediate(lookThenServe, this, wire, call)
      return
    }
    this.#connect(call)
  }

  /** The connection may have been closed while it was idle; then another is taken. */
  serveLooked(wire: Wire, call: Call): void {
    if (call.over) {
      wire.giveBack()
      return
    }
    if (wire.usable) wire.serve(call)
    else this.#start(call)
  }

  #connect(call: Call): void {
    if (this.#wires.size >= this.#options.maxConnections) {
      process.nextTick(
        fail,
        call,
        failure('unreachable', `all ${this.#options.maxConnections} connections are in use`, false, 0),
      )
      return
    }
    const { target } = this.#options
    const socket =
      target.kind === 'unix'
        ? net.connect({ path: target.path })
        : net.connect({ host: target.host, port: target.port, noDelay: true, autoSelectFamily: false })
    const wire = new Wire(socket, this)
    this.#wires.add(wire)
    wire.connecting(call, performance.now() + this.#options.connectMs)
    this.#sweep ??= setInterval(sweep, SWEEP_MS, this).unref()
  }

  /** @internal Called by a connection that can serve again. */
  idled(wire: Wire): void {
    if (this.#closed) wire.destroy()
    else this.#idle.push(wire)
  }

  /** @internal Called by a connection that is gone. */
  gone(wire: Wire): void {
    this.#wires.delete(wire)
    const at = this.#idle.indexOf(wire)
    if (at >= 0) this.#idle.splice(at, 1)
    if (this.#wires.size === 0) this.#stopSweep()
  }

  /** @internal */
  sweepNow(): void {
    const now = performance.now()
    for (const wire of this.#wires) wire.checkTime(now)
  }

  #stopSweep(): void {
    if (this.#sweep !== undefined) clearInterval(this.#sweep)
    this.#sweep = undefined
  }
}

function sweep(upstream: Http1Upstream): void {
  upstream.sweepNow()
}

function lookThenServe(upstream: Http1Upstream, wire: Wire, call: Call): void {
  upstream.serveLooked(wire, call)
}

function fail(call: Call, what: UpstreamFailure): void {
  call.fail(what)
}

function failure(kind: UpstreamFailure['kind'], detail: string, sent: boolean, waitedMs: number): UpstreamFailure {
  return { kind, detail, sent, waitedMs: Math.round(waitedMs) }
}

/** One request and what becomes of it. */
class Call implements UpstreamCall {
  readonly request: UpstreamRequest
  readonly #answer: AnswerSink
  wire: Wire | undefined
  over = false
  startedMono = 0
  /** The next byte has to be here by then. */
  deadlineMono = 0
  answered = false
  paused = false

  constructor(request: UpstreamRequest, answer: AnswerSink) {
    this.request = request
    this.#answer = answer
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
    if (!this.paused) return
    this.paused = false
    this.deadlineMono = performance.now() + this.request.idleMs
    this.wire?.resume()
  }

  cancel(): void {
    if (this.over) return
    this.over = true
    this.wire?.destroy()
  }
}

/** One connection to the server. */
class Wire implements AnswerParts {
  readonly #socket: net.Socket
  readonly #pool: Http1Upstream
  readonly #reader = new AnswerReader()
  #call: Call | undefined
  #connectBy = 0
  #connected = false
  /** Something of the current request has been handed to the kernel. */
  #sent = false
  #destroyed = false
  #ended = false
  idleSinceMono = 0
  idleUntilMono = 0

  constructor(socket: net.Socket, pool: Http1Upstream) {
    this.#socket = socket
    this.#pool = pool
    socket.on('connect', () => this.#onConnect())
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error: NodeJS.ErrnoException) => this.#onGone(error.code ?? error.message))
    socket.on('close', () => this.#onGone('closed'))
  }

  get usable(): boolean {
    return this.#connected && !this.#destroyed && !this.#ended
  }

  connecting(call: Call, by: number): void {
    this.#call = call
    this.#connectBy = by
    call.wire = this
  }

  reserve(call: Call): void {
    call.wire = this
  }

  /** Back into the pool unused. */
  giveBack(): void {
    if (this.usable) this.#pool.idled(this)
  }

  serve(call: Call): void {
    this.#call = call
    call.wire = this
    this.#reader.begin()
    this.#sent = true
    const { request } = call
    const head = headOf(request)
    const body = request.body
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
    const call = this.#call
    if (call === undefined) {
      if (this.idleUntilMono !== 0 && now >= this.idleUntilMono) this.destroy()
      return
    }
    if (!this.#connected) {
      if (now >= this.#connectBy)
        this.#fault(failure('unreachable', 'no connection in time', false, now - call.startedMono))
      return
    }
    // While the client is slow it is our own pause that keeps the server silent.
    if (!call.paused && now >= call.deadlineMono) {
      const waitedMs = call.answered ? call.request.idleMs : now - call.startedMono
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
    const call = this.#call
    if (call === undefined || call.over) {
      this.#call = undefined
      this.#rest(performance.now(), undefined)
      return
    }
    this.serve(call)
  }

  #onData(chunk: Buffer): void {
    const call = this.#call
    if (call === undefined) {
      // Bytes that nobody asked for would be taken for the answer to the next call.
      this.destroy()
      return
    }
    const now = performance.now()
    call.deadlineMono = now + call.request.idleMs
    const fault = this.#reader.feed(chunk, this)
    if (fault !== undefined) {
      if (this.#call === undefined) this.destroy()
      else this.#fault(failure('invalid', fault, true, now - call.startedMono))
      return
    }
    if (this.#call === undefined) {
      if (this.#reader.keepAlive && !call.paused) this.#rest(now, this.#reader.idleHintMs)
      else this.destroy()
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
    const call = this.#call
    if (call !== undefined) {
      const waitedMs = performance.now() - call.startedMono
      this.#fault(failure(this.#connected ? 'broke' : 'unreachable', why, this.#sent, waitedMs))
      return
    }
    this.destroy()
  }

  #fault(what: UpstreamFailure): void {
    const call = this.#call
    this.#call = undefined
    this.destroy()
    call?.fail(what)
  }

  #rest(now: number, hintMs: number | undefined): void {
    if (!this.usable) {
      this.destroy()
      return
    }
    const keepMs = hintMs === undefined ? IDLE_MS : Math.min(hintMs - 1000, 60_000)
    if (keepMs <= 0) {
      this.destroy()
      return
    }
    this.#sent = false
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

import { performance } from 'node:perf_hooks'
import type { AnswerSink, Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest } from '../journey/upstream.ts'
import { isTurnsEnd } from './turns.ts'
import { Call, failure, type UpstreamTarget, Wire, type WirePool } from './upstream-wire.ts'

export interface Http1UpstreamOptions {
  readonly target: UpstreamTarget
  readonly connectMs: number
  /** Most connections at a time; a call beyond them fails as `busy`. */
  readonly maxConnections: number
}

/** A connection that has been in the pool for this long is used again at the end of a turn of the event loop only. */
const LOOK_AFTER_MS = 1
/** Deadlines are checked this often, by one timer for all calls. */
const SWEEP_MS = 100

/**
 * HTTP/1.1 to the server in the same pod: a bounded pool of keep-alive connections, one write a request, answers handed
 * on as they arrive. Written for this one hop, where undici's generality costs more CPU than all checks together
 * (docs/decisions/0003-upstream-client.md).
 *
 * A server that closes idle connections never costs a call: its `Keep-Alive` hint is kept with a margin, and since the
 * kernel hands over a loopback FIN at once, it is seen by the end of a turn of the event loop. Calls come at that end as a
 * rule; others wait for it unless the connection has just been used.
 *
 * While a call waits for that, those sent after it wait as well, so that they do not overtake it. Servers built on the MCP
 * SDK ask for samples and forms on the GET stream of a session, and ask nobody when the call that makes them ask gets there
 * before the stream, however early the client opened it.
 *
 * A server that does not accept connections yet costs no call either, if it does so within `connectMs`: nothing has been
 * sent, so trying again is safe. One call tries for all that wait. Once anything has been sent nothing is tried again.
 */
export class Http1Upstream implements Upstream, WirePool {
  readonly #options: Http1UpstreamOptions
  readonly #idle: Wire[] = []
  readonly #wires = new Set<Wire>()
  /** Calls that begin at the end of this turn of the event loop, oldest first. */
  #beginning: Call[] = []
  /** Calls for which the server did not accept a connection, oldest first. */
  readonly #waiting = new Set<Call>()
  /** The connection with which one of those that wait is trying again. */
  #trying: Wire | undefined
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
    const now = performance.now()
    call.startedMono = now
    call.deadlineMono = now + request.firstByteMs
    call.connectByMono = now + this.#options.connectMs
    if (isTurnsEnd()) {
      this.beginAll()
      this.#assign(call, now, Number.POSITIVE_INFINITY)
    } else if (this.#beginning.length > 0) this.#beginning.push(call)
    else this.#assign(call, now, LOOK_AFTER_MS)
    return call
  }

  close(): void {
    this.#closed = true
    for (const wire of this.#idle.splice(0)) wire.destroy()
    this.#stopSweepIfIdle()
  }

  /** Ends every connection, also those with a call under way. */
  destroy(): void {
    this.close()
    for (const call of [...this.#beginning, ...this.#waiting])
      call.fail(failure('unreachable', 'the sidecar is closing', false, 0))
    this.#beginning = []
    this.#waiting.clear()
    for (const wire of this.#wires) wire.destroy()
    this.#stopSweepIfIdle()
  }

  /** `lookAfterMs`: connections that have been idle for longer have to be looked at first. */
  #assign(call: Call, now: number, lookAfterMs: number): void {
    for (let wire = this.#idle.pop(); wire !== undefined; wire = this.#idle.pop()) {
      if (!wire.usable || now >= wire.idleUntilMono) {
        wire.destroy()
        continue
      }
      if (now - wire.idleSinceMono < lookAfterMs) return wire.serve(call)
      this.#idle.push(wire)
      if (this.#beginning.push(call) === 1) setImmediate(beginAll, this)
      return
    }
    const open = this.#wires.size + this.#waiting.size
    if (open >= this.#options.maxConnections) {
      process.nextTick(
        fail,
        call,
        failure('busy', `all ${this.#options.maxConnections} connections are in use`, false, 0),
      )
    } else if (this.#waiting.size > 0) this.#waiting.add(call)
    else this.#connect(call)
  }

  /** @internal Whatever the server has closed is known to be closed now. */
  beginAll(): void {
    if (this.#beginning.length === 0) return
    const calls = this.#beginning
    this.#beginning = []
    const now = performance.now()
    for (const call of calls) if (!call.over) this.#assign(call, now, Number.POSITIVE_INFINITY)
  }

  #connect(call: Call): Wire {
    const wire = new Wire(this.#options.target, this)
    this.#wires.add(wire)
    wire.connecting(call)
    this.#sweep ??= setInterval(sweep, SWEEP_MS, this).unref()
    return wire
  }

  /** @internal The server does not accept connections (yet), or this process has no room for one. */
  refused(call: Call, what: UpstreamFailure): void {
    if (this.#closed || performance.now() >= call.connectByMono) return call.fail(what)
    call.refusedWith = what
    this.#waiting.add(call)
    this.#sweep ??= setInterval(sweep, SWEEP_MS, this).unref()
  }

  /** @internal The server accepts connections: nobody has to wait any longer. */
  accepted(): void {
    this.#trying = undefined
    if (this.#waiting.size === 0) return
    const calls = [...this.#waiting]
    this.#waiting.clear()
    const now = performance.now()
    for (const call of calls) if (!call.over) this.#assign(call, now, LOOK_AFTER_MS)
  }

  #tryAgain(now: number): void {
    for (const call of this.#waiting) {
      if (call.over) this.#waiting.delete(call)
      else if (now >= call.connectByMono) {
        this.#waiting.delete(call)
        call.fail(call.refusedWith ?? failure('unreachable', 'no connection in time', false, now - call.startedMono))
      } else if (this.#trying === undefined) {
        this.#waiting.delete(call)
        this.#trying = this.#connect(call)
      }
    }
  }

  /** @internal Called by a connection that can serve again. */
  idled(wire: Wire): void {
    if (this.#closed) wire.destroy()
    else this.#idle.push(wire)
  }

  /** @internal Called by a connection that is gone. */
  gone(wire: Wire): void {
    this.#wires.delete(wire)
    if (this.#trying === wire) this.#trying = undefined
    const at = this.#idle.indexOf(wire)
    if (at >= 0) this.#idle.splice(at, 1)
    this.#stopSweepIfIdle()
  }

  /** @internal */
  sweepNow(): void {
    const now = performance.now()
    for (const wire of this.#wires) wire.checkTime(now)
    if (this.#waiting.size > 0) this.#tryAgain(now)
  }

  #stopSweepIfIdle(): void {
    if (this.#wires.size > 0 || this.#waiting.size > 0) return
    clearInterval(this.#sweep)
    this.#sweep = undefined
  }
}

function sweep(upstream: Http1Upstream): void {
  upstream.sweepNow()
}

function beginAll(upstream: Http1Upstream): void {
  upstream.beginAll()
}

function fail(call: Call, what: UpstreamFailure): void {
  call.fail(what)
}

import { performance } from 'node:perf_hooks'
import type { AnswerSink, Upstream, UpstreamCall, UpstreamFailure, UpstreamRequest } from '../journey/upstream.ts'
import { afterTurnsEnd, atTurnsEnd, isTurnsEnd } from './turns.ts'
import { Call, failure } from './upstream-call.ts'
import { type UpstreamTarget, Wire, type WirePool } from './upstream-wire.ts'

export interface Http1UpstreamOptions {
  readonly target: UpstreamTarget
  readonly connectMs: number
  /** Most connections at a time; a call beyond them fails as `busy`. */
  readonly maxConnections: number
}

/** Deadlines are checked this often, by one timer for all calls. */
const SWEEP_MS = 100

/**
 * HTTP/1.1 to the server in the same pod: a bounded pool of keep-alive connections, one write a request, answers handed
 * on as they arrive. Written for this one hop, where undici's generality costs more CPU than all checks together
 * (docs/decisions/0003-upstream-client.md).
 *
 * A server that closes idle connections never costs a call: its `Keep-Alive` hint is kept with a margin, and since the
 * kernel hands over a loopback FIN at once, it is seen by the end of a turn of the event loop. Calls come at that end as a
 * rule; others wait for it. A connection that becomes idle in a turn is used in the next, for of what the server sent
 * with its answer only the beginning has been read.
 *
 * Calls get their connections in the order in which they came: whoever waits, for a look at an idle connection or for a new
 * one, has those behind him wait as well, and the next connection that can be used is his, whichever that is. Servers built
 * on the MCP SDK ask for samples and forms on the GET stream of a session, and ask nobody when the call that makes them ask
 * gets there before the stream, however early the client opened it.
 *
 * A server that does not accept connections yet costs no call either, if it does so within `connectMs`: nothing has been
 * sent, so trying again is safe. One connection is tried for all that wait. Once anything has been sent nothing is tried
 * again.
 */
export class Http1Upstream implements Upstream, WirePool {
  readonly #options: Http1UpstreamOptions
  readonly #idle: Wire[] = []
  /** Those that have become idle in this turn. */
  readonly #rested: Wire[] = []
  readonly #wires = new Set<Wire>()
  /** How many of the wires are being connected. */
  #connecting = 0
  /** Calls that have no connection yet, oldest first. */
  readonly #waiting = new Set<Call>()
  #isLookDue = false
  /** Why the last connection for those who wait was not made. While it is there, one is tried at a time. */
  #refusal: UpstreamFailure | undefined
  #closed = false
  #sweep: NodeJS.Timeout | undefined

  constructor(options: Http1UpstreamOptions) {
    this.#options = options
  }

  get openConnections(): number {
    return this.#wires.size
  }

  get idleConnections(): number {
    return this.#idle.length + this.#rested.length
  }

  send(request: UpstreamRequest, answer: AnswerSink): UpstreamCall {
    const call = new Call(request, answer)
    if (this.#closed) {
      process.nextTick(fail, call, CLOSING)
      return call
    }
    const now = performance.now()
    call.startedMono = now
    call.deadlineMono = now + request.firstByteMs
    call.connectByMono = now + this.#options.connectMs
    const isAllRead = isTurnsEnd()
    if (isAllRead && this.#waiting.size > 0) this.#serveWaiting()
    if (this.#waiting.size === 0) {
      const wire = isAllRead ? this.#takeIdle(now) : undefined
      if (wire !== undefined) {
        wire.serve(call)
        return call
      }
      this.#refusal = undefined
    }
    this.#wait(call)
    return call
  }

  close(): void {
    this.#closed = true
    for (const wire of [...this.#idle.splice(0), ...this.#rested.splice(0)]) wire.destroy()
    this.#stopSweepIfIdle()
  }

  /** Ends every connection, also those with a call under way. */
  destroy(): void {
    this.close()
    this.#failWaiting(CLOSING)
    for (const wire of this.#wires) wire.destroy()
    this.#stopSweepIfIdle()
  }

  /** To be called at the end of a turn. */
  #takeIdle(now: number): Wire | undefined {
    for (let wire = this.#idle.pop(); wire !== undefined; wire = this.#idle.pop()) {
      if (wire.usable && now < wire.idleUntilMono) return wire
      wire.destroy()
    }
    return undefined
  }

  #wait(call: Call): void {
    const { maxConnections } = this.#options
    const room = this.idleConnections + this.#connecting + maxConnections - this.#wires.size
    if (this.#waiting.size >= room) this.#forgetThoseOver()
    if (this.#waiting.size >= room) {
      process.nextTick(fail, call, failure('busy', `all ${maxConnections} connections are in use`, false, 0))
      return
    }
    this.#waiting.add(call)
    this.#sweep ??= setInterval(sweep, SWEEP_MS, this).unref()
    if (this.#idle.length > 0) this.#lookAtTurnsEnd()
    this.#connectAsNeeded()
  }

  #lookAtTurnsEnd(): void {
    if (this.#isLookDue) return
    this.#isLookDue = true
    atTurnsEnd(this.#look)
  }

  readonly #look = (): void => {
    this.#isLookDue = false
    this.#serveWaiting()
  }

  /** To be called at the end of a turn. */
  #serveWaiting(): void {
    const now = performance.now()
    for (const call of this.#waiting) {
      const wire = call.over ? undefined : this.#takeIdle(now)
      if (wire === undefined && !call.over) break
      this.#waiting.delete(call)
      wire?.serve(call)
    }
    this.#connectAsNeeded()
  }

  /** Those who wait for a look at an idle connection need no other. */
  #connectAsNeeded(): void {
    if (this.#refusal !== undefined) return
    for (let n = this.#waiting.size - this.idleConnections - this.#connecting; n > 0; n--) this.#connect()
  }

  #connect(): void {
    this.#connecting += 1
    this.#wires.add(new Wire(this.#options.target, this.#options.connectMs, this))
  }

  /** @internal */
  connected(wire: Wire): void {
    this.#connecting -= 1
    for (const call of this.#waiting) {
      this.#waiting.delete(call)
      if (call.over) continue
      wire.serve(call)
      break
    }
    // The server accepts connections: the others need not wait any longer.
    this.#refusal = undefined
    this.#connectAsNeeded()
  }

  /** @internal The server does not accept connections (yet), or this process has no room for one. */
  refused(what: UpstreamFailure): void {
    if (this.#closed) this.#failWaiting(what)
    if (this.#waiting.size > 0) this.#refusal = what
  }

  /** @internal Called by a connection that can serve again. */
  idled(wire: Wire): void {
    if (this.#closed) return wire.destroy()
    if (this.#rested.push(wire) === 1) afterTurnsEnd(this.#onTurnOver)
  }

  readonly #onTurnOver = (): void => {
    this.#idle.push(...this.#rested.splice(0))
    if (this.#waiting.size > 0) this.#lookAtTurnsEnd()
  }

  /** @internal Called by a connection that is gone. */
  gone(wire: Wire): void {
    this.#wires.delete(wire)
    if (!wire.isConnected) this.#connecting -= 1
    for (const idle of [this.#idle, this.#rested]) {
      const at = idle.indexOf(wire)
      if (at >= 0) idle.splice(at, 1)
    }
    this.#stopSweepIfIdle()
  }

  /** @internal */
  sweepNow(): void {
    const now = performance.now()
    for (const wire of this.#wires) wire.checkTime(now)
    for (const call of this.#waiting) {
      if (!call.over && now < call.connectByMono) continue
      this.#waiting.delete(call)
      const { kind, detail } = this.#refusal ?? NO_CONNECTION
      call.fail(failure(kind, detail, false, now - call.startedMono))
    }
    if (this.#refusal !== undefined && this.#waiting.size > 0 && this.#connecting === 0) this.#connect()
    this.#stopSweepIfIdle()
  }

  /** Their clients have left. */
  #forgetThoseOver(): void {
    for (const call of this.#waiting) if (call.over) this.#waiting.delete(call)
  }

  #failWaiting(what: UpstreamFailure): void {
    for (const call of this.#waiting) {
      this.#waiting.delete(call)
      call.fail(what)
    }
  }

  #stopSweepIfIdle(): void {
    if (this.#wires.size > 0 || this.#waiting.size > 0) return
    clearInterval(this.#sweep)
    this.#sweep = undefined
  }
}

const CLOSING = failure('unreachable', 'the sidecar is closing', false, 0)
const NO_CONNECTION = failure('unreachable', 'no connection in time', false, 0)

function sweep(upstream: Http1Upstream): void {
  upstream.sweepNow()
}

function fail(call: Call, what: UpstreamFailure): void {
  call.fail(what)
}

import type { ServerHttp2Session } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { TLSSocket } from 'node:tls'
import type { ConnectionFacts } from '../core/audit/exchange.ts'
import type { Peer } from '../core/identity/caller.ts'
import type { ArrivalConnection, OpenCall } from '../journey/arrival.ts'
import { Bag } from './bag.ts'

/** How old connections may grow, and how long what they carry may take to end then, ms. */
export interface ConnectionAge {
  readonly maxMs: number | undefined
  readonly graceMs: number
}

/** How long before the cut a stream is asked to end: events are short, and clients read them. */
const STREAM_END_MS = 1000

const IDLE_CUT_MS = 1000
const FRAMES_AT_ONCE = 500
const FRAMES_A_SECOND = 50
/** Less than what Node itself lets pass (`streamResetBurst`), so that it is told and paid for. */
const TAKEN_BACK_AT_ONCE = 64
const TAKEN_BACK_A_SECOND = 20

/** How long GOAWAY waits for a quiet moment when the process is about to end. */
const QUIET_WAIT_MS = 1000

/** One verified TLS connection, from the end of its handshake to its close. */
export class Connection implements ArrivalConnection {
  readonly facts: ConnectionFacts
  readonly socket: TLSSocket
  readonly isHttp2: boolean
  readonly openedMono = performance.now()
  readonly calls = new Bag<OpenCall>()
  /** Requests that wait for their client, for it to send or to read. */
  readonly waiting = new Bag<{ checkTime(nowMono: number): void }>()
  peer: { generation: number; peer: Peer | undefined } | undefined
  /** Why it is going, once it is. */
  retiredFor: string | undefined
  /** A tenth of the age is jitter, so that a fleet that connected at once does not reconnect at once. */
  readonly #ageShare = 0.9 + Math.random() * 0.1
  #session: ServerHttp2Session | undefined
  /** Requests whose answers are not over, from the end of their head on. */
  #requests = 0
  /** All requests that there were, now and at the last look. */
  #begun = 0
  #begunBefore = 0
  #endsWhenIdle = false
  #idleSinceMono = this.openedMono
  /** PING and SETTINGS frames that may still come at once. */
  readonly #frames = new Allowance(FRAMES_AT_ONCE, FRAMES_A_SECOND, this.openedMono)
  /** Requests that may still be reset before they are looked at. */
  readonly #takenBack = new Allowance(TAKEN_BACK_AT_ONCE, TAKEN_BACK_A_SECOND, this.openedMono)
  #goAwayAtMono = Number.POSITIVE_INFINITY
  #interruptAtMono = Number.POSITIVE_INFINITY
  #cutAtMono = Number.POSITIVE_INFINITY

  /** Something has come over HTTP/1.1 and is not read yet: perhaps a request, which must not be lost. */
  hasUnread = false
  readonly #onFirstRequest: () => void

  constructor(socket: TLSSocket, facts: ConnectionFacts, onFirstRequest: () => void = () => {}) {
    this.socket = socket
    this.facts = facts
    this.#onFirstRequest = onFirstRequest
    this.isHttp2 = facts.httpVersion === '2'
  }

  get retiring(): boolean {
    return this.retiredFor !== undefined
  }

  attach(session: ServerHttp2Session): void {
    this.#session = session
  }

  /**
   * Sends GOAWAY or says `connection: close` with the next answer, ends event streams at an event boundary, and cuts
   * whatever is left after `graceMs`.
   *
   * GOAWAY names the last request that was taken, and not every gateway repeats one that has crossed it (haproxy answers
   * 502). RFC 9113 §6.8 has a first GOAWAY against that, which Node cannot send; so where there is time, it waits for a
   * moment in which nothing is under way.
   *
   * @param manner  `now`: nothing more is taken, not even what is on its way. `soon`: streams end at their next boundary
   *   and an HTTP/1.1 connection that carries nothing ends at once; GOAWAY waits for a second. `late`: streams may go on
   *   until shortly before the cut, GOAWAY waits for half of the time, and an HTTP/1.1 connection that carries nothing
   *   waits for the request that it can say it to.
   */
  retire(reason: string, graceMs: number, manner: 'now' | 'soon' | 'late' = 'now'): void {
    const nowMono = performance.now()
    // What may take its time is not what ended the connection when something that may not comes on top.
    if (this.retiredFor === undefined || (manner !== 'late' && !this.#endsWhenIdle)) this.retiredFor = reason
    if (manner === 'now') this.#goAway()
    else {
      const waitMs = manner === 'late' ? graceMs / 2 : Math.min(QUIET_WAIT_MS, graceMs / 2)
      this.#goAwayAtMono = Math.min(this.#goAwayAtMono, nowMono + waitMs)
    }
    if (nowMono + graceMs < this.#cutAtMono) {
      this.#cutAtMono = nowMono + graceMs
      this.#interruptAtMono = this.#cutAtMono - Math.min(STREAM_END_MS, graceMs / 2)
    }
    if (manner === 'late') return
    this.#endsWhenIdle = true
    this.#interrupt()
    this.#endIfIdle()
  }

  /** Nothing is under way, and nothing has come since the last look. */
  #isQuiet(): boolean {
    return this.#requests === 0 && this.#begun === this.#begunBefore
  }

  #goAway(): void {
    if (this.#session !== undefined && !this.#session.closed) this.#session.close()
  }

  done(call: OpenCall): void {
    this.calls.delete(call)
  }

  requestBegun(): void {
    if (this.#begun++ === 0) this.#onFirstRequest()
    this.#requests++
  }

  requestOver(): void {
    this.#requests--
    if (this.#requests === 0) this.#idleSinceMono = performance.now()
    this.#endIfIdle()
  }

  /** What has come is read. */
  isRead(): void {
    this.hasUnread = false
    this.#endIfIdle()
  }

  /** A frame has come that has to be answered and carries nothing; who sends them without end is cut off. */
  noteFrame(): void {
    if (this.socket.destroyed || this.#frames.take(performance.now())) return
    this.retiredFor = 'TOO_MANY_FRAMES'
    this.destroy()
  }

  /** A request was reset before it was looked at. @returns false when that was one too many, and the connection is cut. */
  noteTakenBack(): boolean {
    if (this.#takenBack.take(performance.now())) return true
    this.retiredFor = 'TOO_MANY_RESETS'
    this.destroy()
    return false
  }

  /** Called by the listener's sweep. */
  checkTime(nowMono: number, age: ConnectionAge, idleMs = Number.POSITIVE_INFINITY): void {
    // By requests and not by bytes: whoever drips a head, or pings, is as idle as who is silent. Node does HTTP/1.1.
    if (this.#session !== undefined && this.#requests === 0 && nowMono - this.#idleSinceMono >= idleMs) {
      this.#session.close()
      // A head without end counts as a stream, and would keep the session that is only asked to go.
      this.#cutAtMono = Math.min(this.#cutAtMono, nowMono + IDLE_CUT_MS)
    }
    if (age.maxMs !== undefined && !this.retiring && nowMono - this.openedMono >= age.maxMs * this.#ageShare) {
      this.retire('max_connection_age', age.graceMs, 'late')
    }
    if (this.#goAwayAtMono !== Number.POSITIVE_INFINITY && (nowMono >= this.#goAwayAtMono || this.#isQuiet()))
      this.#goAway()
    this.#begunBefore = this.#begun
    // Streams that have begun since the connection was told to go are among them.
    if (nowMono >= this.#interruptAtMono) this.#interrupt()
    if (nowMono >= this.#cutAtMono && !this.socket.destroyed) this.destroy()
    for (const call of this.calls) call.checkTime(nowMono)
    for (const request of this.waiting) request.checkTime(nowMono)
  }

  #interrupt(): void {
    for (const call of this.calls) call.interrupt(this.retiredFor ?? '')
  }

  #endIfIdle(): void {
    // A request whose head is read and whose body is still to come is no call yet, and must not be lost.
    if (this.#endsWhenIdle && !this.isHttp2 && this.#requests === 0 && !this.hasUnread) this.socket.end()
  }

  /** It was ended by us, in the middle of whatever it carried. */
  isCut = false

  destroy(): void {
    this.isCut = true
    this.#session?.destroy()
    this.socket.destroy()
  }
}

/** How often something may happen: so many times at once, and so many times a second in the long run. */
class Allowance {
  readonly #atOnce: number
  readonly #aSecond: number
  #left: number
  #atMono: number

  constructor(atOnce: number, aSecond: number, nowMono: number) {
    this.#atOnce = atOnce
    this.#aSecond = aSecond
    this.#left = atOnce
    this.#atMono = nowMono
  }

  take(nowMono: number): boolean {
    this.#left = Math.min(this.#atOnce, this.#left + ((nowMono - this.#atMono) * this.#aSecond) / 1000) - 1
    this.#atMono = nowMono
    return this.#left >= 0
  }
}

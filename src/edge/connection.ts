import { performance } from 'node:perf_hooks'
import type { ServerHttp2Session } from 'node:http2'
import type { TLSSocket } from 'node:tls'
import type { ConnectionFacts } from '../core/audit/exchange.ts'
import type { Peer } from '../core/identity/caller.ts'
import type { ArrivalConnection, OpenCall } from '../journey/arrival.ts'

/** One verified TLS connection, from the end of its handshake to its close. */
export class Connection implements ArrivalConnection {
  readonly facts: ConnectionFacts
  readonly socket: TLSSocket
  readonly isHttp2: boolean
  readonly openedMono = performance.now()
  readonly calls = new Set<OpenCall>()
  peer: { generation: number; peer: Peer | undefined } | undefined
  /** When the connection has to go by its own age; `Infinity` when it may stay. */
  retireAtMono = Number.POSITIVE_INFINITY
  /** Why it is going, once it is. */
  retiredFor: string | undefined
  #session: ServerHttp2Session | undefined
  #cutAtMono = Number.POSITIVE_INFINITY

  constructor(socket: TLSSocket, facts: ConnectionFacts) {
    this.socket = socket
    this.facts = facts
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
   */
  retire(reason: string, graceMs: number): void {
    const cutAtMono = performance.now() + graceMs
    if (this.retiredFor === undefined) {
      this.retiredFor = reason
      if (this.#session !== undefined && !this.#session.destroyed) this.#session.close()
    }
    this.#cutAtMono = Math.min(this.#cutAtMono, cutAtMono)
    for (const call of [...this.calls]) call.interrupt(reason)
    this.endIfIdle()
  }

  done(call: OpenCall): void {
    this.calls.delete(call)
  }

  /** An HTTP/1.1 connection that carries nothing has nothing to say `connection: close` with. */
  endIfIdle(): void {
    if (this.retiring && !this.isHttp2 && this.calls.size === 0 && this.#cutAtMono !== Number.POSITIVE_INFINITY) {
      this.socket.end()
    }
  }

  /** Called by the listener's sweep. */
  checkTime(nowMono: number): void {
    if (nowMono >= this.retireAtMono && !this.retiring) this.retire('max_connection_age', 5000)
    if (nowMono >= this.#cutAtMono && !this.socket.destroyed) this.destroy()
  }

  destroy(): void {
    this.#session?.destroy()
    this.socket.destroy()
  }
}

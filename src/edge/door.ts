import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { HandshakeGate } from './handshake-gate.ts'
import { endHandshake } from './tls-repairs.ts'
import { OneEachTurn } from './turns.ts'

export interface DoorOptions {
  /** Handshakes under way at a time (`limits.handshakes`). */
  readonly handshakes: number
  /** Whether no stranger is to be let in now, because there is too much to do. */
  readonly isFull: () => boolean
  /** Begins TLS. */
  begin(socket: Socket): void
  /** Nobody is let in; `reason` is for the audit line. */
  refused(reason: string, remoteAddress: string): void
}

/**
 * What a TCP connection passes before its TLS begins. Who is turned away here has cost no TLS socket; of the others one
 * begins in a turn of the event loop, most of a millisecond each, so that a crowd that comes at once holds up nobody who
 * is inside.
 */
export class Door {
  readonly #options: DoorOptions
  readonly #gate: HandshakeGate<Socket>
  readonly #turns: OneEachTurn<Socket>
  readonly #begun = new WeakSet<Socket>()
  readonly #turnedAway = new WeakSet<Socket>()

  constructor(options: DoorOptions) {
    this.#options = options
    this.#gate = new HandshakeGate(options.handshakes)
    this.#turns = new OneEachTurn(socket => this.#begin(socket))
  }

  arrive(socket: Socket): void {
    socket.on('error', ignore)
    if (this.#options.isFull()) return this.#turnAway(socket, 'OVERLOADED')
    const { admitted, evicted } = this.#gate.enter(socket, socket.remoteAddress ?? '', performance.now())
    if (evicted !== undefined) this.#turnAway(evicted, 'HANDSHAKE_TOO_SLOW')
    if (!admitted) return this.#turnAway(socket, 'TOO_MANY_HANDSHAKES')
    socket.once('close', () => this.#gate.leave(socket, 'failed'))
    this.#turns.add(socket)
  }

  /** The handshake is over. */
  leave(socket: Socket, how: 'well' | 'failed'): void {
    this.#gate.leave(socket, how)
  }

  /** A connection from there had to be cut for a flood: handshakes from its address have to wait. */
  charge(remoteAddress: string): void {
    this.#gate.charge(remoteAddress, performance.now())
  }

  /** Whether the audit log knows already why this one ended. */
  hasTurnedAway(socket: Socket): boolean {
    return this.#turnedAway.has(socket)
  }

  #begin(socket: Socket): void {
    if (socket.destroyed) return
    this.#begun.add(socket)
    this.#options.begin(socket)
  }

  #turnAway(socket: Socket, reason: string): void {
    this.#turnedAway.add(socket)
    this.#options.refused(reason, socket.remoteAddress ?? '')
    if (this.#begun.has(socket)) endHandshake(socket)
    else socket.destroy()
  }
}

function ignore(): void {}

import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { HandshakeGate } from './handshake-gate.ts'
import { endHandshake, holdBack } from './tls-repairs.ts'
import { OneByOne } from './turns.ts'

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

/** So many verified connections of an address may be silent before its next ones have to take their time. */
const MOST_SILENT = 4
const SLOWLY_MS = 8
/** Less than after which a handshake counts as slow (`handshake-gate.ts`), for the last of all that may be under way. */
const LONGEST_LINE_MS = 800

/**
 * What a TCP connection passes before its TLS begins. Who is turned away here has cost no TLS socket; of the others one
 * begins in a turn of the event loop, most of a millisecond each, so that a crowd that comes at once holds up nobody who
 * is inside.
 *
 * A gateway connects because it has something to ask. An address whose connections stay silent, or drip a head, has no
 * hurry: its handshakes begin some milliseconds apart, on a line of their own, and leave most of the event loop to the
 * calls of others.
 */
export class Door {
  readonly #options: DoorOptions
  readonly #gate: HandshakeGate<Socket>
  readonly #turns: OneByOne<Socket>
  readonly #slowly: OneByOne<Socket>
  /** Connections that have not asked for anything yet, with their addresses, and how many each address has. */
  readonly #silent = new Map<Socket, string>()
  readonly #silentOf = new Map<string, number>()
  readonly #begun = new WeakSet<Socket>()
  readonly #turnedAway = new WeakSet<Socket>()

  constructor(options: DoorOptions) {
    this.#options = options
    this.#gate = new HandshakeGate(options.handshakes)
    const begin = (socket: Socket): boolean => this.#begin(socket)
    const slowlyMs = Math.min(SLOWLY_MS, LONGEST_LINE_MS / options.handshakes)
    this.#turns = new OneByOne(begin)
    this.#slowly = new OneByOne(begin, next => setTimeout(next, slowlyMs))
  }

  /** Under way. */
  get handshakes(): number {
    return this.#gate.underWay
  }

  arrive(socket: Socket): void {
    socket.on('error', ignore)
    if (this.#options.isFull()) return this.#turnAway(socket, 'OVERLOADED')
    const address = socket.remoteAddress ?? ''
    const { admitted, evicted } = this.#gate.enter(socket, address, performance.now())
    if (evicted !== undefined) this.#turnAway(evicted, 'HANDSHAKE_TOO_SLOW')
    if (!admitted) return this.#turnAway(socket, 'TOO_MANY_HANDSHAKES')
    socket.once('close', () => this.#left(socket))
    const isSilent = (this.#silentOf.get(address) ?? 0) >= MOST_SILENT
    if (isSilent) this.#slowly.add(socket)
    else this.#turns.add(socket)
    if (!this.#begun.has(socket)) holdBack(socket)
  }

  /** Nobody else is let in: who waits is turned away without a word, as at a port that is closed. */
  close(): void {
    for (const socket of [...this.#turns.empty(), ...this.#slowly.empty()]) socket.destroy()
  }

  /** The handshake has gone well, and nothing has been asked for yet. */
  entered(socket: Socket): void {
    this.#gate.leave(socket, 'well')
    const address = socket.remoteAddress
    if (address === undefined) return
    this.#silent.set(socket, address)
    this.#silentOf.set(address, (this.#silentOf.get(address) ?? 0) + 1)
  }

  /** The handshake has failed, or the certificate did. */
  failed(socket: Socket): void {
    this.#gate.leave(socket, 'failed')
  }

  /** The first request of a connection is there, or there will be none. */
  spoke(socket: Socket): void {
    const address = this.#silent.get(socket)
    if (address === undefined) return
    this.#silent.delete(socket)
    const left = (this.#silentOf.get(address) ?? 1) - 1
    if (left === 0) this.#silentOf.delete(address)
    else this.#silentOf.set(address, left)
  }

  #left(socket: Socket): void {
    this.#gate.leave(socket, 'failed')
    this.spoke(socket)
  }

  /** A connection from there had to be cut for a flood: handshakes from its address have to wait. */
  charge(remoteAddress: string): void {
    this.#gate.charge(remoteAddress, performance.now())
  }

  /** Whether the audit log knows already why this one ended. */
  hasTurnedAway(socket: Socket): boolean {
    return this.#turnedAway.has(socket)
  }

  /** @returns false when there is nobody any more. */
  #begin(socket: Socket): boolean {
    if (socket.destroyed) return false
    this.#begun.add(socket)
    this.#options.begin(socket)
    return true
  }

  #turnAway(socket: Socket, reason: string): void {
    this.#turnedAway.add(socket)
    this.#options.refused(reason, socket.remoteAddress ?? '')
    if (this.#begun.has(socket)) endHandshake(socket)
    else socket.destroy()
  }
}

function ignore(): void {}

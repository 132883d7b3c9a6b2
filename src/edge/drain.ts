import { performance } from 'node:perf_hooks'
import type { DrainConfig } from '../config/config.ts'
import type { Connection } from './connection.ts'

/** What drains: the listener, once there is one. */
export interface Drained {
  readonly connectionCount: number
  readonly connections: Iterable<Connection>
  /** Handshakes that are under way. */
  readonly handshakes: number
  /** Requests have come that nobody has looked at yet; their connections may be gone. */
  readonly hasUnread: boolean
  stopAccepting(): void
  /** Cuts off what is still open. */
  destroy(): void
}

export interface DrainOptions {
  readonly settings: () => DrainConfig
  readonly listener: () => Drained | undefined
  /** Looks whether the server accepts connections. */
  readonly lookAtUpstream: () => Promise<boolean>
  readonly say: (line: string) => void
}

/** `lame-duck`: not ready any more, still serving. `draining`: nothing new is accepted. */
export type Phase = 'starting' | 'serving' | 'lame-duck' | 'draining' | 'stopped'

/** A handshake that is under way when everything drains has this long, and its connection as long again to ask. */
const LATECOMER_MS = 250

/**
 * The life of the sidecar as its peers see it, and its orderly end: lame duck while gateways take it off their lists,
 * then each connection is told to go and what is in flight has `grace` to finish. Begun once; `hurry` cuts it short.
 */
export class Drain {
  readonly #options: DrainOptions
  readonly #hurry = Promise.withResolvers<void>()
  /** The server has ended while we were a lame duck for it. */
  readonly #upstreamGone = Promise.withResolvers<void>()
  #phase: Phase = 'starting'
  #over: Promise<void> | undefined
  #isHurried = false
  /** When what is in flight has had its time. */
  #deadlineMono = 0

  constructor(options: DrainOptions) {
    this.#options = options
  }

  get phase(): Phase {
    return this.#phase
  }

  get isBegun(): boolean {
    return this.#over !== undefined
  }

  /** What is left of `grace`, ms; nothing for who is in a hurry. */
  get leftMs(): number {
    return this.#isHurried ? 0 : Math.max(0, this.#deadlineMono - performance.now())
  }

  /** Peers can connect from now on. */
  serve(): void {
    if (this.#phase === 'starting') this.#phase = 'serving'
  }

  /** The server accepts no connections any more: as a lame duck there is nothing left to wait for. */
  upstreamIsGone(): void {
    if (this.#phase === 'lame-duck') this.#upstreamGone.resolve()
  }

  /** Resolves when no connection is left, whoever has called it first. */
  begin(): Promise<void> {
    this.#over ??= this.#drain()
    return this.#over
  }

  /** What is still open is cut off. */
  hurry(): void {
    this.#isHurried = true
    this.#hurry.resolve()
  }

  stopped(): void {
    this.#phase = 'stopped'
  }

  async #drain(): Promise<void> {
    const { settings, listener } = this.#options
    const { lameDuckMs, graceMs } = settings()
    await this.#beLameDuck(lameDuckMs)
    this.#phase = 'draining'
    const closedMono = performance.now()
    this.#deadlineMono = closedMono + graceMs
    listener()?.stopAccepting()
    for (const connection of listener()?.connections ?? []) connection.retire('draining', graceMs, 'soon')
    const isEntering = (): boolean => (listener()?.handshakes ?? 0) > 0 && performance.now() - closedMono < LATECOMER_MS
    while (((listener()?.connectionCount ?? 0) > 0 || isEntering()) && this.leftMs > 0) {
      await Promise.race([sleep(20), this.#hurry.promise])
      this.#retireLatecomers()
    }
    listener()?.destroy()
    // Calls that were cut off end as such, before their upstream is taken from them; and whoever has asked has his line.
    while ((listener()?.connectionCount ?? 0) > 0 || listener()?.hasUnread === true) await sleep(5)
  }

  async #beLameDuck(lameDuckMs: number): Promise<void> {
    const wasServing = this.#phase === 'serving'
    this.#phase = 'lame-duck'
    this.#options.say(`lame duck for ${lameDuckMs} ms: not ready any more, still serving`)
    // Without a server behind there is nothing to wait for, and who has never served is in nobody's list. The last look
    // may be older than the end of the server: the kubelet stops a native sidecar as soon as the application is gone.
    if (wasServing && (await this.#options.lookAtUpstream())) {
      await Promise.race([sleep(lameDuckMs), this.#hurry.promise, this.#upstreamGone.promise])
    }
  }

  /** Whose handshake was under way when connections were last accepted; what they ask at once is still answered. */
  #retireLatecomers(): void {
    const now = performance.now()
    for (const connection of this.#options.listener()?.connections ?? []) {
      if (connection.retiring || now - connection.openedMono < LATECOMER_MS) continue
      connection.retire('draining', this.#deadlineMono - now, 'soon')
    }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

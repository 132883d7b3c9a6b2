/**
 * Which sockets may begin a TLS handshake: the dearest thing that a stranger can ask for, and the only one that costs
 * before anybody has shown a certificate.
 *
 * Both limits stand between strangers and honest callers who come from elsewhere. When too many are under way, one that
 * has been silent for long, of the address that has most, makes room: honest handshakes take milliseconds, those of an
 * attacker as long as they can. When too many begin in a second, the address whose they are is refused; a handshake that
 * fails counts ten times. Callers behind one address (a proxy below HTTP) share what it may do.
 *
 * Times are ms of a monotonic clock, handed in.
 */
export class HandshakeGate<S extends object> {
  readonly #most: number
  readonly #underWay = new Map<S, { readonly visitor: Visitor; readonly sinceMono: number }>()
  readonly #visitors = new Map<string, Visitor>()

  /** @param most  Handshakes under way at a time (`limits.handshakes`); twice as many may begin in a second, by address. */
  constructor(most: number) {
    this.#most = most
  }

  get underWay(): number {
    return this.#underWay.size
  }

  /** Of how many addresses something is remembered. */
  get visitors(): number {
    return this.#visitors.size
  }

  /** @returns `admitted`, with the socket that has to go for it if there is one; or `refused`. */
  enter(socket: S, address: string, nowMono: number): { admitted: boolean; evicted?: S } {
    const visitor = this.#visitor(address, nowMono)
    if (visitor.tokens < 1) return REFUSED
    const admitted = this.#underWay.size < this.#most ? ADMITTED : this.#evictFor(visitor, nowMono)
    if (!admitted.admitted) return REFUSED
    visitor.tokens -= 1
    visitor.underWay += 1
    this.#underWay.set(socket, { visitor, sinceMono: nowMono })
    return admitted
  }

  /** The handshake is over; called again for the same socket it does nothing. */
  leave(socket: S, how: 'well' | 'failed'): void {
    const entry = this.#underWay.get(socket)
    if (entry === undefined) return
    this.#underWay.delete(socket)
    entry.visitor.underWay -= 1
    if (how === 'failed') entry.visitor.tokens -= FAILED_COSTS - 1
  }

  /**
   * A connection from there had to be cut for a flood: that costs its address all that it may begin at once. The first one
   * hardly keeps it waiting, the next one for two seconds.
   */
  charge(address: string, nowMono: number): void {
    this.#visitor(address, nowMono).tokens -= this.#most * AT_ONCE
  }

  #evictFor(newcomer: Visitor, nowMono: number): { admitted: boolean; evicted?: S } {
    let greediest = newcomer
    for (const { visitor } of this.#underWay.values()) if (visitor.underWay > greediest.underWay) greediest = visitor
    for (const [socket, { visitor, sinceMono }] of this.#underWay) {
      if (visitor !== greediest) continue
      // The first is the oldest. Who has as many as anybody gets no room from those who are still quick.
      if (greediest === newcomer && nowMono - sinceMono < QUICK_MS) return REFUSED
      this.leave(socket, 'failed')
      return { admitted: true, evicted: socket }
    }
    return REFUSED
  }

  #visitor(address: string, nowMono: number): Visitor {
    const burst = this.#most * AT_ONCE
    let visitor = this.#visitors.get(address)
    if (visitor === undefined) {
      if (this.#visitors.size >= MOST_VISITORS) this.#forgetOne()
      visitor = { tokens: burst, atMono: nowMono, underWay: 0 }
      this.#visitors.set(address, visitor)
      return visitor
    }
    // What failed before is paid off before anything new begins, but nobody is kept out for longer than a burst takes.
    const owed = Math.max(visitor.tokens, -burst)
    visitor.tokens = Math.min(burst, owed + ((nowMono - visitor.atMono) * this.#most * 2) / 1000)
    visitor.atMono = nowMono
    // Behind the others, so that the first of them is the one that has been away for longest.
    this.#visitors.delete(address)
    this.#visitors.set(address, visitor)
    return visitor
  }

  #forgetOne(): void {
    for (const [address, visitor] of this.#visitors) {
      if (visitor.underWay === 0) return void this.#visitors.delete(address)
    }
  }
}

interface Visitor {
  /** Handshakes that may begin now; below zero when some have failed. */
  tokens: number
  atMono: number
  underWay: number
}

const FAILED_COSTS = 10
/** Times `limits.handshakes` that one address may begin at once. */
const AT_ONCE = 4
/** An honest handshake is over by then, on the slowest of machines. */
const QUICK_MS = 1000
const MOST_VISITORS = 4096
const ADMITTED = { admitted: true }
const REFUSED = { admitted: false }

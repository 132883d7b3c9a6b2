/**
 * Calls in flight, counted by key. A key is kept only while it holds a slot, so memory is bounded by the calls that are
 * under way; there is nothing to sweep.
 */
export class InFlight {
  readonly #held = new Map<string, number>()

  held(key: string): number {
    return this.#held.get(key) ?? 0
  }

  hold(key: string, slots: number): void {
    this.#held.set(key, (this.#held.get(key) ?? 0) + slots)
  }

  giveBack(key: string, slots: number): void {
    const left = (this.#held.get(key) ?? 0) - slots
    if (left > 0) this.#held.set(key, left)
    else this.#held.delete(key)
  }

  get size(): number {
    return this.#held.size
  }

  keys(): IterableIterator<string> {
    return this.#held.keys()
  }
}

/**
 * What comes and goes with every call. A `Set` that is added to and taken from without end makes a new table every few
 * turns, each of which keeps the next alive once one of them is old: what was in it lives on until the next full garbage
 * collection. Members are few, so they are simply searched for, the latest first.
 */
export class Bag<T> implements Iterable<T> {
  readonly #members: T[] = []

  get size(): number {
    return this.#members.length
  }

  /** The member must not be in it yet. */
  add(member: T): void {
    this.#members.push(member)
  }

  delete(member: T): void {
    const at = this.#members.lastIndexOf(member)
    if (at < 0) return
    const last = this.#members.pop() as T
    if (at < this.#members.length) this.#members[at] = last
  }

  /** Those that are in it now, whatever is added or deleted meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return [...this.#members][Symbol.iterator]()
  }
}

/** One validated generation of something that can be replaced while the sidecar runs. Immutable. */
export interface Snapshot<T> {
  readonly generation: number
  readonly value: T
}

/**
 * The only mutable configuration state: the snapshot in use. A call reads `current()` once and keeps it, so that it is
 * judged by one generation from beginning to end; its audit line carries that generation.
 */
export class Live<T> {
  #current: Snapshot<T>
  readonly #followers = new Set<(next: Snapshot<T>, previous: Snapshot<T>) => void>()

  constructor(value: T, generation = 1) {
    this.#current = { generation, value }
  }

  current(): Snapshot<T> {
    return this.#current
  }

  /** Replaces the snapshot whole and tells every follower, in the order in which they came. */
  publish(value: T): Snapshot<T> {
    const previous = this.#current
    this.#current = { generation: previous.generation + 1, value }
    for (const follower of this.#followers) follower(this.#current, previous)
    return this.#current
  }

  /** Calls `follower` after each publication; the returned function ends that. */
  follow(follower: (next: Snapshot<T>, previous: Snapshot<T>) => void): () => void {
    this.#followers.add(follower)
    return () => this.#followers.delete(follower)
  }
}

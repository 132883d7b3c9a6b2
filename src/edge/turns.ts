/**
 * Does one thing now and the rest later, one at a time and in order: in a turn of the event loop each, or further apart.
 * Whoever else waits for the event loop, health probes among them, is then held up for one of them and not for a crowd.
 */
export class OneByOne<T> {
  readonly #act: (item: T) => void
  readonly #later: (next: () => void) => unknown
  readonly #waiting: T[] = []
  #isTaken = false

  /** @param later  When the next one may be done: by default in the next turn. */
  constructor(act: (item: T) => void, later: (next: () => void) => unknown = setImmediate) {
    this.#act = act
    this.#later = later
  }

  /** At once, unless it is too soon. */
  add(item: T): void {
    if (this.#isTaken) return void this.#waiting.push(item)
    this.#take(item)
  }

  #take(item: T): void {
    this.#isTaken = true
    this.#later(this.#next)
    this.#act(item)
  }

  readonly #next = (): void => {
    this.#isTaken = false
    const next = this.#waiting.shift()
    if (next !== undefined) this.#take(next)
  }
}

let isEnding = false

/** Whether everything that had come when this turn of the event loop began has been read, of every connection. */
export function isTurnsEnd(): boolean {
  return isEnding
}

/**
 * Does at the end of a turn of the event loop what has come in it, in order. When all is read first and then served one
 * after the other, each finds the code and the data that it needs still at hand from the one before.
 */
export class AllAtTurnsEnd<T> {
  readonly #act: (item: T) => void
  #waiting: T[] = []

  constructor(act: (item: T) => void) {
    this.#act = act
  }

  add(item: T): void {
    if (this.#waiting.push(item) === 1) setImmediate(this.#end)
  }

  readonly #end = (): void => {
    const items = this.#waiting
    this.#waiting = []
    isEnding = true
    try {
      for (const item of items) this.#act(item)
    } finally {
      isEnding = false
    }
  }
}

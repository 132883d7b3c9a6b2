import { performance } from 'node:perf_hooks'

/**
 * Does one thing now and the rest later, one at a time and in order: in a turn of the event loop each, or further apart.
 * Whoever else waits for the event loop, health probes among them, is then held up for one of them and not for a crowd.
 */
export class OneByOne<T> {
  readonly #act: (item: T) => unknown
  readonly #later: (next: () => void) => unknown
  readonly #waiting: T[] = []
  #isTaken = false

  /**
   * @param act    False when there was nothing to do: then the next one need not wait.
   * @param later  When the next one may be done: by default in the next turn.
   */
  constructor(act: (item: T) => unknown, later: (next: () => void) => unknown = setImmediate) {
    this.#act = act
    this.#later = later
  }

  /** At once, unless it is too soon. */
  add(item: T): void {
    if (this.#isTaken) return void this.#waiting.push(item)
    this.#take(item)
  }

  /** Takes out whatever waits. */
  empty(): T[] {
    return this.#waiting.splice(0)
  }

  #take(item: T): void {
    this.#isTaken = true
    if (this.#act(item) === false) this.#isTaken = false
    else this.#later(this.#next)
  }

  readonly #next = (): void => {
    this.#isTaken = false
    while (!this.#isTaken && this.#waiting.length > 0) this.#take(this.#waiting.shift() as T)
  }
}

/** What is due at the end of this turn, and what follows it. */
let due: (() => void)[] = []
let following: (() => void)[] = []
let isScheduled = false
let isEnding = false

/** Once, when everything that had come when this turn of the event loop began has been read, of every connection. */
export function atTurnsEnd(act: () => void): void {
  due.push(act)
  schedule()
}

/** The same, when all has been done that is due then. It must not throw. */
export function afterTurnsEnd(act: () => void): void {
  following.push(act)
  schedule()
}

/** Whether this is the end of a turn, in the sense of `atTurnsEnd`. */
export function isTurnsEnd(): boolean {
  return isEnding
}

function schedule(): void {
  if (isScheduled) return
  isScheduled = true
  setImmediate(endTurn)
}

function endTurn(): void {
  const [acts, after] = [due, following]
  due = []
  following = []
  isScheduled = false
  isEnding = true
  let done = 0
  try {
    while (done < acts.length) acts[done++]?.()
  } finally {
    isEnding = false
    // One that fails takes nobody with it.
    for (let i = done; i < acts.length; i++) atTurnsEnd(acts[i] as () => void)
    for (const act of after) act()
  }
}

/**
 * Does at the end of a turn of the event loop what has come in it, in order. When all is read first and then served one
 * after the other, each finds the code and the data that it needs still at hand from the one before.
 *
 * Not more than a few dozen in one turn, and fewer when they take long: of a thousand that come at once, the first are done before the last are begun,
 * whoever else waits for the event loop is not held up for all of them, and what is under way stays small enough for
 * the young part of the heap (a third less CPU with a thousand connections that all ask).
 */
export class AtTurnsEnd<T> {
  readonly #act: (item: T) => void
  readonly #isWanted: ((item: T) => boolean) | undefined
  /** Those of this turn, and those who wait since an earlier one. */
  #come: T[] = []
  #waiting: T[] = []

  /** @param isWanted  Asked of each at the end of its own turn, however many wait before it. */
  constructor(act: (item: T) => void, isWanted?: (item: T) => boolean) {
    this.#act = act
    this.#isWanted = isWanted
  }

  /** Somebody is still to be done. */
  get isBusy(): boolean {
    return this.#come.length > 0 || this.#waiting.length > 0
  }

  add(item: T): void {
    if (this.#come.push(item) === 1 && this.#waiting.length === 0) atTurnsEnd(this.#end)
  }

  readonly #end = (): void => {
    const come = this.#isWanted === undefined ? this.#come : this.#come.filter(this.#isWanted)
    this.#come = []
    const items = this.#waiting.length > 0 ? this.#waiting.concat(come) : come
    if (items.length === 0) return
    // What is added meanwhile finds somebody waiting, and does not ask for a turn of its own.
    this.#waiting = items
    const untilMono = performance.now() + MOST_MS
    let done = 0
    try {
      do this.#act(items[done++] as T)
      while (done < items.length && done < AT_MOST && performance.now() < untilMono)
    } finally {
      this.#waiting = done === items.length ? [] : items.slice(done)
      if (this.#waiting.length > 0 || this.#come.length > 0) atTurnsEnd(this.#end)
    }
  }
}

/**
 * Does things as they come while those of one turn of the event loop take no longer than `MOST_MS` together, and the others
 * in the turns after, in order.
 */
export class WhileInTime<T> {
  readonly #act: (item: T) => void
  /** When the first of this turn was begun. */
  #sinceMono: number | undefined
  readonly #late: T[] = []

  /** @param act  Does one that was late. */
  constructor(act: (item: T) => void) {
    this.#act = act
  }

  /** Whether what has come now must wait, see `wait`. When it need not, the time of this turn runs from here. */
  isLate(nowMono: number): boolean {
    if (this.#late.length > 0) return true
    if (this.#sinceMono !== undefined) return nowMono - this.#sinceMono >= MOST_MS
    this.#sinceMono = nowMono
    // Not `atTurnsEnd`: that would put the requests of this turn before the lines, and the answers, of these (3 % of a call).
    setImmediate(this.#end)
    return false
  }

  /** To be called at once with what is late. */
  wait(item: T): void {
    this.#late.push(item)
  }

  readonly #end = (): void => {
    this.#sinceMono = undefined
    if (this.#late.length === 0) return
    const untilMono = performance.now() + MOST_MS
    let done = 0
    try {
      do this.#act(this.#late[done++] as T)
      while (done < this.#late.length && performance.now() < untilMono)
    } finally {
      this.#late.splice(0, done)
      if (this.#late.length > 0) setImmediate(this.#end)
    }
  }
}

const AT_MOST = 32
/** Whoever else waits for the event loop, a health probe for one, waits no longer than this, and for one of them more. */
const MOST_MS = 5

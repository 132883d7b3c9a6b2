/**
 * Sliding windows for many keys at once, one column of packed counters for each window of a quota.
 *
 * A window of `perMs` is cut into `SUB_WINDOWS` equal sub-windows. Each key has a ring of `SUB_WINDOWS + 1` counters:
 * the sub-window that is under way and the 32 before it. What is admitted now must fit into the limit together with
 * all of them, the oldest one counted whole although part of it is out of the window already.
 *
 * INVARIANT: no interval of length `perMs`, both ends included, holds more than `limit` units. Such an interval begins
 * in some sub-window j and ends in j + 32 at the latest, and when its last unit was admitted, everything from j on
 * was in the ring.
 *
 * The price: a unit counts for at least `perMs` and at most `perMs` · 33/32, so somebody who calls without pause gets
 * between 97 % and 100 % of the limit per window, never more.
 *
 * Times are milliseconds of one clock that does not run backwards (see `SteadyClock`).
 */
const SUB_WINDOWS = 32
const RING = SUB_WINDOWS + 1

export const CHUNK_BITS = 10
const CHUNK = 1 << CHUNK_BITS
const WITHIN = CHUNK - 1

type Counters = Uint8Array | Uint16Array | Uint32Array

/** Largest limit that a counter can hold. */
export const MAX_LIMIT = 0xffff_ffff

/** Bytes of one counter for a limit: no sub-window ever holds more than the limit. */
function counterBytes(limit: number): 1 | 2 | 4 {
  return limit <= 0xff ? 1 : limit <= 0xffff ? 2 : 4
}

/** How long a unit may still count after it was charged. */
export function retentionMs(perMs: number): number {
  return (perMs / SUB_WINDOWS) * RING
}

/** Bytes that one key costs in a column. */
export function bytesPerKey(limit: number): number {
  return RING * counterBytes(limit) + 4 + 8
}

/** The windows of one length, one for each slot. Slots are small integers that `KeyTable` hands out. */
export class WindowColumn {
  readonly perMs: number
  readonly subMs: number
  readonly counterMax: number
  readonly #bytes: 1 | 2 | 4
  // In chunks, so that growing never copies what is there.
  readonly #counters: Counters[] = []
  readonly #sums: Uint32Array[] = []
  /** Number of the sub-window that was under way when a slot was last looked at. */
  readonly #heads: Float64Array[] = []

  constructor(perMs: number, limit: number) {
    this.perMs = perMs
    this.subMs = perMs / SUB_WINDOWS
    this.#bytes = counterBytes(limit)
    this.counterMax = this.#bytes === 1 ? 0xff : this.#bytes === 2 ? 0xffff : MAX_LIMIT
  }

  /** Makes room for the slots up to and including `slot`. */
  grow(slot: number): void {
    while (this.#sums.length <= slot >> CHUNK_BITS) {
      const size = CHUNK * RING
      this.#counters.push(
        this.#bytes === 1 ? new Uint8Array(size) : this.#bytes === 2 ? new Uint16Array(size) : new Uint32Array(size),
      )
      this.#sums.push(new Uint32Array(CHUNK))
      this.#heads.push(new Float64Array(CHUNK))
    }
  }

  /** Gives the memory of all chunks but the first back; the slots in them are no longer in use. */
  shrink(): void {
    this.#counters.length = 1
    this.#sums.length = 1
    this.#heads.length = 1
  }

  /** Makes a slot an empty window. */
  reset(slot: number): void {
    const at = (slot & WITHIN) * RING
    this.#counters[slot >> CHUNK_BITS]!.fill(0, at, at + RING)
    this.#sums[slot >> CHUNK_BITS]![slot & WITHIN] = 0
    this.#heads[slot >> CHUNK_BITS]![slot & WITHIN] = 0
  }

  /** Units that count at `nowMs`. Drops what has left the window, and nothing else. */
  used(slot: number, nowMs: number): number {
    const head = Math.floor(nowMs / this.subMs)
    const heads = this.#heads[slot >> CHUNK_BITS]!
    const sums = this.#sums[slot >> CHUNK_BITS]!
    const row = slot & WITHIN
    const last = heads[row]!
    const sum = sums[row]!
    if (head <= last) return sum
    heads[row] = head
    if (sum === 0) return 0
    const counters = this.#counters[slot >> CHUNK_BITS]!
    const at = row * RING
    if (head - last >= RING) {
      counters.fill(0, at, at + RING)
      sums[row] = 0
      return 0
    }
    let left = sum
    for (let bucket = last + 1; bucket <= head; bucket++) {
      const index = at + (bucket % RING)
      left -= counters[index]!
      counters[index] = 0
    }
    sums[row] = left
    return left
  }

  /** Charges `cost` units at `nowMs`; whether they fit is for the caller to know. Saturates rather than overflows. */
  charge(slot: number, nowMs: number, cost: number): void {
    const sum = this.used(slot, nowMs)
    const row = slot & WITHIN
    const counters = this.#counters[slot >> CHUNK_BITS]!
    const index = row * RING + (this.#heads[slot >> CHUNK_BITS]![row]! % RING)
    const before = counters[index]!
    const charged = Math.min(this.counterMax - before, MAX_LIMIT - sum, cost)
    counters[index] = before + charged
    this.#sums[slot >> CHUNK_BITS]![row] = sum + charged
  }

  /** Takes units back that were charged at `chargedAtMs`, unless they have left the window already. */
  refund(slot: number, chargedAtMs: number, cost: number): void {
    const bucket = Math.floor(chargedAtMs / this.subMs)
    const row = slot & WITHIN
    if (this.#heads[slot >> CHUNK_BITS]![row]! - bucket >= RING) return
    const counters = this.#counters[slot >> CHUNK_BITS]!
    const index = row * RING + (bucket % RING)
    const back = Math.min(counters[index]!, cost)
    counters[index]! -= back
    this.#sums[slot >> CHUNK_BITS]![row]! -= back
  }

  /**
   * Time until `cost` units fit into `limit` if nobody calls before: a retry then succeeds, whole milliseconds.
   * A cost above the limit never fits; the answer is then the time until the window is empty.
   */
  fitsAfterMs(slot: number, nowMs: number, cost: number, limit: number): number {
    let excess = this.used(slot, nowMs) + cost - limit
    if (excess <= 0) return 0
    const head = this.#heads[slot >> CHUNK_BITS]![slot & WITHIN]!
    const counters = this.#counters[slot >> CHUNK_BITS]!
    const at = (slot & WITHIN) * RING
    let leaves = head
    for (let bucket = Math.max(0, head - SUB_WINDOWS); bucket <= head; bucket++) {
      const count = counters[at + (bucket % RING)]!
      if (count === 0) continue
      leaves = bucket
      excess -= count
      if (excess <= 0) break
    }
    return this.#untilMs(leaves + RING, nowMs)
  }

  /** Time until the window is empty if nobody calls. */
  emptyAfterMs(slot: number, nowMs: number): number {
    if (this.used(slot, nowMs) === 0) return 0
    const head = this.#heads[slot >> CHUNK_BITS]![slot & WITHIN]!
    const counters = this.#counters[slot >> CHUNK_BITS]!
    const at = (slot & WITHIN) * RING
    let bucket = head
    while (counters[at + (bucket % RING)] === 0) bucket--
    return this.#untilMs(bucket + RING, nowMs)
  }

  /** Copies what counts in a slot of another column, at the latest time at which it can have been charged. */
  take(slot: number, from: WindowColumn, fromSlot: number, nowMs: number): void {
    if (from.used(fromSlot, nowMs) === 0) return
    const head = from.#heads[fromSlot >> CHUNK_BITS]![fromSlot & WITHIN]!
    const counters = from.#counters[fromSlot >> CHUNK_BITS]!
    const at = (fromSlot & WITHIN) * RING
    for (let bucket = Math.max(0, head - SUB_WINDOWS); bucket <= head; bucket++) {
      const count = counters[at + (bucket % RING)]!
      if (count === 0) continue
      const sameCut = from.perMs === this.perMs
      this.charge(slot, sameCut ? bucket * this.subMs : Math.min(nowMs, (bucket + 1) * from.subMs), count)
    }
    this.used(slot, nowMs)
  }

  #untilMs(bucket: number, nowMs: number): number {
    let wait = Math.max(1, Math.ceil(bucket * this.subMs - nowMs))
    // Rounding of the division below must not make the answer a lie by one millisecond.
    while (Math.floor((nowMs + wait) / this.subMs) < bucket) wait++
    return wait
  }
}

/**
 * Time that only goes forward. A clock that jumps back stands still for that one step and goes on from there, so it
 * neither frees anything early nor locks anybody out until the old time is reached again.
 */
export class SteadyClock {
  #last: number | undefined
  #time = 0

  /** @param nowMs  What the clock shows now, in ms; monotonic if it can be had. */
  at(nowMs: number): number {
    if (this.#last !== undefined && nowMs > this.#last) this.#time += nowMs - this.#last
    this.#last = nowMs
    return this.#time
  }
}

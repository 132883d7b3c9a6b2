import type { CompiledQuota } from './compile.ts'
import { ShardedMap } from './sharded-map.ts'
import { bytesPerKey, CHUNK_BITS, retentionMs, WindowColumn } from './window.ts'

/**
 * The windows of one quota for all its keys, in bounded memory.
 *
 * - A key whose windows are empty is dropped: some are looked at with every new key and every draw, in turn, so there
 *   is no timer and no long pause.
 * - When the cap is reached and nothing can be dropped, new keys share one bucket, the overflow, with the limits of a
 *   single key. Nobody who has used something is forgotten, and a flood of invented names gains one share in all.
 * - While the overflow has units in it, a new key begins with a copy of it: some of those may have been its own.
 */
export class KeyTable {
  readonly columns: readonly WindowColumn[]
  /** Most keys that are kept beside the overflow. */
  capacity: number
  /** Draws that had to share the overflow. */
  overflowed = 0
  readonly #retentionMs: number
  readonly #slots = new ShardedMap()
  readonly #keys: (string | undefined)[] = [undefined]
  /** When a slot was last drawn from. */
  readonly #touched: Float64Array[] = []
  readonly #free: number[] = []
  /** Slots promised to demands of the draw under way, which have not taken them yet. */
  #promised = 0
  #hand = 1

  constructor(quota: CompiledQuota, capacity: number) {
    this.columns = quota.windows.map(({ perMs, ceiling }) => new WindowColumn(perMs, ceiling))
    this.capacity = capacity
    this.#retentionMs = Math.max(0, ...quota.windows.map(({ perMs }) => retentionMs(perMs)))
    this.#grow(OVERFLOW)
  }

  get size(): number {
    return this.#slots.size
  }

  keys(): Iterable<string> {
    return this.#slots.keys()
  }

  /** The slot of a key, or undefined when it has none. */
  find(key: string): number | undefined {
    return this.#slots.get(key)
  }

  /** Where a key would draw from: its own slot, a `FRESH` one that is now promised to it, or the `OVERFLOW`. */
  place(key: string, nowMs: number): number {
    const slot = this.#slots.get(key)
    if (slot !== undefined) {
      // Counts as a use, so that no sweep in this draw can drop it.
      this.#touched[slot >> CHUNK_BITS]![slot & WITHIN] = nowMs
      return slot
    }
    if (this.#slots.size + this.#promised >= this.capacity) this.sweep(nowMs, SWEEP_AT_CAP)
    if (this.#slots.size + this.#promised >= this.capacity) return OVERFLOW
    this.#promised++
    return FRESH
  }

  /** Ends a draw: what was promised and not taken is free again. */
  settle(): void {
    this.#promised = 0
  }

  /** Units that count against whoever draws from a slot. */
  used(column: WindowColumn, slot: number, nowMs: number): number {
    return column.used(slot === FRESH ? OVERFLOW : slot, nowMs)
  }

  /** Charges all columns. Returns the slot that was charged. */
  charge(key: string, slot: number, nowMs: number, cost: number): number {
    const at = slot === FRESH ? this.#take(key, nowMs) : slot
    if (slot === OVERFLOW) this.overflowed++
    for (const column of this.columns) column.charge(at, nowMs, cost)
    this.#touched[at >> CHUNK_BITS]![at & WITHIN] = nowMs
    return at
  }

  /** Takes back what was charged to a key at a time, as far as it still counts. */
  refund(key: string, chargedAtMs: number, cost: number): void {
    const slot = this.#slots.get(key)
    if (slot === undefined) return
    for (const column of this.columns) column.refund(slot, chargedAtMs, cost)
  }

  /** Looks at the next `count` slots in turn and drops the keys whose windows are empty. */
  sweep(nowMs: number, count: number): void {
    const end = this.#keys.length
    for (let i = 0; i < count && end > 1; i++) {
      if (this.#hand >= end) this.#hand = 1
      const slot = this.#hand++
      const key = this.#keys[slot]
      if (key === undefined) continue
      if (nowMs - this.#touched[slot >> CHUNK_BITS]![slot & WITHIN]! < this.#retentionMs) continue
      this.#slots.delete(key)
      this.#keys[slot] = undefined
      this.#free.push(slot)
    }
    if (this.#slots.size === 0 && this.#keys.length > 1) this.#shrink()
  }

  /** Takes over what counts in the table of an earlier generation with other windows. */
  inherit(from: KeyTable, nowMs: number): void {
    for (const [key, fromSlot] of from.#slots.entries()) {
      const slot = this.#slots.size >= this.capacity ? OVERFLOW : this.#take(key, nowMs)
      this.#copy(slot, from, fromSlot, nowMs)
    }
    this.#copy(OVERFLOW, from, OVERFLOW, nowMs)
  }

  /** Whether a later generation of the quota can go on with this very table. */
  fits(quota: CompiledQuota): boolean {
    if (quota.windows.length !== this.columns.length) return false
    return quota.windows.every(({ perMs, limit }, at) => {
      const column = this.columns[at]!
      return column.perMs === perMs && limit <= column.counterMax
    })
  }

  #copy(slot: number, from: KeyTable, fromSlot: number, nowMs: number): void {
    if (from.columns.length === 0) return
    for (const column of this.columns) column.take(slot, closest(from.columns, column.perMs), fromSlot, nowMs)
    this.#touched[slot >> CHUNK_BITS]![slot & WITHIN] = nowMs
  }

  #take(key: string, nowMs: number): number {
    const slot = this.#free.pop() ?? this.#keys.length
    this.#grow(slot)
    const text = compact(key)
    this.#keys[slot] = text
    this.#slots.set(text, slot)
    if (this.#promised > 0) this.#promised--
    for (const column of this.columns) {
      column.reset(slot)
      column.take(slot, column, OVERFLOW, nowMs)
    }
    return slot
  }

  #grow(slot: number): void {
    for (const column of this.columns) column.grow(slot)
    while (this.#touched.length <= slot >> CHUNK_BITS) this.#touched.push(new Float64Array(1 << CHUNK_BITS))
  }

  /** Gives all memory back but for the first chunk, which holds the overflow. */
  #shrink(): void {
    this.#keys.length = 1
    this.#free.length = 0
    this.#hand = 1
    for (const column of this.columns) column.shrink()
    this.#touched.length = 1
  }
}

export const OVERFLOW = 0
export const FRESH = -1

/** Bytes that one key of a quota costs, its text and its place in the map included; measured in bench/micro/quota.ts. */
export function bytesOfKey(quota: CompiledQuota): number {
  return KEY_BYTES + quota.windows.reduce((bytes, { ceiling }) => bytes + bytesPerKey(ceiling), 0)
}

/**
 * The same text in as few bytes as it takes. A string that was put together keeps the pieces alive that it came from,
 * more than twice the memory of the text itself.
 */
function compact(key: string): string {
  const encoding = /[\u0100-\uffff]/.test(key) ? 'utf16le' : 'latin1'
  return Buffer.from(key, encoding).toString(encoding)
}

const WITHIN = (1 << CHUNK_BITS) - 1
/** Key text of typical length, entry of the map, list of keys, time of the last draw. */
const KEY_BYTES = 130
/** At the cap a new key pays for looking at so many others; each of them is a few loads. */
const SWEEP_AT_CAP = 64

/** The window that knows the most about the last `perMs`: the shortest that is long enough, else the longest. */
function closest(columns: readonly WindowColumn[], perMs: number): WindowColumn {
  let best = columns[0]!
  for (const column of columns) {
    const better = best.perMs < perMs ? column.perMs > best.perMs : column.perMs >= perMs && column.perMs < best.perMs
    if (better) best = column
  }
  return best
}

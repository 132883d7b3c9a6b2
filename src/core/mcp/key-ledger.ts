import { foldName } from './fold.ts'

/**
 * Remembers the member names of every object that is open during a walk and tells when one comes twice.
 * Whatever the names are, the time is no worse than that of sorting them: names that crowd a table on purpose are sorted,
 * and names that have been given one hash on purpose are a problem of their own.
 */
export class KeyLedger {
  #bytes: Buffer = EMPTY
  #hashes = new Int32Array(256)
  #starts = new Int32Array(256)
  #ends = new Int32Array(256)
  #top = 0
  /** Pairs of different names with one hash that were met in this walk. */
  #chance = 0
  #level = -1
  readonly #bases: number[] = []
  readonly #indexes: (NameIndex | undefined)[] = []

  reset(bytes: Buffer): void {
    this.#bytes = bytes
    this.#top = 0
    this.#chance = 0
    this.#level = -1
    this.#indexes.length = 0
  }

  /** An object begins. */
  open(): void {
    this.#level++
    this.#bases[this.#level] = this.#top
  }

  /** The innermost object ends. @returns what is wrong with its names, where that could not be said earlier. */
  close(): string | undefined {
    const base = this.#bases[this.#level]!
    let clash: string | undefined
    if (this.#indexes.length > this.#level) {
      const index = this.#indexes[this.#level]
      if (index?.isCrowded === true) clash = this.#sorted(base, index.isFolded)
      this.#indexes.length = this.#level
    }
    this.#top = base
    this.#level--
    return clash
  }

  /**
   * Enters a name of the innermost object.
   *
   * @param hash    Hash of the name, or of its fold when `folded`.
   * @param folded  Names of this object that fold onto each other count as one.
   * @returns       What is wrong with it, or undefined.
   */
  add(hash: number, start: number, end: number, folded: boolean): string | undefined {
    if (this.#chance > MOST_CHANCE) return undefined
    const base = this.#bases[this.#level]!
    const at = this.#top
    if (at === this.#hashes.length) this.#grow()
    this.#hashes[at] = hash
    this.#starts[at] = start
    this.#ends[at] = end
    this.#top = at + 1
    if (at - base >= FEW) return this.#addToMany(base, at, folded)
    for (let i = base; i < at; i++) {
      if (this.#hashes[i] === hash) {
        const clash = this.#clash(i, at, folded)
        if (clash !== undefined) return clash
      }
    }
    return undefined
  }

  #addToMany(base: number, at: number, folded: boolean): string | undefined {
    let index = this.#indexes.length > this.#level ? this.#indexes[this.#level] : undefined
    if (index === undefined) {
      index = { slots: new Int32Array(FEW * 4), isFolded: folded, isCrowded: false }
      this.#indexes[this.#level] = index
      for (let i = base; i < at; i++) this.#place(index, base, i)
    } else if (!index.isCrowded && (at - base) * 2 > index.slots.length) {
      index.slots = new Int32Array(index.slots.length * 4)
      for (let i = base; i < at; i++) this.#place(index, base, i)
    }
    return this.#place(index, base, at)
  }

  /** Open addressing over names of one object; 0 is free, otherwise the index relative to `base`, plus one. */
  #place(index: NameIndex, base: number, at: number): string | undefined {
    if (index.isCrowded) return undefined
    const { slots } = index
    const mask = slots.length - 1
    const own = this.#hashes[at]!
    const mixed = Math.imul(own ^ (own >>> 15), 0x2c1b3c6d)
    let slot = (mixed ^ (mixed >>> 13)) & mask
    for (let probe = 0; probe < MOST_PROBES; probe++) {
      const taken = slots[slot]!
      if (taken === 0) {
        slots[slot] = at - base + 1
        return undefined
      }
      const other = base + taken - 1
      if (this.#hashes[other] === own) {
        const clash = this.#clash(other, at, index.isFolded)
        if (clash !== undefined) return clash
      }
      slot = (slot + 1) & mask
    }
    // Chance does not do this; someone has chosen the names. They are sorted instead, when the object is whole.
    index.isCrowded = true
    return undefined
  }

  /** Looks for twins among all names of the innermost object: n log n, whatever the names are. */
  #sorted(base: number, folded: boolean): string | undefined {
    const count = this.#top - base
    // Hash and index in one number each: 32 bits and 21 bits.
    const order = new Float64Array(count)
    for (let i = 0; i < count; i++) order[i] = (this.#hashes[base + i]! >>> 0) * SPAN + i
    order.sort()
    for (let i = 1; i < count; i++) {
      // Of equal hashes every pair has to be looked at; not many can be equal without being a problem.
      for (let j = i - 1; j >= 0 && Math.floor(order[j]! / SPAN) === Math.floor(order[i]! / SPAN); j--) {
        const clash = this.#clash(base + (order[j]! % SPAN), base + (order[i]! % SPAN), folded)
        if (clash !== undefined) return clash
      }
    }
    return undefined
  }

  #clash(earlier: number, later: number, folded: boolean): string | undefined {
    const first = this.#text(earlier)
    const second = this.#text(later)
    if (first === second) return `member ${show(second)} occurs twice`
    if (folded && foldName(first) === foldName(second)) {
      return `members ${show(first)} and ${show(second)} can be taken for each other`
    }
    this.#chance++
    return this.#chance > MOST_CHANCE ? 'member names that are made to collide' : undefined
  }

  #text(at: number): string {
    const text = this.#bytes.toString('utf8', this.#starts[at], this.#ends[at])
    return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text
  }

  #grow(): void {
    this.#hashes = doubled(this.#hashes)
    this.#starts = doubled(this.#starts)
    this.#ends = doubled(this.#ends)
  }
}

interface NameIndex {
  slots: Int32Array
  readonly isFolded: boolean
  /** Probing has become too long, and has been given up. */
  isCrowded: boolean
}

const EMPTY = Buffer.alloc(0)
/** Up to so many names are compared one by one, which costs less than to begin a table. */
const FEW = 64
const MOST_PROBES = 128
/** More than the names that any body is allowed to have. */
const SPAN = 2 ** 21
/** Among 100,000 names one such pair is to be expected; nobody meets so many by chance. */
const MOST_CHANCE = 16

function doubled(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(array.length * 2)
  larger.set(array)
  return larger
}

/** A name from a caller, for a detail that goes into answers and logs: quoted, escaped, bounded. */
export function show(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name).replace(
    UNPRINTABLE,
    c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

const UNPRINTABLE = /[^\x20-\x7e…]/g

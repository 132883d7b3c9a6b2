import { foldName } from './fold.ts'

/**
 * Remembers the member names of every object that is open during a walk and tells when one comes twice.
 * Linear in the number of names whatever they are: names whose hashes collide on purpose end in a `Set`, whose own
 * hashes are seeded anew in each process.
 */
export class KeyLedger {
  #bytes: Buffer = EMPTY
  #hashes = new Int32Array(256)
  #starts = new Int32Array(256)
  #ends = new Int32Array(256)
  /** Decoded text of names that were written with escapes or beyond ASCII, by index. */
  readonly #texts: (string | undefined)[] = []
  #top = 0
  #level = -1
  readonly #bases: number[] = []
  readonly #indexes: (NameIndex | undefined)[] = []

  reset(bytes: Buffer): void {
    this.#bytes = bytes
    this.#top = 0
    this.#level = -1
    this.#texts.length = 0
    this.#indexes.length = 0
  }

  /** An object begins. */
  open(): void {
    this.#level++
    this.#bases[this.#level] = this.#top
  }

  /** The innermost object ends. */
  close(): void {
    this.#top = this.#bases[this.#level]!
    if (this.#texts.length > this.#top) this.#texts.length = this.#top
    if (this.#indexes.length > this.#level) this.#indexes.length = this.#level
    this.#level--
  }

  /**
   * Enters a name of the innermost object.
   *
   * @param hash    Hash of the name, or of its fold when `folded`.
   * @param text    The name when the bytes are not the name themselves.
   * @param folded  Names of this object that fold onto each other count as one.
   * @returns       What is wrong with it, or undefined.
   */
  add(hash: number, start: number, end: number, text: string | undefined, folded: boolean): string | undefined {
    const base = this.#bases[this.#level]!
    const at = this.#top
    if (at === this.#hashes.length) this.#grow()
    this.#hashes[at] = hash
    this.#starts[at] = start
    this.#ends[at] = end
    if (text !== undefined) this.#texts[at] = text
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
      index = { slots: new Int32Array(FEW * 8), names: undefined }
      this.#indexes[this.#level] = index
      for (let i = base; i < at; i++) this.#place(index, base, i, folded)
    } else if (index.names === undefined && (at - base) * 4 > index.slots.length) {
      index.slots = new Int32Array(index.slots.length * 4)
      for (let i = base; i < at; i++) this.#place(index, base, i, folded)
    }
    return this.#place(index, base, at, folded)
  }

  /** Open addressing over names of one object; 0 is free, otherwise the index relative to `base`, plus one. */
  #place(index: NameIndex, base: number, at: number, folded: boolean): string | undefined {
    if (index.names === undefined) {
      const { slots } = index
      const mask = slots.length - 1
      let hash = this.#hashes[at]!
      hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
      let slot = (hash ^ (hash >>> 13)) & mask
      for (let probe = 0; probe < MOST_PROBES; probe++) {
        const taken = slots[slot]!
        if (taken === 0) {
          slots[slot] = at - base + 1
          return undefined
        }
        const other = base + taken - 1
        if (this.#hashes[other] === this.#hashes[at]) {
          const clash = this.#clash(other, at, folded)
          if (clash !== undefined) return clash
        }
        slot = (slot + 1) & mask
      }
      // Chance does not do this; someone has chosen the names.
      index.names = new Set()
      for (let i = base; i < at; i++) index.names.add(this.#entry(i, folded))
    }
    const before = index.names.size
    index.names.add(this.#entry(at, folded))
    return index.names.size === before ? `member ${show(this.#text(at))} occurs twice` : undefined
  }

  // The prefix keeps names such as "17" from being hashed as array indexes, which are not seeded.
  #entry(at: number, folded: boolean): string {
    return `"${folded ? foldName(this.#text(at)) : this.#text(at)}`
  }

  #clash(earlier: number, later: number, folded: boolean): string | undefined {
    const first = this.#text(earlier)
    const second = this.#text(later)
    if (first === second) return `member ${show(second)} occurs twice`
    if (folded && foldName(first) === foldName(second)) {
      return `members ${show(first)} and ${show(second)} can be taken for each other`
    }
    return undefined
  }

  #text(at: number): string {
    return this.#texts[at] ?? this.#bytes.toString('utf8', this.#starts[at], this.#ends[at])
  }

  #grow(): void {
    this.#hashes = doubled(this.#hashes)
    this.#starts = doubled(this.#starts)
    this.#ends = doubled(this.#ends)
  }
}

interface NameIndex {
  slots: Int32Array
  /** Set once probing has become too long. */
  names: Set<string> | undefined
}

const EMPTY = Buffer.alloc(0)
/** Up to so many names are compared one by one. */
const FEW = 16
const MOST_PROBES = 48

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

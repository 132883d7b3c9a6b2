import { hashEscaped } from './escaped-name.ts'
import { foldName, LONGEST_FOLDED } from './fold.ts'
import { LOWER, STOP, skipEscape, skipNested, skipNumber, skipSpace, skipWord } from './json-bytes.ts'
import { KeyLedger, show } from './key-ledger.ts'
import {
  HASH_PRIME,
  HASH_SEED,
  hashName,
  IS_ID,
  knownByHash,
  MAY_BE_LARGE,
  NOTHING,
  OF_REQUEST,
  OF_RESPONSE,
  zone,
} from './known-names.ts'

export interface ScanLimits {
  /** Deepest nesting of arrays and objects, at most `DEEPEST`; the body itself is 1. */
  readonly depth: number
  /** Members of all objects of the body together. */
  readonly keys: number
}

/** Deepest nesting that can be asked for. */
export const DEEPEST = 512

/** Why a body is not accepted. `syntax`: it is not JSON. `ambiguous`: some parser reads it differently. */
export interface ScanProblem {
  readonly kind: 'syntax' | 'ambiguous' | 'limit'
  readonly detail: string
}

export interface Scan {
  readonly problem: ScanProblem | undefined
  /** Where the value of the request's `id` is; -1 when there is none, or more than one, or it is a response's. */
  readonly idStart: number
  readonly idEnd: number
  /** `[start, end, …]` of large values that can be left out when the message around them is read. */
  readonly large: readonly number[]
  /** `[start, end, …]` of long texts among the arguments themselves, and of their names. */
  readonly texts: readonly number[]
  readonly textNames: readonly number[]
  /** Lists, objects and members of the body: what makes it larger when it is parsed. */
  readonly parts: number
  /** The body is an array. */
  readonly isBatch: boolean
}

/**
 * Walks over a JSON text once and says whether every JSON parser known to us reads the same in it.
 * Accepts a subset of what `JSON.parse` accepts, never more.
 *
 * @param bytes  The whole body, valid UTF-8.
 * @returns      The first problem, if any; after an ambiguity the walk goes on, so that the id is found anywhere.
 * @source       RFC 8259; RFC 7493 §2.3 (no duplicate names); CVE-2026-27896, GHSA-q382-vc8q-7jhj (names that fold).
 */
export function scanStrict(bytes: Buffer, limits: ScanLimits): Scan {
  return new Walk(bytes, limits).run()
}

/** Values from this size on can be left out. */
const LARGE_BYTES = 2048
/** Texts from this size on are not made before somebody asks. */
const LONG_TEXT = 8192
/** How much of a run is looked at byte by byte before it is taken for a long one. */
const SHORT_RUN = 16

/** Lists and objects of one body: an empty one has three bytes on the wire, and twenty times as much when it is parsed. */
const MOST_CONTAINERS = 200_000

/** Characters of names that are folded in one body: folding is slow, and no tool has so many arguments. */
const MOST_FOLDED = 32_768
/** What folding a name costs besides its characters, in characters. */
const FOLD_BASE = 16

// Only used during a walk, and a walk never waits: one is enough.
const LEDGER = new KeyLedger()

class Walk implements Scan {
  problem: ScanProblem | undefined
  idStart = -1
  idEnd = -1
  readonly large: number[] = []
  readonly texts: number[] = []
  readonly textNames: number[] = []
  private ids = 0
  private keys = 0
  private containers = 0
  private depth = 0
  isBatch = false
  private foldRoom = MOST_FOLDED
  /** What the latest member name means: the zone of its value, and what is to be noted of it. */
  private inner: number = zone.data
  private note = NOTHING
  /** What was noted of all members. */
  private noted = NOTHING
  private words: Int32Array | undefined
  private readonly bytes: Buffer
  private readonly limits: ScanLimits

  constructor(bytes: Buffer, limits: ScanLimits) {
    this.bytes = bytes
    this.limits = limits
  }

  get parts(): number {
    return this.containers + this.keys
  }

  run(): Scan {
    LEDGER.reset(this.bytes)
    let pos = skipSpace(this.bytes, 0)
    this.isBatch = this.bytes[pos] === 0x5b
    pos = this.value(pos, zone.top)
    if (pos >= 0) {
      pos = skipSpace(this.bytes, pos)
      if (pos < this.bytes.length) this.syntax(pos, 'trailing data')
    }
    const isResponse = (this.noted & (OF_REQUEST | OF_RESPONSE)) === OF_RESPONSE
    if (this.ids !== 1 || this.isBatch || isResponse) this.idStart = -1
    return this
  }

  // Each of the following takes the index where something begins and returns the one behind its end, or -1 when the
  // text is no JSON from there on, and then `problem` says why.

  private value(pos: number, inner: number): number {
    const bytes = this.bytes
    const c = bytes[pos]!
    if (c === 0x22) return this.string(pos + 1)
    if (c === 0x7b || c === 0x5b) {
      if (this.depth >= this.limits.depth) return this.tooDeep(pos)
      if (this.containers++ === MOST_CONTAINERS) this.limit(`more than ${MOST_CONTAINERS} lists and objects`)
      this.depth++
      const end = c === 0x7b ? this.object(pos, inner) : this.array(pos)
      this.depth--
      return end
    }
    const end = c <= 0x39 ? skipNumber(bytes, pos) : skipWord(bytes, pos)
    return end < 0 ? this.unexpected(pos) : end
  }

  private object(start: number, where: number): number {
    const bytes = this.bytes
    LEDGER.open()
    let pos = skipSpace(bytes, start + 1)
    if (bytes[pos] !== 0x7d) {
      for (;;) {
        if (bytes[pos] !== 0x22) return this.unexpected(pos)
        const nameAt = pos
        pos = this.name(pos + 1, where)
        if (pos < 0) return -1
        const nameEnd = pos
        if (bytes[pos] !== 0x3a) {
          pos = skipSpace(bytes, pos)
          if (bytes[pos] !== 0x3a) return this.unexpected(pos)
        }
        pos++
        if (bytes[pos]! <= 0x20) pos = skipSpace(bytes, pos)
        const from = pos
        const note = this.note
        pos = this.value(pos, this.inner)
        if (pos < 0) return -1
        if ((note & (IS_ID | MAY_BE_LARGE)) !== 0) this.noteValue(note, from, pos)
        else if (where === zone.arguments && pos - from >= LONG_TEXT) this.noteText(nameAt, nameEnd, from, pos)
        let c = bytes[pos]!
        if (c <= 0x20) {
          pos = skipSpace(bytes, pos)
          c = bytes[pos]!
        }
        if (c === 0x7d) break
        if (c !== 0x2c) return this.unexpected(pos)
        pos++
        if (bytes[pos]! <= 0x20) pos = skipSpace(bytes, pos)
      }
    }
    const clash = LEDGER.close()
    if (clash !== undefined) this.ambiguous(clash)
    return pos + 1
  }

  private array(start: number): number {
    const bytes = this.bytes
    // The elements of a batch are messages; the elements of every other array are data.
    const inner = this.depth === 1 ? zone.top : zone.data
    let pos = skipSpace(bytes, start + 1)
    if (bytes[pos] === 0x5d) return pos + 1
    for (;;) {
      pos = this.value(pos, inner)
      if (pos < 0) return -1
      let c = bytes[pos]!
      if (c <= 0x20) {
        pos = skipSpace(bytes, pos)
        c = bytes[pos]!
      }
      if (c === 0x5d) return pos + 1
      if (c !== 0x2c) return this.unexpected(pos)
      pos++
      if (bytes[pos]! <= 0x20) pos = skipSpace(bytes, pos)
    }
  }

  /** A member name, from behind its opening quote. */
  private name(start: number, where: number): number {
    const bytes = this.bytes
    const n = bytes.length
    let end = start
    let hash = HASH_SEED
    let isOdd = false
    // Two loops, so that data does not pay for folding; there the bytes are hashed as they are, UTF-8 too.
    if (where === zone.data) {
      for (; end < n; end++) {
        const b = bytes[end]!
        if ((STOP[b]! & 3) !== 0) break
        hash = Math.imul(hash ^ b, HASH_PRIME)
      }
    } else {
      for (; end < n; end++) {
        const b = bytes[end]!
        const stop = STOP[b]!
        if (stop !== 0) {
          if (stop !== 4) break
          isOdd = true
        }
        hash = Math.imul(hash ^ LOWER[b]!, HASH_PRIME)
      }
    }
    let after = end + 1
    if (end >= n || bytes[end] !== 0x22) {
      after = this.string(end)
      if (after < 0) return -1
      end = after - 1
      isOdd = true
    }
    let text: string | undefined
    // Once too much had to be folded the body is refused; what is left of it is only searched for the id.
    if (isOdd && this.foldRoom >= 0) {
      const escaped = where === zone.data ? hashEscaped(bytes, start, end) : undefined
      if (escaped !== undefined) hash = escaped
      else {
        text = JSON.parse(bytes.toString('utf8', start - 1, after)) as string
        hash = this.oddName(text, where)
      }
    }
    if (hash === PROTO_HASH) this.refuseProto(start, after)
    if (this.keys >= this.limits.keys) this.limit(`more than ${this.limits.keys} members`)
    else {
      this.keys++
      const clash = LEDGER.add(hash, start, end, where !== zone.data)
      if (clash !== undefined) this.ambiguous(clash)
    }
    this.inner = zone.data
    this.note = NOTHING
    if (where !== zone.data && where !== zone.arguments) this.meaning(where, hash, start, end, text)
    return after
  }

  /** A name that has escapes or goes beyond ASCII: what is refused in it, and the hash of its fold. */
  private oddName(text: string, where: number): number {
    if (!text.isWellFormed()) this.ambiguous('a lone surrogate in a member name')
    if (text.includes('\0')) this.ambiguous('NUL in a member name')
    if (where === zone.data) return hashName(text)
    if (where !== zone.arguments) {
      if (CONTROL.test(text)) this.ambiguous('a control character in a member name')
      if (text.length > LONGEST_FOLDED) this.ambiguous(`a member name of more than ${LONGEST_FOLDED} characters`)
    }
    this.foldRoom -= text.length + FOLD_BASE
    if (this.foldRoom >= 0) return hashName(foldName(text))
    this.limit('too many names of arguments that are escaped or not ASCII')
    return hashName(text)
  }

  private refuseProto(start: number, after: number): void {
    if (JSON.parse(this.bytes.toString('utf8', start - 1, after)) === '__proto__')
      this.ambiguous('a member named __proto__')
  }

  /** What a name of the envelope says of its value; refuses one that is only nearly a known name. */
  private meaning(where: number, hash: number, start: number, end: number, text: string | undefined): void {
    const known = knownByHash(hash)
    if (known === undefined || (known.zones & (1 << where)) === 0) {
      if (where === zone.params) this.note = MAY_BE_LARGE
      return
    }
    this.noted |= known.notes[where]!
    if (text === undefined ? isSame(this.bytes, start, end, known.bytes) : text === known.name) {
      this.inner = known.inner[where]!
      this.note = known.notes[where]!
      if (this.note === IS_ID) this.ids++
      return
    }
    const seen = text ?? this.bytes.toString('latin1', start, end)
    if (foldName(seen) === foldName(known.name)) this.ambiguous(`member ${show(seen)} can be taken for ${known.name}`)
  }

  private noteValue(note: number, start: number, end: number): void {
    if (note === IS_ID) {
      this.idStart = start
      this.idEnd = end
      if (isOddInteger(this.bytes, start, end)) this.ambiguous('an id that is no plain integer')
    } else if (end - start >= LARGE_BYTES && !this.isBatch) this.large.push(start, end)
  }

  private noteText(nameAt: number, nameEnd: number, start: number, end: number): void {
    if (this.bytes[start] !== 0x22 || this.isBatch) return
    this.texts.push(start, end)
    this.textNames.push(nameAt, nameEnd)
  }

  /** The rest of a string, to behind the closing quote. */
  private string(pos: number): number {
    const bytes = this.bytes
    const n = bytes.length
    for (;;) {
      const run = pos + SHORT_RUN < n ? pos + SHORT_RUN : n
      while (pos < run && (STOP[bytes[pos]!]! & 3) === 0) pos++
      if (pos === run) {
        if (pos < n) pos = this.skipWords(pos)
        while (pos < n && (STOP[bytes[pos]!]! & 3) === 0) pos++
        if (pos >= n) return this.syntax(pos, 'unclosed string')
      }
      const c = bytes[pos]!
      if (c === 0x22) return pos + 1
      if (c !== 0x5c) return this.syntax(pos, 'a character that must be escaped')
      do {
        const next = skipEscape(bytes, pos)
        if (next < 0) return this.syntax(pos, 'an unknown escape')
        pos = next
      } while (bytes[pos] === 0x5c)
    }
  }

  /** Walks on while no byte of four is a quote, a backslash or a control character; begins at a word of the memory. */
  private skipWords(pos: number): number {
    const shift = this.bytes.byteOffset
    if (this.words === undefined) this.words = new Int32Array(this.bytes.buffer, 0, this.bytes.buffer.byteLength >> 2)
    const words = this.words
    const last = (shift + this.bytes.length) >> 2
    const aligned = pos + (-(shift + pos) & 3)
    for (; pos < aligned; pos++) if ((STOP[this.bytes[pos] ?? 0]! & 3) !== 0) return pos
    let i = (shift + pos) >> 2
    for (; i < last; i++) {
      const w = words[i]!
      const quote = w ^ 0x22222222
      const slash = w ^ 0x5c5c5c5c
      const control = w & 0xe0e0e0e0
      // The usual test for a zero byte, three times.
      const hit = ((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) | ((control - ONES) & ~control)
      if ((hit & HIGHS) !== 0) break
    }
    return Math.max(pos, (i << 2) - shift)
  }

  private tooDeep(pos: number): number {
    this.limit(`nested deeper than ${this.limits.depth}`)
    const end = skipNested(this.bytes, pos)
    return end < 0 ? this.syntax(this.bytes.length, 'unexpected end') : end
  }

  private unexpected(pos: number): number {
    return this.syntax(pos, pos >= this.bytes.length ? 'unexpected end' : 'unexpected character')
  }

  private syntax(pos: number, detail: string): number {
    this.problem ??= { kind: 'syntax', detail: `${detail} at byte ${pos}` }
    return -1
  }

  private ambiguous(detail: string): void {
    this.problem ??= { kind: 'ambiguous', detail }
  }

  private limit(detail: string): void {
    this.problem ??= { kind: 'limit', detail }
  }
}

const PROTO_HASH = hashName('__proto__')
const ONES = 0x01010101
const HIGHS = 0x80808080 | 0
const CONTROL = /\p{Cc}/u

/** Whether a number is written in a form that does not survive every parser: fraction, exponent, minus zero. */
function isOddInteger(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === 0x22) return false
  if (bytes[start] === 0x2d && bytes[start + 1] === 0x30) return true
  for (let i = start; i < end; i++)
    if (bytes[i] === 0x2e || bytes[i] === 0x65 || bytes[i] === 0x45) return bytes[start]! <= 0x39
  return false
}

function isSame(bytes: Buffer, start: number, end: number, name: Buffer): boolean {
  if (end - start !== name.length) return false
  for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name[i]) return false
  return true
}

import { smallInteger, unescaped } from './json-scalars.ts'
import {
  BATCH,
  Draft,
  ERROR,
  ERROR_MEMBER,
  LIST_MEMBER,
  MESSAGE,
  type Member,
  memberAt,
  memberOf,
  RESULT,
  RESULT_MEMBER,
  type SeenMessage,
  TASK,
  TASK_MEMBER,
} from './seen-message.ts'

/**
 * Reads JSON-RPC messages piece by piece as an answer passes by: a single one, or the elements of an array. Remembers a
 * few short values and where it is, never the bytes; each byte is looked at once. What is no JSON is passed over
 * silently: the upstream's answers are watched here, not judged. Of a member that comes twice, the last one counts.
 */
export class AnswerScan {
  readonly #seen: (message: SeenMessage) => void
  #state: number = VALUE
  /** Containers open now. Above `#known` they are only counted. */
  #depth = 0
  #known = 0
  readonly #places = new Uint8Array(DEEPEST_KNOWN + 1)
  /** Name of the member whose value is being read, per known container. */
  #member: Member = 0
  /** What the current token is for, and its bytes from earlier pieces. */
  #isWanted = false
  #parts: Buffer[] = []
  #length = 0
  #isEscaped = false
  #failed = false
  #draft: Draft = new Draft()

  constructor(seen: (message: SeenMessage) => void) {
    this.#seen = seen
  }

  /** Ready for another answer. */
  reset(): void {
    this.#state = VALUE
    this.#depth = 0
    this.#known = 0
    this.#failed = false
    this.#isEscaped = false
    if (this.#length > 0) this.#parts = []
    this.#length = 0
  }

  /** Takes the bytes from `start` to `end`; they need not be kept. */
  push(bytes: Buffer, start = 0, end = bytes.length): void {
    let pos = start
    while (pos < end && !this.#failed) {
      switch (this.#state) {
        case VALUE:
          pos = this.#value(bytes, pos, end)
          break
        case NAME:
          pos = this.#beforeName(bytes, pos)
          break
        case IN_NAME:
        case IN_STRING:
          pos = this.#string(bytes, pos, end)
          break
        case COLON:
          if (bytes[pos] === 0x3a) this.#state = VALUE
          else if (!isSpace(bytes[pos]!)) this.#failed = true
          pos++
          break
        case IN_WORD:
          pos = this.#word(bytes, pos, end)
          break
        case SKIPPING:
          pos = this.#skip(bytes, pos, end)
          break
        case SKIPPING_STRING:
          pos = this.#skipString(bytes, pos, end)
          break
        default:
          pos = this.#after(bytes, pos)
      }
    }
  }

  #value(bytes: Buffer, pos: number, end: number): number {
    while (pos < end && isSpace(bytes[pos]!)) pos++
    if (pos === end) return pos
    const c = bytes[pos]!
    if (c === 0x7b || c === 0x5b) return this.#open(c, pos)
    if (c === 0x5d) return this.#after(bytes, pos)
    if (this.#depth === 0) {
      this.#failed = true
      return pos
    }
    this.#isWanted = this.#member !== 0 && this.#places[this.#known] !== BATCH
    if (c === 0x22) {
      this.#state = IN_STRING
      return pos + 1
    }
    this.#state = IN_WORD
    return pos
  }

  #open(c: number, pos: number): number {
    this.#depth++
    const place = this.#placeInside(c)
    if (place === 0) {
      this.#state = SKIPPING
      return pos + 1
    }
    this.#known++
    this.#places[this.#known] = place
    if (place === MESSAGE) this.#draft = new Draft()
    this.#member = 0
    this.#state = place === BATCH ? VALUE : NAME
    return pos + 1
  }

  /** What an array or object that begins here holds; 0 when nothing in it is of interest. */
  #placeInside(c: number): number {
    const outer = this.#places[this.#known]!
    if (this.#known === 0) return c === 0x7b ? MESSAGE : BATCH
    if (outer === BATCH) return c === 0x7b ? MESSAGE : 0
    const member = this.#member
    if (outer === MESSAGE) {
      if (member === RESULT_MEMBER) this.#draft.hasResult = true
      if (member === ERROR_MEMBER) this.#draft.hasError = true
      if (c !== 0x7b) return 0
      return member === RESULT_MEMBER ? RESULT : member === ERROR_MEMBER ? ERROR : 0
    }
    if (outer === RESULT) {
      if (member === LIST_MEMBER && c === 0x5b) this.#draft.hasList = true
      if (member === TASK_MEMBER && c === 0x7b) return TASK
    }
    return 0
  }

  #beforeName(bytes: Buffer, pos: number): number {
    const c = bytes[pos]!
    if (c === 0x22) {
      this.#state = IN_NAME
      this.#isWanted = true
    } else if (c === 0x7d) return this.#after(bytes, pos)
    else if (!isSpace(c)) this.#failed = true
    return pos + 1
  }

  #string(bytes: Buffer, start: number, end: number): number {
    let pos = start
    let isPlain = true
    if (this.#isEscaped) {
      this.#isEscaped = false
      pos++
    }
    let far = pos + LONG_STRING
    while (pos < end) {
      const c = bytes[pos]!
      if (c === 0x22) {
        const isName = this.#state === IN_NAME
        if (this.#isWanted) {
          const place = this.#places[this.#known]!
          // A name that is whole and plain, as nearly all are, becomes no string.
          if (isName && isPlain && this.#parts.length === 0) this.#member = memberAt(place, bytes, start, pos)
          else {
            const text = this.#take(bytes, start, pos, true)
            if (isName) this.#member = memberOf(place, text)
            else this.#draft.set(place, this.#member, text)
          }
        }
        this.#state = isName ? COLON : AFTER
        return pos + 1
      }
      if (c === 0x5c) {
        isPlain = false
        pos++
        if (pos === end) this.#isEscaped = true
        far = pos + LONG_STRING
      } else if (pos >= far) {
        const next = nearestStop(bytes, pos, end)
        if (next > pos) {
          pos = next
          continue
        }
      }
      pos++
    }
    if (this.#isWanted) this.#keep(bytes, start, end)
    return end
  }

  #word(bytes: Buffer, start: number, end: number): number {
    let pos = start
    while (pos < end && ENDS_WORD[bytes[pos]!] === 0) pos++
    if (pos === end) {
      if (this.#isWanted) this.#keep(bytes, start, end)
      return end
    }
    if (this.#isWanted) {
      const small = this.#parts.length === 0 ? smallInteger(bytes, start, pos) : -1
      if (small >= 0) {
        this.#draft.set(this.#places[this.#known]!, this.#member, small)
        this.#state = AFTER
        return pos
      }
      const text = this.#take(bytes, start, pos, false)
      const value = text === 'true' ? true : text === 'false' ? false : text === 'null' ? null : Number(text)
      this.#draft.set(this.#places[this.#known]!, this.#member, value)
    }
    this.#state = AFTER
    return pos
  }

  #skip(bytes: Buffer, pos: number, end: number): number {
    while (pos < end) {
      const c = bytes[pos++]!
      if (BRACKETS[c] === 0) continue
      if (c === 0x22) {
        pos = this.#skipString(bytes, pos, end)
        if (this.#state === SKIPPING_STRING) return pos
      } else if (c === 0x7b || c === 0x5b) this.#depth++
      else if (--this.#depth === this.#known) {
        this.#state = AFTER
        return pos
      }
    }
    return pos
  }

  #skipString(bytes: Buffer, pos: number, end: number): number {
    this.#state = SKIPPING_STRING
    if (this.#isEscaped) {
      this.#isEscaped = false
      pos++
    }
    let far = pos + LONG_STRING
    while (pos < end) {
      const c = bytes[pos]!
      if (c === 0x22) {
        this.#state = SKIPPING
        return pos + 1
      }
      if (c === 0x5c) {
        pos++
        if (pos === end) this.#isEscaped = true
        far = pos + LONG_STRING
      } else if (pos >= far) {
        const next = nearestStop(bytes, pos, end)
        if (next > pos) {
          pos = next
          continue
        }
      }
      pos++
    }
    return end
  }

  #after(bytes: Buffer, pos: number): number {
    const c = bytes[pos]!
    if (c === 0x2c) {
      this.#member = 0
      this.#state = this.#places[this.#known] === BATCH ? VALUE : NAME
      if (this.#depth === 0) this.#failed = true
    } else if (c === 0x7d || c === 0x5d) {
      if (this.#known === 0) {
        this.#failed = true
        return pos
      }
      const place = this.#places[this.#known]!
      this.#known--
      this.#depth--
      this.#state = AFTER
      if (place === MESSAGE) {
        const message = this.#draft.finish()
        if (message !== undefined) this.#seen(message)
      }
    } else if (!isSpace(c)) this.#failed = true
    return pos + 1
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    const room = MOST_KEPT - this.#length
    if (room <= 0) return
    const piece = Buffer.from(bytes.subarray(start, Math.min(end, start + room)))
    this.#parts.push(piece)
    this.#length += piece.length
  }

  #take(bytes: Buffer, start: number, end: number, isString: boolean): string {
    let text: string
    let isCut = end - start > MOST_KEPT
    if (this.#parts.length === 0) text = bytes.toString('utf8', start, Math.min(end, start + MOST_KEPT))
    else {
      this.#keep(bytes, start, end)
      isCut = this.#length === MOST_KEPT
      text = Buffer.concat(this.#parts).toString('utf8')
      this.#parts = []
      this.#length = 0
    }
    return isString && text.includes('\\') ? unescaped(text, isCut) : text
  }
}

const VALUE = 0
const NAME = 1
const IN_NAME = 2
const COLON = 3
const IN_STRING = 4
const IN_WORD = 5
const AFTER = 6
const SKIPPING = 7
const SKIPPING_STRING = 8

/** Batch, message, result, task: no value of interest lies deeper. */
const DEEPEST_KNOWN = 4

/** Most bytes of a value that are kept. */
const MOST_KEPT = 1024
/** From here on a string is crossed by the search of `Buffer`, which is faster than any loop but slow to begin. */
const LONG_STRING = 48

const ENDS_WORD = new Uint8Array(256)
for (const c of Buffer.from(' \t\r\n,]}')) ENDS_WORD[c] = 1
const BRACKETS = new Uint8Array(256)
for (const c of Buffer.from('"{}[]')) BRACKETS[c] = 1

function isSpace(c: number): boolean {
  return c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09
}

/** A bounded stretch at a time: a search to the far end of the string for every escape in it would not be linear. */
function nearestStop(bytes: Buffer, pos: number, end: number): number {
  const stretch = bytes.subarray(pos, Math.min(end, pos + 4096))
  const quote = stretch.indexOf(0x22)
  const before = quote < 0 ? stretch : stretch.subarray(0, quote)
  const slash = before.indexOf(0x5c)
  return pos + (slash < 0 ? before.length : slash)
}

/** Tables and walks over the bytes of JSON texts, shared by the strict reader and by what reads answers. */

/** 1 for the four characters that JSON calls white space. */
const SPACE = new Uint8Array(256)
for (const c of [0x20, 0x09, 0x0a, 0x0d]) SPACE[c] = 1

/** What ends a plain run inside a string: 1 quote, 2 backslash, 3 control character; 4 is DEL or beyond ASCII. */
export const STOP = new Uint8Array(256)
STOP.fill(3, 0, 0x20)
STOP.fill(4, 0x7f)
STOP[0x22] = 1
STOP[0x5c] = 2

/** ASCII letters in lower case, every other byte as it is. */
export const LOWER = new Uint8Array(256)
for (let c = 0; c < 256; c++) LOWER[c] = c >= 0x41 && c <= 0x5a ? c + 32 : c

/** 1 for what may follow a backslash, 2 for `u`. */
const ESCAPED = new Uint8Array(256)
for (const c of Buffer.from('"\\/bfnrt')) ESCAPED[c] = 1
ESCAPED[0x75] = 2

const HEX = new Uint8Array(256)
for (const c of Buffer.from('0123456789abcdefABCDEF')) HEX[c] = 1

/**
 * Walks over one escape.
 *
 * @param pos  Index of the backslash.
 * @returns    Index behind the escape, or -1 when it is not one that JSON knows.
 */
export function skipEscape(bytes: Uint8Array, pos: number): number {
  const kind = pos + 1 < bytes.length ? ESCAPED[bytes[pos + 1]!]! : 0
  if (kind === 1) return pos + 2
  if (kind === 0) return -1
  for (let i = pos + 2; i < pos + 6; i++) if (HEX[bytes[i] ?? 0] === 0) return -1
  return pos + 6
}

/** Index of the first byte from `pos` on that is no white space. */
export function skipSpace(bytes: Uint8Array, pos: number): number {
  const n = bytes.length
  while (pos < n && SPACE[bytes[pos]!] !== 0) pos++
  return pos
}

/** Index behind the number at `pos` (RFC 8259 §6), or -1 when there is none. */
export function skipNumber(bytes: Uint8Array, pos: number): number {
  const n = bytes.length
  if (bytes[pos] === 0x2d) pos++
  const first = pos
  while (pos < n && DIGIT[bytes[pos]!] !== 0) pos++
  if (pos === first || (bytes[first] === 0x30 && pos > first + 1)) return -1
  if (pos === n || NUMBER_GOES_ON[bytes[pos]!] === 0) return pos
  if (bytes[pos] === 0x2e) {
    const end = skipDigits(bytes, pos + 1)
    if (end === pos + 1) return -1
    pos = end
  }
  if (pos < n && (bytes[pos] === 0x65 || bytes[pos] === 0x45)) {
    pos++
    if (bytes[pos] === 0x2b || bytes[pos] === 0x2d) pos++
    const end = skipDigits(bytes, pos)
    if (end === pos) return -1
    pos = end
  }
  return pos
}

const DIGIT = new Uint8Array(256)
DIGIT.fill(1, 0x30, 0x3a)
const NUMBER_GOES_ON = new Uint8Array(256)
for (const c of Buffer.from('.eE')) NUMBER_GOES_ON[c] = 1

function skipDigits(bytes: Uint8Array, pos: number): number {
  const n = bytes.length
  while (pos < n && DIGIT[bytes[pos]!] !== 0) pos++
  return pos
}

/** Index behind `true`, `false` or `null` at `pos`, or -1. */
export function skipWord(bytes: Uint8Array, pos: number): number {
  if (pos >= bytes.length) return -1
  const word = bytes[pos] === 0x74 ? TRUE : bytes[pos] === 0x66 ? FALSE : NULL
  for (let i = 0; i < word.length; i++) if (bytes[pos + i] !== word[i]) return -1
  return pos + word.length
}

const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')
const NULL = Buffer.from('null')

/**
 * Jumps over an array or object without checking what is in it.
 *
 * @param pos  Index of the opening bracket.
 * @returns    Index behind the bracket that closes it, or -1 when the bytes end first.
 */
export function skipNested(bytes: Uint8Array, pos: number): number {
  const n = bytes.length
  let depth = 0
  while (pos < n) {
    const c = bytes[pos++]!
    if (c === 0x22) {
      while (pos < n && bytes[pos] !== 0x22) pos += bytes[pos] === 0x5c ? 2 : 1
      pos++
    } else if (c === 0x7b || c === 0x5b) depth++
    else if ((c === 0x7d || c === 0x5d) && --depth === 0) return pos
  }
  return -1
}

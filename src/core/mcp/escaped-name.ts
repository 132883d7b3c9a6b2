import { HASH_PRIME, HASH_SEED } from './known-names.ts'

/**
 * Hash of a name that is written with escapes, over the UTF-8 of the name that is meant, so that it meets the same name
 * written plainly. Makes no string.
 *
 * @param start  Index behind the opening quote; what follows up to `end` has been found to be well-formed JSON.
 * @returns      The hash; undefined when the name has NUL or half of a surrogate pair in it.
 */
export function hashEscaped(bytes: Uint8Array, start: number, end: number): number | undefined {
  let hash = HASH_SEED
  for (let i = start; i < end; ) {
    const b = bytes[i]!
    if (b !== 0x5c) {
      hash = Math.imul(hash ^ b, HASH_PRIME)
      i++
      continue
    }
    const kind = bytes[i + 1]!
    if (kind !== 0x75) {
      hash = Math.imul(hash ^ MEANS[kind]!, HASH_PRIME)
      i += 2
      continue
    }
    let code = hex(bytes, i + 2)
    i += 6
    if (code === 0 || (code >= 0xdc00 && code <= 0xdfff)) return undefined
    if (code >= 0xd800 && code <= 0xdbff) {
      if (i + 6 > end || bytes[i] !== 0x5c || bytes[i + 1] !== 0x75) return undefined
      const low = hex(bytes, i + 2)
      if (low < 0xdc00 || low > 0xdfff) return undefined
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
      i += 6
    }
    if (code < 0x80) hash = Math.imul(hash ^ code, HASH_PRIME)
    else {
      if (code < 0x800) hash = Math.imul(hash ^ (0xc0 | (code >> 6)), HASH_PRIME)
      else {
        if (code < 0x10000) hash = Math.imul(hash ^ (0xe0 | (code >> 12)), HASH_PRIME)
        else {
          hash = Math.imul(hash ^ (0xf0 | (code >> 18)), HASH_PRIME)
          hash = Math.imul(hash ^ (0x80 | ((code >> 12) & 0x3f)), HASH_PRIME)
        }
        hash = Math.imul(hash ^ (0x80 | ((code >> 6) & 0x3f)), HASH_PRIME)
      }
      hash = Math.imul(hash ^ (0x80 | (code & 0x3f)), HASH_PRIME)
    }
  }
  return hash
}

/** What the letter behind a backslash stands for. */
const MEANS = new Uint8Array(256)
for (const [letter, meant] of Object.entries({
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
})) {
  MEANS[letter.charCodeAt(0)] = meant.charCodeAt(0)
}

function hex(bytes: Uint8Array, at: number): number {
  let value = 0
  for (let i = at; i < at + 4; i++) {
    const c = bytes[i]! | 0x20
    value = (value << 4) | (c <= 0x39 ? c & 0x0f : c - 0x57)
  }
  return value
}

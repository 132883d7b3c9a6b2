import { skipNested, skipNumber, skipSpace, skipWord } from './json-bytes.ts'

/** Where a value is in a JSON text: index of its first byte, index behind its last. */
export interface Span {
  readonly start: number
  readonly end: number
}

/**
 * Members of the object at `start` of a text that is known to be JSON.
 *
 * @returns  Spans of the values by decoded name, in the order of the text; undefined when a name comes twice.
 */
export function objectMembers(bytes: Buffer, start: number): Map<string, Span> | undefined {
  const members = new Map<string, Span>()
  let pos = skipSpace(bytes, start + 1)
  while (bytes[pos] === 0x22) {
    const nameEnd = skipText(bytes, pos)
    const name = JSON.parse(bytes.toString('utf8', pos, nameEnd)) as string
    // Behind the colon.
    pos = skipSpace(bytes, skipSpace(bytes, nameEnd) + 1)
    const end = skipValue(bytes, pos)
    if (members.has(name)) return undefined
    members.set(name, { start: pos, end })
    pos = skipSpace(bytes, end)
    if (bytes[pos] === 0x2c) pos = skipSpace(bytes, pos + 1)
  }
  return members
}

/** Elements of the array at `start` of a text that is known to be JSON. */
export function arrayElements(bytes: Buffer, start: number): Span[] {
  const elements: Span[] = []
  let pos = skipSpace(bytes, start + 1)
  while (pos < bytes.length && bytes[pos] !== 0x5d) {
    const end = skipValue(bytes, pos)
    elements.push({ start: pos, end })
    pos = skipSpace(bytes, end)
    if (bytes[pos] === 0x2c) pos = skipSpace(bytes, pos + 1)
  }
  return elements
}

function skipValue(bytes: Buffer, pos: number): number {
  const c = bytes[pos]
  if (c === 0x22) return skipText(bytes, pos)
  if (c === 0x7b || c === 0x5b) return skipNested(bytes, pos)
  return c !== undefined && c <= 0x39 ? skipNumber(bytes, pos) : skipWord(bytes, pos)
}

function skipText(bytes: Buffer, pos: number): number {
  pos++
  while (bytes[pos] !== 0x22) pos += bytes[pos] === 0x5c ? 2 : 1
  return pos + 1
}

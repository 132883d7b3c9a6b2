/**
 * One element of a DER encoding (X.690). `tag` is the whole identifier octet: class, constructed bit and number.
 * `content` and `whole` are views of the input, not copies.
 */
export interface DerElement {
  readonly tag: number
  readonly content: Buffer
  /** Header and content. */
  readonly whole: Buffer
}

/** Identifier octets that certificates and revocation lists are made of. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const

/**
 * Reads one element at `offset`. Only what DER allows: definite lengths in their shortest form, single-byte tags,
 * nothing beyond the input, and the constructed bit where it has to be.
 *
 * @returns undefined when the bytes there are not such an element.
 */
export function readElement(bytes: Buffer, offset = 0): DerElement | undefined {
  const tag = bytes[offset]
  const first = bytes[offset + 1]
  if (tag === undefined || first === undefined) return undefined
  // Tag numbers from 31 on take more bytes; no certificate has one.
  if ((tag & 0x1f) === 0x1f || !isFormed(tag)) return undefined
  let start = offset + 2
  let length = first
  if (first >= 0x80) {
    const size = first - 0x80
    // 0 is the indefinite length of BER; four bytes are more than anything that is read here may be long.
    if (size === 0 || size > 4 || start + size > bytes.length) return undefined
    length = bytes.readUIntBE(start, size)
    start += size
    const couldBeShorter = length < 0x80 || length < 256 ** (size - 1)
    if (couldBeShorter) return undefined
  }
  const end = start + length
  if (end > bytes.length) return undefined
  return { tag, content: bytes.subarray(start, end), whole: bytes.subarray(offset, end) }
}

/** Reads bytes that are one element and nothing behind it. */
export function readOnly(bytes: Buffer): DerElement | undefined {
  const element = readElement(bytes)
  return element?.whole.length === bytes.length ? element : undefined
}

/** The elements that fill the content of a constructed one without a rest; undefined when they don't. */
export function childrenOf(element: DerElement | undefined): DerElement[] | undefined {
  if (element === undefined || !isConstructed(element.tag)) return undefined
  const children: DerElement[] = []
  for (let offset = 0; offset < element.content.length; ) {
    const child = readElement(element.content, offset)
    if (child === undefined) return undefined
    children.push(child)
    offset += child.whole.length
  }
  return children
}

/** The children of an element that must have the given tag. */
export function childrenOfTag(element: DerElement | undefined, tag: number): DerElement[] | undefined {
  return element?.tag === tag ? childrenOf(element) : undefined
}

/**
 * Says whether bytes are DER from the first to the last, down into every constructed element. Depth and number of
 * elements are bounded, so this ends soon on any input.
 */
export function isDer(bytes: Buffer, bounds = { depth: 24, elements: 20_000 }): boolean {
  const root = readOnly(bytes)
  if (root === undefined) return false
  const left = { elements: bounds.elements }
  return isDeepDer(root, bounds.depth, left)
}

function isDeepDer(element: DerElement, depth: number, left: { elements: number }): boolean {
  if (--left.elements < 0 || depth < 0) return false
  if (!isConstructed(element.tag)) return hasCanonicalContent(element)
  const children = childrenOf(element)
  return children?.every(child => isDeepDer(child, depth - 1, left)) ?? false
}

/** X.690 §10–11 where it leaves one way only; a value with two encodings could be read as two values. */
function hasCanonicalContent({ tag, content }: DerElement): boolean {
  const first = content[0]
  const second = content[1]
  switch (tag) {
    case TAG.boolean:
      return content.length === 1 && (first === 0 || first === 0xff)
    case TAG.integer: {
      if (first === undefined) return false
      if (second === undefined) return true
      return !(first === 0 && second < 0x80) && !(first === 0xff && second >= 0x80)
    }
    case TAG.bitString:
      return first !== undefined && first <= 7 && (content.length > 1 || first === 0)
    case TAG.oid:
      return isCanonicalOid(content)
    default:
      return true
  }
}

function isCanonicalOid(content: Buffer): boolean {
  let isStart = true
  for (const byte of content) {
    if (isStart && byte === 0x80) return false
    isStart = byte < 0x80
  }
  return content.length > 0 && isStart
}

/** Sequences and sets are constructed, the other universal types primitive; context tags may be either. */
function isFormed(tag: number): boolean {
  if (tag >= 0x40) return true
  const number = tag & 0x1f
  const isCollection = number === 0x10 || number === 0x11
  return isConstructed(tag) === isCollection
}

function isConstructed(tag: number): boolean {
  return (tag & 0x20) !== 0
}

/** Dotted form of an object identifier's content; components are exact below 2^53. */
export function oidText(content: Buffer): string {
  const parts: number[] = []
  let value = 0
  for (const byte of content) {
    value = value * 128 + (byte & 0x7f)
    if (byte >= 0x80) continue
    if (parts.length === 0) {
      const root = Math.min(Math.floor(value / 40), 2)
      parts.push(root, value - root * 40)
    } else {
      parts.push(value)
    }
    value = 0
  }
  return parts.join('.')
}

/**
 * Milliseconds since the epoch of a UTCTime or GeneralizedTime in the one form that RFC 5280 §4.1.2.5 allows: with
 * seconds, in UTC, without fractions.
 */
export function timeMs(element: DerElement | undefined): number | undefined {
  if (element === undefined) return undefined
  const text = element.content.toString('latin1')
  if (element.tag === TAG.utcTime) {
    if (!/^\d{12}Z$/.test(text)) return undefined
    const century = Number(text.slice(0, 2)) < 50 ? '20' : '19'
    return utcMs(century + text)
  }
  if (element.tag !== TAG.generalizedTime || !/^\d{14}Z$/.test(text)) return undefined
  return utcMs(text)
}

function utcMs(text: string): number | undefined {
  const iso = text.replace(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6.000Z')
  const ms = Date.parse(iso)
  // Date.parse takes the 31st of a shorter month for the next one's first day.
  return Number.isNaN(ms) || new Date(ms).toISOString() !== iso ? undefined : ms
}

/** Upper-case hex of a non-negative INTEGER, as Node prints serial numbers; undefined for a negative one. */
export function unsignedHex(element: DerElement | undefined): string | undefined {
  if (element?.tag !== TAG.integer || element.content.length === 0) return undefined
  const { content } = element
  if ((content[0] ?? 0) >= 0x80) return undefined
  const isPadded = content.length > 1 && content[0] === 0
  return (isPadded ? content.subarray(1) : content).toString('hex').toUpperCase()
}

/**
 * The field lines of one HTTP/1.1 head, and what they say about its framing and its connection. The same reading serves
 * requests and answers, so that no laxness on one side can be used on the other.
 */
export interface FieldLines {
  /** `[name, value, …]` in the order and spelling of the wire; values without the blanks around them. */
  readonly headers: string[]
  /** Bytes of the body as Content-Length says; −1 without one. */
  length: number
  /** `Transfer-Encoding: chunked`. */
  chunked: boolean
  /** `Connection` has `close`, `keep-alive`. */
  closes: boolean
  keepsAlive: boolean
  /** The value of `Keep-Alive`. */
  keepAlive: string | undefined
  /** `Expect: 100-continue`. */
  expectsContinue: boolean
  hasHost: boolean
}

/** What is wrong, in a few words that quote no value. */
export type Fault = string

/**
 * Reads the lines behind the first one. One framing or none, CRLF only, no folded line, no blank before a colon, no
 * control character.
 *
 * @param head  The whole head without the empty line that ends it, one character for each byte.
 * @param from  Where the CRLF after the first line is; −1 when there is no other line.
 * @param most  Lines that are taken at most.
 * @source RFC 9112 §5 (lines), §6.1–§6.3 (framing).
 */
export function readFieldLines(head: string, from: number, most: number): FieldLines | Fault {
  const headers: string[] = []
  const lines: FieldLines = {
    headers,
    length: -1,
    chunked: false,
    closes: false,
    keepsAlive: false,
    keepAlive: undefined,
    expectsContinue: false,
    hasHost: false,
  }
  let lineEnd = from
  while (lineEnd >= 0) {
    const start = lineEnd + 2
    lineEnd = head.indexOf('\r\n', start)
    const stop = lineEnd < 0 ? head.length : lineEnd
    const colon = head.indexOf(':', start)
    if (colon <= start || colon >= stop) return 'header line without a name'
    if (!isToken(head, start, colon)) return 'header name with a character that may not be there'
    const name = head.slice(start, colon)
    let first = colon + 1
    let last = stop
    while (first < last && isBlank(head.charCodeAt(first))) first++
    while (last > first && isBlank(head.charCodeAt(last - 1))) last--
    if (hasControl(head, first, last)) return `control character in the header ${name}`
    const value = head.slice(first, last)
    headers.push(name, value)
    if (headers.length > most * 2) return `more than ${most} header lines`
    const fault = note(lines, name, value, head, colon, stop)
    if (fault !== undefined) return fault
  }
  // Both framings at once is how messages get confused with one another (RFC 9112 §6.3): refuse rather than pick one.
  if (lines.chunked && lines.length >= 0) return 'both Content-Length and Transfer-Encoding'
  return lines
}

/** By length first, so that most lines cost one comparison of numbers. */
function note(
  lines: FieldLines,
  name: string,
  value: string,
  head: string,
  colon: number,
  stop: number,
): Fault | undefined {
  switch (name.length) {
    case 4:
      if (name.toLowerCase() === 'host') lines.hasHost = true
      return undefined
    case 6:
      if (name.toLowerCase() === 'expect') lines.expectsContinue = value.toLowerCase() === '100-continue'
      return undefined
    case 10: {
      const lower = name.toLowerCase()
      if (lower === 'connection') {
        for (const option of value.toLowerCase().split(',')) {
          const name = option.trim()
          if (name === 'close') lines.closes = true
          else if (name === 'keep-alive') lines.keepsAlive = true
        }
      } else if (lower === 'keep-alive') lines.keepAlive = value
      return undefined
    }
    case 14:
      if (name.toLowerCase() !== 'content-length') return undefined
      if (lines.length >= 0 || !/^[0-9]{1,15}$/.test(value)) return 'Content-Length repeated or not a number'
      if (hasTab(head, colon, stop)) return TAB_IN_FRAMING
      lines.length = Number(value)
      return undefined
    case 17:
      if (name.toLowerCase() !== 'transfer-encoding') return undefined
      if (lines.chunked || value.toLowerCase() !== 'chunked') return 'Transfer-Encoding other than chunked'
      if (hasTab(head, colon, stop)) return TAB_IN_FRAMING
      lines.chunked = true
      return undefined
    default:
      return undefined
  }
}

/** A tab beside a framing is read by some as part of it, and by others not. */
const TAB_IN_FRAMING: Fault = 'tab in a framing header'

function hasTab(head: string, colon: number, stop: number): boolean {
  return head.slice(colon, stop).includes('\t')
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** C0 controls but TAB, and DEL. */
export function hasControl(text: string, from = 0, to = text.length): boolean {
  for (let i = from; i < to; i++) {
    const code = text.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return true
  }
  return false
}

/** RFC 9110 §5.6.2. */
const TOKEN = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  TOKEN[char.charCodeAt(0)] = 1

/** Whether the characters from `from` to `to`, at least one, are a token. */
export function isToken(text: string, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (TOKEN[text.charCodeAt(i)] !== 1) return false
  return to > from
}

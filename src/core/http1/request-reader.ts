import { BodyReader } from './body-reader.ts'
import { type Fault, isToken, readFieldLines } from './field-lines.ts'
import { HeldBytes } from './held-bytes.ts'

/** The head of one request, before anything in it has been believed. */
export interface RequestHead {
  readonly method: string
  /** As sent: path and query, or whatever stands there. Printable ASCII without blanks. */
  readonly target: string
  /** `[name, value, …]` in the order and spelling of the wire. */
  readonly headers: readonly string[]
  /** 1 for HTTP/1.1, 0 for HTTP/1.0. */
  readonly minor: 0 | 1
  /** Whether the client lets the connection be used again. */
  readonly keepAlive: boolean
  /** Whether the client waits for `100 Continue` before it sends its body. */
  readonly expectsContinue: boolean
  /** Bytes of the body: 0 without one, undefined when it comes in chunks. */
  readonly bodyLength: number | undefined
}

export interface RequestParts {
  head(head: RequestHead): void
  data(piece: Buffer): void
}

/** After one of these the connection is of no further use: where the next request begins is not known. */
export interface RequestFault {
  readonly kind: 'malformed' | 'head_too_large'
  readonly detail: Fault
}

const TOO_LARGE: Fault = 'head too large'
/** Bounded by their bytes already; how many lines are taken is for whoever reads them to say. */
const MOST_LINES = Number.MAX_SAFE_INTEGER
const CR = 0x0d
const LF = 0x0a
const SLASH = 0x2f

const State = { between: 0, head: 1, body: 2, whole: 3 } as const
type State = (typeof State)[keyof typeof State]

/**
 * Reads one HTTP/1.1 request after another, each only when `next` has been called, so that whoever answers them in turn
 * holds no more than one. Strict where laxness is how requests are smuggled: one framing or none, CRLF only, no folded
 * line, no blank before a colon, nothing but HTTP/1.0 and 1.1, a Host in 1.1.
 *
 * @source RFC 9112 §2.2 (an empty line before a request), §3 (request line), §3.2 (Host), §5–§7.
 */
export class RequestReader {
  readonly #headLimit: number
  readonly #held = new HeldBytes()
  readonly #body = new BodyReader()
  #state: State = State.between
  #sawCr = false
  #skipped = false

  /** @param headLimit  Most bytes of a head, its request line included. */
  constructor(headLimit: number) {
    this.#headLimit = headLimit
  }

  /** Nothing of a request has come since the last one. */
  get isBetween(): boolean {
    return this.#state === State.between
  }

  /** The request has been read to its end. */
  get isWhole(): boolean {
    return this.#state === State.whole
  }

  /** The next request may begin. */
  next(): void {
    this.#state = State.between
    this.#sawCr = false
    this.#skipped = false
  }

  /** @returns where in the chunk what is read ends: at its end, or behind the request once that is whole. */
  feed(chunk: Buffer, from: number, parts: RequestParts): number | RequestFault {
    let at = from
    if (this.#state === State.between && at < chunk.length) {
      const start = this.#skipEmptyLine(chunk, at)
      if (start < 0) return malformed('empty lines before a request')
      at = start
      if (at < chunk.length) this.#state = State.head
    }
    if (this.#state === State.head && at < chunk.length) {
      const head = this.#held.takeHead(chunk, at, this.#headLimit, TOO_LARGE)
      if (head === undefined) return chunk.length
      if (typeof head === 'string') return { kind: 'head_too_large', detail: head }
      const read = readHead(head.text)
      if (typeof read === 'string') return malformed(read)
      at = head.next
      this.#body.begin(read.bodyLength ?? -1)
      this.#state = this.#body.done ? State.whole : State.body
      parts.head(read)
    }
    if (this.#state === State.body && at < chunk.length) {
      const next = this.#body.feed(chunk, at, parts)
      if (typeof next === 'string') return malformed(next)
      at = next
      if (this.#body.done) this.#state = State.whole
    }
    return at
  }

  /** RFC 9112 §2.2: one empty line before a request is to be passed over; more are refused. −1 for those. */
  #skipEmptyLine(chunk: Buffer, from: number): number {
    let at = from
    while (at < chunk.length) {
      const code = chunk[at] as number
      if (this.#sawCr) {
        if (code !== LF || this.#skipped) return -1
        this.#sawCr = false
        this.#skipped = true
      } else if (code === CR) this.#sawCr = true
      else return at
      at++
    }
    return at
  }
}

function readHead(head: string): RequestHead | Fault {
  const lineEnd = head.indexOf('\r\n')
  const stop = lineEnd < 0 ? head.length : lineEnd
  const methodEnd = head.indexOf(' ')
  if (methodEnd < 0 || methodEnd > LONGEST_METHOD || !isToken(head, 0, methodEnd))
    return 'request line without a method'
  const targetEnd = stop - VERSION.length - 1
  if (targetEnd <= methodEnd + 1 || !head.startsWith(VERSION, targetEnd)) return 'request line without HTTP/1'
  const minor = head.charCodeAt(stop - 1) - 0x30
  if (minor !== 0 && minor !== 1) return 'request line without HTTP/1'
  for (let i = methodEnd + 1; i < targetEnd; i++) {
    const code = head.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f) return 'request target with a character that may not be there'
  }
  // RFC 9112 §3.2: a path, the whole server, or an absolute URI as for a proxy; the authority of CONNECT is not served.
  if (head.charCodeAt(methodEnd + 1) !== SLASH) {
    const target = head.slice(methodEnd + 1, targetEnd)
    if (target !== '*' && !/^[a-z][a-z0-9+.-]{0,30}:\/\/[^/]/i.test(target)) return 'request target of no known form'
  }
  const lines = readFieldLines(head, lineEnd, MOST_LINES)
  if (typeof lines === 'string') return lines
  if (minor === 0 && lines.chunked) return 'Transfer-Encoding in HTTP/1.0'
  if (minor === 1 && !lines.hasHost) return 'no Host'
  return {
    method: head.slice(0, methodEnd),
    target: head.slice(methodEnd + 1, targetEnd),
    headers: lines.headers,
    minor,
    keepAlive: !lines.closes && (minor === 1 || lines.keepsAlive),
    expectsContinue: minor === 1 && lines.expectsContinue,
    bodyLength: lines.chunked ? undefined : Math.max(0, lines.length),
  }
}

/** The digit of its minor version follows. */
const VERSION = ' HTTP/1.'
const LONGEST_METHOD = 32

function malformed(detail: Fault): RequestFault {
  return { kind: 'malformed', detail }
}

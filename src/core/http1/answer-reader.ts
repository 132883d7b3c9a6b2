/**
 * Reads one HTTP/1.1 answer after another from the bytes of a loopback connection. Strict where laxness is how answers
 * get confused with one another: one framing or none, CRLF only, no folded lines, no bytes after the end.
 *
 * The caller feeds chunks as they arrive and gets the parts through `AnswerParts`, on the same tick.
 *
 * @source RFC 9112 §4–§7; the lines that refuse are §5.2 (obs-fold), §6.3 (framing), §7.1 (chunks).
 */
export interface AnswerParts {
  /** Final head. `bodyLength`: bytes of the body when Content-Length says so, undefined otherwise. */
  head(status: number, headers: string[], bodyLength: number | undefined): void
  data(chunk: Buffer): void
  /** The answer is whole. */
  end(): void
}

export type AnswerFault = string

const HEAD_LIMIT = 64 * 1024
const LINE_LIMIT = 256
const CHUNK_LINE_LIMIT = 256
const INTERIM_LIMIT = 16
const HEAD_END = Buffer.from('\r\n\r\n', 'latin1')
const CR = 0x0d
const LF = 0x0a

const State = {
  head: 0,
  length: 1,
  untilClose: 2,
  chunkSize: 3,
  chunkData: 4,
  chunkEnd: 5,
  trailer: 6,
  done: 7,
} as const
type State = (typeof State)[keyof typeof State]

export class AnswerReader {
  #state: State = State.head
  /** Bytes of a head, chunk line or trailer that has not ended yet; grows by doubling, so that drip by drip stays linear. */
  #held: Buffer = EMPTY
  #heldBytes = 0
  #left = 0
  #interim = 0
  #trailerBytes = 0
  #keepAlive = true
  #idleHintMs: number | undefined
  #noBody = false

  /** Begins the next answer. `noBody` for a request whose answer never has one (HEAD). */
  begin(noBody = false): void {
    this.#state = State.head
    this.#held = EMPTY
    this.#heldBytes = 0
    this.#interim = 0
    this.#trailerBytes = 0
    this.#keepAlive = true
    this.#idleHintMs = undefined
    this.#noBody = noBody
  }

  get done(): boolean {
    return this.#state === State.done
  }

  /** Whether the server lets the connection be used again; known once the answer is whole. */
  get keepAlive(): boolean {
    return this.#keepAlive && this.#state === State.done
  }

  /** What the server's `Keep-Alive: timeout=` says, in ms. */
  get idleHintMs(): number | undefined {
    return this.#idleHintMs
  }

  /** @returns What is wrong, or undefined. After a fault the connection is of no further use. */
  feed(chunk: Buffer, parts: AnswerParts): AnswerFault | undefined {
    let at = 0
    while (at < chunk.length) {
      switch (this.#state) {
        case State.head: {
          const head = this.#takeHead(chunk, at)
          if (head === undefined) return undefined
          if (typeof head === 'string') return head
          const fault = this.#readHead(head.text, parts)
          if (fault !== undefined) return fault
          at = head.next
          break
        }
        case State.length: {
          const take = Math.min(this.#left, chunk.length - at)
          this.#left -= take
          const piece = at === 0 && take === chunk.length ? chunk : chunk.subarray(at, at + take)
          at += take
          if (this.#left === 0) this.#state = State.done
          parts.data(piece)
          if (this.#left === 0) parts.end()
          break
        }
        case State.untilClose:
          parts.data(at === 0 ? chunk : chunk.subarray(at))
          return undefined
        case State.chunkSize: {
          const line = this.#takeLine(chunk, at)
          if (line === undefined) return undefined
          if (typeof line === 'string') return line
          at = line.next
          const fault = this.#readChunkSize(line.text)
          if (fault !== undefined) return fault
          break
        }
        case State.chunkData: {
          const take = Math.min(this.#left, chunk.length - at)
          this.#left -= take
          const piece = at === 0 && take === chunk.length ? chunk : chunk.subarray(at, at + take)
          at += take
          if (this.#left === 0) this.#state = State.chunkEnd
          parts.data(piece)
          break
        }
        case State.chunkEnd: {
          const line = this.#takeLine(chunk, at)
          if (line === undefined) return undefined
          if (typeof line === 'string') return line
          if (line.text !== '') return 'chunk does not end where its size says'
          at = line.next
          this.#state = State.chunkSize
          break
        }
        case State.trailer: {
          const line = this.#takeLine(chunk, at)
          if (line === undefined) return undefined
          if (typeof line === 'string') return line
          at = line.next
          if (line.text === '') {
            this.#state = State.done
            parts.end()
            break
          }
          // Trailers are read past and dropped: nothing downstream may take a field from behind the body for a header.
          this.#trailerBytes += line.text.length
          if (this.#trailerBytes > HEAD_LIMIT) return 'trailers too large'
          break
        }
        case State.done:
          return 'bytes after the end of the answer'
      }
    }
    return undefined
  }

  /** The server has ended the connection. @returns a fault when that cut an answer short. */
  close(parts: AnswerParts): AnswerFault | undefined {
    if (this.#state === State.untilClose) {
      this.#keepAlive = false
      this.#state = State.done
      parts.end()
      return undefined
    }
    return this.#state === State.done ? undefined : 'connection closed before the answer was whole'
  }

  #readHead(head: string, parts: AnswerParts): AnswerFault | undefined {
    let lineEnd = head.indexOf('\r\n')
    const statusLine = lineEnd < 0 ? head : head.slice(0, lineEnd)
    // "HTTP/1.x SSS reason"; the reason is not passed on.
    if (!statusLine.startsWith('HTTP/1.') || statusLine.charCodeAt(8) !== 0x20) return 'not an HTTP/1 status line'
    const minor = statusLine.charCodeAt(7) - 0x30
    if (minor !== 0 && minor !== 1) return 'not an HTTP/1 status line'
    const status = threeDigits(statusLine)
    // RFC 9110 §15: there is no sixth class, and HTTP/2 could not carry it.
    if (status < 100 || status > 599 || (statusLine.length > 12 && statusLine.charCodeAt(12) !== 0x20))
      return 'not an HTTP/1 status line'
    if (hasControl(statusLine)) return 'control character in the status line'

    const headers: string[] = []
    let length = -1
    let chunked = false
    let encoded = false
    let keepAlive = minor === 1
    while (lineEnd >= 0) {
      const start = lineEnd + 2
      lineEnd = head.indexOf('\r\n', start)
      const stop = lineEnd < 0 ? head.length : lineEnd
      const colon = head.indexOf(':', start)
      if (colon <= start || colon >= stop) return 'header line without a name'
      const name = head.slice(start, colon)
      if (!isToken(name)) return 'header name with a character that may not be there'
      const value = trimBlank(head, colon + 1, stop)
      if (hasControl(value)) return `control character in the header ${name}`
      headers.push(name, value)
      if (headers.length > LINE_LIMIT * 2) return `more than ${LINE_LIMIT} header lines`
      switch (name.length) {
        case 14:
          if (name.toLowerCase() === 'content-length') {
            if (length >= 0 || !/^[0-9]{1,15}$/.test(value)) return 'Content-Length repeated or not a number'
            length = Number(value)
          }
          break
        case 17:
          if (name.toLowerCase() === 'transfer-encoding') {
            if (encoded || value.toLowerCase() !== 'chunked') return 'Transfer-Encoding other than chunked'
            encoded = true
            chunked = true
          }
          break
        case 10: {
          const lower = name.toLowerCase()
          if (lower === 'connection') {
            const options = value.toLowerCase()
            if (options.includes('close')) keepAlive = false
            else if (minor === 0 && options.includes('keep-alive')) keepAlive = true
          } else if (lower === 'keep-alive') {
            const seconds = /(?:^|[,\s])timeout=([0-9]{1,6})/.exec(value)
            if (seconds !== null) this.#idleHintMs = Number(seconds[1]) * 1000
          }
          break
        }
      }
    }
    // Both framings at once is how answers get confused with one another (RFC 9112 §6.3): refuse rather than pick one.
    if (chunked && length >= 0) return 'both Content-Length and Transfer-Encoding'
    if (chunked && minor === 0) return 'Transfer-Encoding in HTTP/1.0'

    if (status < 200) {
      if (status === 101) return 'switches protocols unasked'
      if (++this.#interim > INTERIM_LIMIT) return `more than ${INTERIM_LIMIT} interim answers`
      if (chunked || length > 0) return 'interim answer with a body'
      return undefined
    }
    this.#keepAlive = keepAlive
    if (this.#noBody || status === 204 || status === 304) {
      this.#state = State.done
      parts.head(status, headers, 0)
      parts.end()
    } else if (chunked) {
      this.#state = State.chunkSize
      parts.head(status, headers, undefined)
    } else if (length >= 0) {
      this.#left = length
      this.#state = length === 0 ? State.done : State.length
      parts.head(status, headers, length)
      if (length === 0) parts.end()
    } else {
      this.#keepAlive = false
      this.#state = State.untilClose
      parts.head(status, headers, undefined)
    }
    return undefined
  }

  #readChunkSize(line: string): AnswerFault | undefined {
    const semicolon = line.indexOf(';')
    const digits = semicolon < 0 ? line : line.slice(0, semicolon).trimEnd()
    if (!/^[0-9a-fA-F]{1,12}$/.test(digits)) return 'chunk size is not a hexadecimal number'
    this.#left = Number.parseInt(digits, 16)
    this.#state = this.#left === 0 ? State.trailer : State.chunkData
    return undefined
  }

  /** The head that ends in this chunk, without its empty line; undefined while it goes on, a fault as a string. */
  #takeHead(chunk: Buffer, at: number): Taken | AnswerFault | undefined {
    const before = this.#heldBytes
    if (before === 0) {
      const end = chunk.indexOf(HEAD_END, at)
      if (end < 0) return chunk.length - at >= MOST_OF_A_HEAD ? HEAD_TOO_LARGE : this.#hold(chunk, at, chunk.length)
      return end - at > HEAD_LIMIT ? HEAD_TOO_LARGE : { text: chunk.toString('latin1', at, end), next: end + 4 }
    }
    this.#hold(chunk, at, Math.min(chunk.length, at + MOST_OF_A_HEAD))
    const held = this.#held.subarray(0, this.#heldBytes)
    const end = held.indexOf(HEAD_END, Math.max(0, before - 3))
    if (end < 0) return held.length >= MOST_OF_A_HEAD ? HEAD_TOO_LARGE : undefined
    if (end > HEAD_LIMIT) return HEAD_TOO_LARGE
    this.#heldBytes = 0
    return { text: held.toString('latin1', 0, end), next: at + end + 4 - before }
  }

  /** The line that ends in this chunk, without CRLF; undefined while it goes on, a fault as a string. */
  #takeLine(chunk: Buffer, at: number): Taken | AnswerFault | undefined {
    const limit = this.#state === State.trailer ? HEAD_LIMIT : CHUNK_LINE_LIMIT
    const lf = chunk.indexOf(LF, at)
    const stop = lf < 0 ? chunk.length : lf
    if (this.#heldBytes + stop - at > limit) return 'chunk line too long'
    if (lf < 0) return this.#hold(chunk, at, stop)
    let line = chunk.subarray(at, lf)
    if (this.#heldBytes > 0) {
      this.#hold(chunk, at, lf)
      line = this.#held.subarray(0, this.#heldBytes)
      this.#heldBytes = 0
    }
    if (line.length === 0 || line[line.length - 1] !== CR) return 'line ends without CR'
    const text = line.toString('latin1', 0, line.length - 1)
    if (hasControl(text)) return 'control character in a chunk line'
    return { text, next: lf + 1 }
  }

  #hold(chunk: Buffer, from: number, to: number): undefined {
    const needed = this.#heldBytes + to - from
    if (this.#held.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(512, needed, this.#held.length * 2))
      this.#held.copy(larger, 0, 0, this.#heldBytes)
      this.#held = larger
    }
    chunk.copy(this.#held, this.#heldBytes, from, to)
    this.#heldBytes = needed
  }
}

/** A head or line, and where in the chunk the next thing begins. */
interface Taken {
  readonly text: string
  readonly next: number
}

const EMPTY = Buffer.alloc(0)
/** A head of the largest size, and the empty line that ends it. */
const MOST_OF_A_HEAD = HEAD_LIMIT + 4
const HEAD_TOO_LARGE = `head larger than ${HEAD_LIMIT} bytes`

function threeDigits(line: string): number {
  const a = line.charCodeAt(9) - 0x30
  const b = line.charCodeAt(10) - 0x30
  const c = line.charCodeAt(11) - 0x30
  if (!(a >= 0 && a <= 9 && b >= 0 && b <= 9 && c >= 0 && c <= 9)) return -1
  return a * 100 + b * 10 + c
}

function trimBlank(text: string, from: number, to: number): string {
  let start = from
  let stop = to
  while (start < stop && isBlank(text.charCodeAt(start))) start++
  while (stop > start && isBlank(text.charCodeAt(stop - 1))) stop--
  return text.slice(start, stop)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** C0 controls but TAB, and DEL. */
function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return true
  }
  return false
}

/** RFC 9110 §5.6.2. */
const TOKEN = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  TOKEN[char.charCodeAt(0)] = 1

function isToken(name: string): boolean {
  for (let i = 0; i < name.length; i++) if (TOKEN[name.charCodeAt(i)] !== 1) return false
  return true
}

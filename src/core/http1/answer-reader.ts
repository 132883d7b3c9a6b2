import { BodyReader } from './body-reader.ts'
import { type Fault, hasControl, readFieldLines } from './field-lines.ts'
import { HeldBytes } from './held-bytes.ts'

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

export type AnswerFault = Fault

/** Most bytes of an answer's head. */
export const HEAD_LIMIT = 64 * 1024
const HEAD_TOO_LARGE = `head larger than ${HEAD_LIMIT} bytes`
const LINE_LIMIT = 256
const INTERIM_LIMIT = 16

const State = { head: 0, body: 1, untilClose: 2, done: 3 } as const
type State = (typeof State)[keyof typeof State]

export class AnswerReader {
  #state: State = State.head
  readonly #held = new HeldBytes()
  readonly #body = new BodyReader()
  #interim = 0
  #keepAlive = true
  #idleHintMs: number | undefined
  #noBody = false

  /** Begins the next answer. `noBody` for a request whose answer never has one (HEAD). */
  begin(noBody = false): void {
    this.#state = State.head
    this.#held.clear()
    this.#interim = 0
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
          const head = this.#held.takeHead(chunk, at, HEAD_LIMIT, HEAD_TOO_LARGE)
          if (head === undefined) return undefined
          if (typeof head === 'string') return head
          const fault = this.#readHead(head.text, parts)
          if (fault !== undefined) return fault
          at = head.next
          break
        }
        case State.body: {
          const next = this.#body.feed(chunk, at, parts)
          if (typeof next === 'string') return next
          at = next
          if (this.#body.done) {
            this.#state = State.done
            parts.end()
          }
          break
        }
        case State.untilClose:
          parts.data(at === 0 ? chunk : chunk.subarray(at))
          return undefined
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
    const lineEnd = head.indexOf('\r\n')
    const stop = lineEnd < 0 ? head.length : lineEnd
    // "HTTP/1.x SSS reason"; the reason is not passed on.
    if (!head.startsWith('HTTP/1.') || head.charCodeAt(8) !== 0x20) return 'not an HTTP/1 status line'
    const minor = head.charCodeAt(7) - 0x30
    if (minor !== 0 && minor !== 1) return 'not an HTTP/1 status line'
    const status = stop < 12 ? -1 : threeDigits(head)
    // RFC 9110 §15: there is no sixth class, and HTTP/2 could not carry it.
    if (status < 100 || status > 599 || (stop > 12 && head.charCodeAt(12) !== 0x20)) return 'not an HTTP/1 status line'
    if (hasControl(head, 0, stop)) return 'control character in the status line'

    const lines = readFieldLines(head, lineEnd, LINE_LIMIT)
    if (typeof lines === 'string') return lines
    const { headers, length, chunked } = lines
    if (chunked && minor === 0) return 'Transfer-Encoding in HTTP/1.0'
    if (status < 200) {
      if (status === 101) return 'switches protocols unasked'
      if (++this.#interim > INTERIM_LIMIT) return `more than ${INTERIM_LIMIT} interim answers`
      if (chunked || length > 0) return 'interim answer with a body'
      return undefined
    }
    this.#keepAlive = !lines.closes && (minor === 1 || lines.keepsAlive)
    if (lines.keepAlive !== undefined) this.#readHint(lines.keepAlive)
    if (this.#noBody || status === 204 || status === 304) {
      this.#state = State.done
      parts.head(status, headers, 0)
      parts.end()
    } else if (chunked) {
      this.#state = State.body
      this.#body.begin(-1)
      parts.head(status, headers, undefined)
    } else if (length >= 0) {
      this.#state = length === 0 ? State.done : State.body
      this.#body.begin(length)
      parts.head(status, headers, length)
      if (length === 0) parts.end()
    } else {
      this.#keepAlive = false
      this.#state = State.untilClose
      parts.head(status, headers, undefined)
    }
    return undefined
  }

  #readHint(value: string): void {
    const seconds = /(?:^|[,\s])timeout=([0-9]{1,6})/.exec(value)
    if (seconds !== null) this.#idleHintMs = Number(seconds[1]) * 1000
  }
}

function threeDigits(line: string): number {
  const a = line.charCodeAt(9) - 0x30
  const b = line.charCodeAt(10) - 0x30
  const c = line.charCodeAt(11) - 0x30
  if (!(a >= 0 && a <= 9 && b >= 0 && b <= 9 && c >= 0 && c <= 9)) return -1
  return a * 100 + b * 10 + c
}

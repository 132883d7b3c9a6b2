import type { Refusal } from '../refusal.ts'
import type { Result } from '../result.ts'
import { AnswerScan } from './answer-scan.ts'
import type { SeenMessage } from './seen-message.ts'
import { eventData, withData } from './sse-event.ts'

/** What a stream of events is watched for. Everything is called on the tick of the bytes, before they are handed on. */
export interface SseHandler {
  /** Asked at the first byte of each event, and of each line before its data: has it to be seen whole before it goes on? */
  holds(): boolean
  /** A JSON-RPC message has been read in the data of an event. */
  message(seen: SeenMessage): void
  /** Data of an event that is no JSON, such as `endpoint` of the HTTP+SSE transport; at most 4096 bytes of it. */
  text(type: string, data: string): void
  /** The event that ends here has this id; at most 2048 bytes of it. */
  eventId(id: string): void
  /** Whole data of a held event. @returns what goes on in its place; the same buffer to leave the event as it is. */
  rewrite(data: Buffer): Result<Buffer, Refusal>
}

/**
 * Reads a `text/event-stream` as it passes by, in pieces that may end anywhere, with lines that end in LF, CR or CRLF.
 * Events go on untouched and at once; only those that the handler holds are kept until they are whole.
 *
 * @source  WHATWG HTML §9.2.6 (interpreting an event stream).
 */
export class SseReader {
  /** Set when the stream cannot go on. */
  fault: Refusal | undefined
  /** After `stop`: nothing more may be passed on. */
  stopped = false
  readonly #handler: SseHandler
  readonly #limitBytes: number
  readonly #scan: AnswerScan
  /** Bytes of the event under way when it is held. */
  #held: Buffer[] = []
  #heldBytes = 0
  #holding = false
  readonly #unheard: SeenMessage[] = []
  /** The event under way has a field, not only comments. */
  #hasField = false
  #inEvent = false
  #wantsStop = false
  #isFirstLine = true
  /** The line before ended in CR; an LF that follows belongs to it. */
  #afterCr = false
  // The line under way: its field once the colon has been seen, and what is kept of name or value.
  #field: Field = UNKNOWN
  #text = ''
  #isFieldStart = false
  #lineIsEmpty = true
  // The event under way.
  #type = ''
  #id: string | undefined
  #dataLines = 0
  #plain = ''
  #isPlain = false

  constructor(handler: SseHandler, limitBytes: number) {
    this.#handler = handler
    this.#limitBytes = limitBytes
    this.#scan = new AnswerScan(seen => {
      // What is held is judged before anybody hears of it: a list that has been answered is no longer pending.
      if (this.#holding) this.#unheard.push(seen)
      else handler.message(seen)
    })
  }

  /** No event is under way: the stream could end here and nothing would be cut. */
  get atBoundary(): boolean {
    return !this.#inEvent
  }

  /** Asks for the end at the next boundary between events. @returns whether that is now. */
  stop(): boolean {
    this.#wantsStop = true
    if (!this.#inEvent) this.stopped = true
    return this.stopped
  }

  /** @returns what goes on now; undefined when there is nothing. */
  take(chunk: Buffer): Buffer | undefined {
    const out: Buffer[] = []
    const n = chunk.length
    // First byte that has neither been passed on nor held.
    let from = 0
    let pos = 0
    let cr = chunk.indexOf(0x0d)
    while (pos < n && this.fault === undefined && !this.stopped) {
      if (this.#afterCr) {
        this.#afterCr = false
        if (chunk[pos] === 0x0a) {
          pos++
          continue
        }
      }
      if (!this.#inEvent && chunk[pos] !== 0x0a && chunk[pos] !== 0x0d) {
        this.#begin()
        if (this.#holding) {
          if (pos > from) out.push(chunk.subarray(from, pos))
          from = pos
        }
      } else if (this.#mayStillHold() && this.#handler.holds()) {
        // The event began before there was anything to hold it for, with lines that carry no data.
        this.#holding = true
        if (pos > from) out.push(chunk.subarray(from, pos))
        from = pos
      }
      if (cr >= 0 && cr < pos) cr = chunk.indexOf(0x0d, pos)
      const lf = cr >= 0 ? chunk.subarray(pos, cr).indexOf(0x0a) + pos : chunk.indexOf(0x0a, pos)
      const end = lf >= pos ? lf : cr >= 0 ? cr : n
      if (end > pos) this.#line(chunk, pos, end)
      if (end === n) {
        pos = n
        break
      }
      pos = end + 1
      this.#afterCr = chunk[end] === 0x0d
      const isOver = this.#endLine()
      if (!isOver) continue
      if (this.#holding) {
        this.#hold(chunk.subarray(from, pos))
        from = pos
        const piece = this.#release()
        if (piece !== undefined) out.push(piece)
      }
      this.#finishEvent()
      if (this.#wantsStop) this.stopped = true
    }
    if (this.fault !== undefined) return undefined
    if (this.#holding) this.#hold(chunk.subarray(from, pos))
    else if (pos > from) out.push(from === 0 && pos === n ? chunk : chunk.subarray(from, pos))
    if (this.fault !== undefined) return undefined
    return out.length > 1 ? Buffer.concat(out) : out[0]
  }

  /** The stream has ended. @returns what was still held. */
  finish(): Buffer | undefined {
    if (!this.#holding) return undefined
    // Clients drop an event without its blank line; one that would have had to be rewritten must not slip by either.
    this.#endLine()
    const rest = this.#release()
    if (this.fault?.reason !== 'upstream_event_too_large') this.fault = undefined
    this.#holding = false
    this.#tell()
    return rest
  }

  #begin(): void {
    this.#inEvent = true
    this.#hasField = false
    this.#holding = this.#handler.holds()
    this.#scan.reset()
  }

  /** At the beginning of a line, in an event of which no data has been passed on. */
  #mayStillHold(): boolean {
    return this.#inEvent && !this.#holding && this.#lineIsEmpty && this.#dataLines === 0
  }

  #hold(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#held.push(bytes)
    this.#heldBytes += bytes.length
    if (this.#heldBytes > this.#limitBytes) {
      this.fault = { reason: 'upstream_event_too_large', limitBytes: this.#limitBytes }
    }
  }

  /** The held event, rewritten where it has to be. */
  #release(): Buffer | undefined {
    const raw = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held)
    this.#held = []
    this.#heldBytes = 0
    if (this.fault !== undefined) return undefined
    if (!this.#sawData || this.#isPlain) return raw
    const data = eventData(raw)
    // Events without data prime a stream that is to be resumed.
    if (isBlank(data)) return raw
    const rewritten = this.#handler.rewrite(data)
    if (!rewritten.ok) {
      this.fault = rewritten.error
      return undefined
    }
    return rewritten.value === data ? raw : withData(raw, rewritten.value)
  }

  /** A piece of a line, without its end. */
  #line(chunk: Buffer, start: number, end: number): void {
    this.#lineIsEmpty = false
    if (this.#field === UNKNOWN) {
      const colon = chunk.subarray(start, Math.min(end, start + LONGEST_FIELD)).indexOf(0x3a)
      const nameEnd = colon < 0 ? Math.min(end, start + LONGEST_FIELD) : start + colon
      this.#text += chunk.toString('latin1', start, nameEnd)
      if (colon < 0) {
        if (this.#text.length >= LONGEST_FIELD) this.#field = IGNORED
        return
      }
      this.#startField()
      start = nameEnd + 1
      if (start === end) return
    }
    this.#value(chunk, start, end)
  }

  /** The name of the field is known. */
  #startField(): void {
    let name = this.#text
    if (this.#isFirstLine && name.startsWith('\u00ef\u00bb\u00bf')) name = name.slice(3)
    this.#text = ''
    this.#isFieldStart = true
    this.#field =
      name === 'data' ? DATA : name === 'event' ? EVENT : name === 'id' ? ID : name === '' ? COMMENT : IGNORED
    if (this.#field !== COMMENT) this.#hasField = true
    if (this.#field === DATA) {
      if (this.#dataLines > 0) this.#data(NEWLINE, 0, 1)
      this.#dataLines++
    }
  }

  #value(chunk: Buffer, start: number, end: number): void {
    if (this.#isFieldStart) {
      this.#isFieldStart = false
      if (chunk[start] === 0x20) start++
    }
    if (start === end) return
    if (this.#field === DATA) this.#data(chunk, start, end)
    else if (this.#field === EVENT || this.#field === ID) {
      const room = MOST_ID - this.#text.length
      if (room > 0) this.#text += chunk.toString('latin1', start, Math.min(end, start + room))
    }
  }

  #data(chunk: Buffer, start: number, end: number): void {
    if (this.#isPlain) {
      const room = MOST_PLAIN - this.#plain.length
      if (room > 0) this.#plain += chunk.toString('latin1', start, Math.min(end, start + room))
      return
    }
    if (chunk !== NEWLINE && !this.#sawData) {
      this.#sawData = true
      const first = chunk[start]!
      if (first !== 0x7b && first !== 0x5b && first > 0x20) {
        this.#isPlain = true
        this.#data(chunk, start, end)
        return
      }
    }
    this.#scan.push(chunk, start, end)
  }

  #sawData = false

  /** @returns whether the event is over. */
  #endLine(): boolean {
    if (this.#field === UNKNOWN && !this.#lineIsEmpty) this.#startField()
    if (this.#field === EVENT) this.#type = this.#text
    else if (this.#field === ID && !this.#text.includes('\0')) this.#id = this.#text
    const isOver = this.#lineIsEmpty || (this.#field === COMMENT && !this.#hasField)
    this.#field = UNKNOWN
    this.#text = ''
    this.#lineIsEmpty = true
    this.#isFirstLine = false
    return isOver
  }

  #tell(): void {
    for (const seen of this.#unheard.splice(0)) this.#handler.message(seen)
  }

  /** A blank line, or a comment that stands alone. */
  #finishEvent(): void {
    if (this.#isPlain) this.#handler.text(this.#type, Buffer.from(this.#plain, 'latin1').toString('utf8'))
    if (this.#id !== undefined) this.#handler.eventId(Buffer.from(this.#id, 'latin1').toString('utf8'))
    if (this.#unheard.length > 0) this.#tell()
    this.#inEvent = false
    this.#holding = false
    this.#type = ''
    this.#id = undefined
    this.#dataLines = 0
    this.#plain = ''
    this.#isPlain = false
    this.#sawData = false
  }
}

function isBlank(data: Buffer): boolean {
  for (const c of data) if (c !== 0x20 && c !== 0x0a && c !== 0x09) return false
  return true
}

type Field = number
const UNKNOWN = 0
const DATA = 1
const EVENT = 2
const ID = 3
const COMMENT = 4
const IGNORED = 5

/** No field that matters has a longer name, a byte order mark before it included. */
const LONGEST_FIELD = 9
const MOST_ID = 2048
const MOST_PLAIN = 4096
const NEWLINE = Buffer.from('\n')

import { STATUS_CODES } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { RequestHead } from '../core/http1/request-reader.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'
import type { Arrival, Reply, ReplyListener } from '../journey/arrival.ts'
import type { Connection } from './connection.ts'
import type { Http1Connection } from './http1-connection.ts'
import { CUT_OFF, IncomingBody } from './incoming-body.ts'

/** A request of HTTP/1.1 and its answer, which leaves as one write when it is small. */
export class Http1Arrival implements Arrival, Reply {
  readonly method: string
  readonly target: string
  rawHeaders: readonly string[]
  /** The connection has bounded it. */
  readonly headBytes = 0
  readonly connection: Connection
  quotaHeaders: readonly string[] = NO_HEADERS
  listener: ReplyListener | undefined
  bytesWritten = 0
  headSent = false
  isGone = false
  readonly #minor: 0 | 1
  readonly #keepAlive: boolean
  readonly #expectsContinue: boolean
  readonly #declaredBytes: number
  readonly #http: Http1Connection
  readonly #body: IncomingBody
  /** When what the client has not read has to be read; `NEVER` while nothing is due. */
  #readByMono = NEVER
  /** The head that goes with the first piece of the body. */
  #status = 0
  #headers: readonly string[] = NO_HEADERS
  #framing: Framing = Framing.none
  #ended = false
  /** The rest of the request will not be read, so the connection cannot carry another. */
  #closeAfter = false
  #isLast = false

  constructor(request: RequestHead, http: Http1Connection) {
    this.#minor = request.minor
    this.#keepAlive = request.keepAlive
    this.#expectsContinue = request.expectsContinue
    this.#declaredBytes = request.bodyLength ?? 0
    this.#http = http
    this.#body = new IncomingBody(http.options.bodyRoom)
    this.method = request.method
    this.target = request.target
    this.rawHeaders = request.headers
    this.connection = http.connection
  }

  get reply(): Reply {
    return this
  }

  get isBodyRead(): boolean {
    return this.#body.isAsked
  }

  readBody(limitBytes: number): Result<Buffer, Refusal> | Promise<Result<Buffer, Refusal>> {
    const http = this.#http
    if (this.#declaredBytes > limitBytes) this.#body.refuse({ reason: 'message_too_large', limitBytes })
    if (!this.#body.isWhole && (this.isGone || http.socket.destroyed)) this.#body.refuse(CUT_OFF)
    const body = this.#body.read(limitBytes, http.options.deadlines.bodyMs)
    if (body instanceof Promise && this.#expectsContinue) http.socket.write('HTTP/1.1 100 Continue\r\n\r\n')
    http.readOn()
    return body
  }

  forgetHead(): void {
    this.rawHeaders = NO_HEADERS
  }

  forgetBody(): void {
    this.#body.letGo()
  }

  /** @internal A piece of the body has come. */
  take(piece: Buffer): void {
    // Of anything but a POST nobody asks for it. Not held: a socket that is paused does not tell that its client has left.
    if (this.method === 'POST' && !this.#body.take(piece)) this.#http.hold()
  }

  /** @internal The whole request has been read. */
  whole(): void {
    this.#body.end()
  }

  /** @internal The rest of the request cannot be read: whoever asks for the body is told why. */
  cutOff(refusal: Refusal): void {
    this.#body.refuse(refusal)
  }

  head(status: number, headers: readonly string[], flush: boolean): void {
    if (this.isGone) return
    this.headSent = true
    this.#status = status
    this.#headers = headers
    if (flush) this.#send(undefined, false)
  }

  write(chunk: Buffer): boolean {
    if (this.isGone) return true
    this.bytesWritten += chunk.length
    const flows = this.#send(chunk, false)
    if (!flows) this.#mustBeRead()
    return flows
  }

  end(chunk?: Buffer): void {
    if (this.isGone || this.#ended) return
    this.#ended = true
    if (chunk !== undefined) this.bytesWritten += chunk.length
    this.#send(chunk, true)
    this.#mustBeRead()
  }

  break(): void {
    this.#ended = true
    this.#http.socket.destroy()
  }

  /** Called by the connection, now and then. */
  checkTime(nowMono: number): void {
    this.#body.checkTime(nowMono)
    if (nowMono < this.#readByMono) return
    this.#readByMono = NEVER
    const { listener } = this
    const wasEnded = this.#ended
    this.break()
    if (!wasEnded) listener?.left('the client stopped reading')
  }

  /** @internal The kernel has taken what waited for the client. */
  drained(): void {
    if (this.#ended) return
    this.#readByMono = NEVER
    this.listener?.drained()
  }

  /** @internal The connection is gone. */
  left(): void {
    this.isGone = true
    // What has come whole is still read: the line of whoever did not wait says what he wanted.
    if (!this.#body.isWhole) this.#body.refuse(CUT_OFF)
    if (this.#ended) return
    this.#ended = true
    const { isCut, retiredFor } = this.connection
    this.listener?.left(isCut ? `cut off: ${retiredFor ?? 'limit'}` : 'the client left')
  }

  /** What waits for the client holds memory here and a connection to the server; it has to be taken in time. */
  #mustBeRead(): void {
    if (this.#readByMono !== NEVER) return
    const { readMs, readBytesPerMs } = this.#http.options.deadlines
    this.#readByMono = performance.now() + readMs + this.#http.socket.writableLength / readBytesPerMs
  }

  /** @returns false when the client is slower than this. */
  #send(chunk: Buffer | undefined, isEnd: boolean): boolean {
    const head = this.#status === 0 ? '' : this.#composeHead(isEnd ? (chunk?.length ?? 0) : -1)
    if (head === undefined) {
      // What the server sent is not what may be sent; this call breaks off, and no other with it.
      this.break()
      this.listener?.left('this head cannot be sent')
      return true
    }
    const { socket } = this.#http
    const size = this.#framing === Framing.none ? 0 : (chunk?.length ?? 0)
    const isChunked = this.#framing === Framing.chunked
    const before = isChunked && size > 0 ? `${head}${size.toString(16)}\r\n` : head
    const after = isChunked ? (size > 0 ? (isEnd ? '\r\n0\r\n\r\n' : '\r\n') : isEnd ? '0\r\n\r\n' : '') : ''
    const done = isEnd ? this.#http.onSent : undefined
    if (size === 0) return socket.write(before + after, 'latin1', done)
    if (size <= ONE_WRITE_BYTES) {
      const whole = Buffer.allocUnsafe(before.length + size + after.length)
      whole.write(before, 0, 'latin1')
      chunk?.copy(whole, before.length)
      if (after !== '') whole.write(after, before.length + size, 'latin1')
      return socket.write(whole, done)
    }
    socket.cork()
    if (before !== '') socket.write(before, 'latin1')
    const flows = socket.write(chunk as Buffer, after === '' ? done : undefined)
    if (after !== '') socket.write(after, 'latin1', done)
    socket.uncork()
    return flows
  }

  /** @param length  Bytes of the whole body where it is known, else −1. */
  #composeHead(length: number): string | undefined {
    const status = this.#status
    const headers = this.#headers
    this.#status = 0
    let text = statusLineOf(status)
    let hasLength = false
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i] as string
      const value = headers[i + 1] as string
      if (NOT_IN_A_VALUE.test(value)) return undefined
      if (name.length === 14 && name.toLowerCase() === 'content-length') hasLength = true
      text += `${name}: ${value}\r\n`
    }
    if (this.method === 'HEAD' || status === 204 || status === 304) this.#framing = Framing.none
    else if (hasLength) this.#framing = Framing.asIs
    else if (length >= 0) {
      this.#framing = Framing.asIs
      text += `Content-Length: ${length}\r\n`
    } else if (this.#minor === 1) {
      this.#framing = Framing.chunked
      text += 'Transfer-Encoding: chunked\r\n'
    } else {
      this.#framing = Framing.asIs
      this.#closeAfter = true
    }
    if (!this.#body.isWhole || this.#body.isRefused) {
      this.#closeAfter = true
      this.#body.refuse(CUT_OFF)
    }
    this.#isLast = this.#closeAfter || !this.#keepAlive || this.connection.retiring || this.#http.isDeaf
    return `${text}Date: ${httpDate()}\r\n${this.#isLast ? 'Connection: close\r\n' : this.#http.stays}\r\n`
  }

  /** @internal The kernel has the whole answer. */
  sent(): void {
    this.#readByMono = NEVER
    if (this.isGone) return
    const { socket, isDeaf } = this.#http
    const isRead = this.#body.isWhole && !isDeaf
    if (!this.#isLast && !isDeaf) return this.#http.answered(false)
    this.#http.answered(true)
    if (isRead) socket.destroySoon()
    else {
      socket.end()
      this.#http.linger()
    }
  }
}

/** How the end of an answer's body is told: not at all, by its length or the end of the connection, by chunks. */
const Framing = { none: 0, asIs: 1, chunked: 2 } as const
type Framing = (typeof Framing)[keyof typeof Framing]

const NEVER = Number.POSITIVE_INFINITY
const NO_HEADERS: readonly string[] = []
/** Up to here head and body are copied together, into one TLS record and one write. */
const ONE_WRITE_BYTES = 15 * 1024
/** RFC 9110 §5.5. */
const NOT_IN_A_VALUE = /[^\t\x20-\x7e\x80-\xff]/

const statusLines = new Map<number, string>()

function statusLineOf(status: number): string {
  const known = statusLines.get(status)
  if (known !== undefined) return known
  const line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Unknown'}\r\n`
  statusLines.set(status, line)
  return line
}

let dateText = ''
let dateSecond = 0

/** RFC 9110 §6.6.1, made once a second. */
function httpDate(): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== dateSecond) {
    dateSecond = second
    dateText = new Date(second * 1000).toUTCString()
  }
  return dateText
}

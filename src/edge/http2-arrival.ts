import { constants, type ServerHttp2Stream } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'
import type { Arrival, Reply, ReplyListener } from '../journey/arrival.ts'
import type { ArrivalDeadlines } from './arrival-deadlines.ts'
import type { BodyRoom } from './body-room.ts'
import type { Connection } from './connection.ts'
import { CUT_OFF, IncomingBody } from './incoming-body.ts'

/**
 * A request of HTTP/2 and its answer, on Node's stream. Not on the `request` and `response` that Node makes of it: those
 * are two more streams, and end each answer with a frame of its own, a turn of the event loop later.
 */
export class Http2Arrival implements Arrival, Reply {
  readonly method: string
  readonly target: string
  rawHeaders: readonly string[]
  readonly headBytes: number
  readonly connection: Connection
  quotaHeaders: readonly string[] = NO_HEADERS
  listener: ReplyListener | undefined
  bytesWritten = 0
  headSent = false
  isGone = false
  readonly #stream: ServerHttp2Stream
  readonly #deadlines: ArrivalDeadlines
  readonly #body: IncomingBody
  #declaredBytes: number | undefined
  #expectsContinue = false
  #isBegun = false
  /** The head that goes with the first piece of the body. */
  #status = 0
  #headers: readonly string[] = NO_HEADERS
  #ended = false
  /** When what the client has not read becomes too old; `Infinity` while nothing waits for it. */
  #readByMono = NEVER
  #hearsDrain = false
  /** It is among those that the connection looks at. */
  #isWatched = false
  /** The rest of the request is not wanted: the stream ends with the answer. */
  #closeAfter = false

  /** @param head  All headers as Node tells of them, `[name, value, …]`. */
  constructor(
    stream: ServerHttp2Stream,
    head: readonly string[],
    connection: Connection,
    deadlines: ArrivalDeadlines,
    bodyRoom: BodyRoom,
  ) {
    this.#stream = stream
    this.#deadlines = deadlines
    this.#body = new IncomingBody(bodyRoom)
    this.connection = connection
    const headers: string[] = []
    let headBytes = 0
    let method = ''
    let target = ''
    let authority: string | undefined
    let host: string | undefined
    for (let i = 0; i < head.length; i += 2) {
      const name = head[i] as string
      const value = head[i + 1] as string
      // RFC 9113 §6.5.2.
      headBytes += name.length + value.length + 32
      if (name.charCodeAt(0) === 0x3a) {
        if (name === ':method') method = value
        else if (name === ':path') target = value
        else if (name === ':authority') authority = value
        continue
      }
      if (name === 'host') host = value
      else if (name === 'content-length') this.#declaredBytes = Number(value)
      else if (name === 'expect') this.#expectsContinue = value.toLowerCase() === '100-continue'
      headers.push(name, value)
    }
    // RFC 9113 §8.3.1: a Host beside :authority must not differ; both are handed on then and the repeat is refused later.
    if (authority !== undefined && host?.toLowerCase() !== authority.toLowerCase()) headers.push('host', authority)
    this.method = method
    this.target = target
    this.rawHeaders = headers
    this.headBytes = headBytes
    stream.on('close', () => this.#onClose())
    // A client that resets shows as an error here; 'close' follows and is where it is acted on.
    stream.on('error', ignore)
  }

  get reply(): Reply {
    return this
  }

  get isBodyRead(): boolean {
    return this.#body.isAsked
  }

  /** The client has given it up. */
  get isTakenBack(): boolean {
    return this.#stream.closed
  }

  /** From now on somebody looks after it. */
  begin(): void {
    this.#isBegun = true
    this.connection.requestBegun()
  }

  readBody(limitBytes: number): Result<Buffer, Refusal> | Promise<Result<Buffer, Refusal>> {
    const stream = this.#stream
    if ((this.#declaredBytes ?? 0) > limitBytes) this.#body.refuse({ reason: 'message_too_large', limitBytes })
    // What has ended already would not say so again.
    else if (stream.destroyed || stream.closed) this.#body.refuse(CUT_OFF)
    else if (this.#hasCome()) this.#takeAll()
    const body = this.#body.read(limitBytes, this.#deadlines.bodyMs)
    if (body instanceof Promise) {
      this.#watch()
      if (this.#expectsContinue) stream.additionalHeaders({ ':status': 100 })
      stream.on('data', (piece: Buffer) => this.#body.take(piece))
      stream.on('end', () => this.#onEnd())
    }
    return body
  }

  /** The client has sent the end of its request. */
  #hasCome(): boolean {
    return this.#stream.endAfterHeaders || this.#stream.state.remoteClose === 1
  }

  /**
   * Without events. Asked for exactly what there is, Node does not tell of the end before the stream closes; else it would
   * be destroyed before its answer is with the kernel, and Node make an error, with its stack, that nobody sees: 5 % of a call.
   */
  #takeAll(): void {
    const { readableLength } = this.#stream
    if (readableLength > 0) this.#body.take(this.#stream.read(readableLength))
    if (readableLength === (this.#declaredBytes ?? readableLength)) this.#body.end()
    else this.#body.refuse(CUT_OFF)
  }

  forgetHead(): void {
    this.rawHeaders = NO_HEADERS
  }

  forgetBody(): void {
    this.#body.letGo()
  }

  #onEnd(): void {
    // The end of a stream that was reset is the end of what has come, not of what was sent.
    if (this.#stream.closed) this.#body.refuse(CUT_OFF)
    else this.#body.end()
    this.#unwatch()
  }

  head(status: number, headers: readonly string[], flush: boolean): void {
    if (this.isGone) return
    this.headSent = true
    this.#status = status
    this.#headers = headers
    if (flush) this.#sendHead(false)
  }

  write(chunk: Buffer): boolean {
    if (!this.#sendHead(false)) return true
    this.bytesWritten += chunk.length
    const flows = this.#stream.write(chunk)
    if (!flows) this.#waitForDrain()
    return flows
  }

  end(chunk?: Buffer): void {
    if (this.#ended) return
    const stream = this.#stream
    const isEmpty = chunk === undefined || chunk.length === 0
    const isOpen = this.#sendHead(isEmpty)
    this.#ended = true
    if (isOpen && !isEmpty) {
      this.bytesWritten += chunk.length
      stream.end(chunk)
    } else if (isOpen) stream.end()
    if (this.#closeAfter) this.#closeGently()
    if (stream.writableLength > 0) this.#mustBeRead()
  }

  break(): void {
    this.#ended = true
    // Not `close`: with that Node first ends the stream in order, and what is there of the answer looks complete.
    this.#stream.destroy(BROKEN_OFF)
  }

  /** Called by the connection, now and then, while the client has something to send or to read. */
  checkTime(nowMono: number): void {
    this.#body.checkTime(nowMono)
    if (nowMono >= this.#readByMono) {
      this.#readByMono = NEVER
      const { listener } = this
      const wasEnded = this.#ended
      this.break()
      if (!wasEnded) listener?.left('the client stopped reading')
    }
    this.#unwatch()
  }

  /**
   * Sends the head if it is still to be sent.
   *
   * @param isAll  The answer has nothing else.
   * @returns whether more of the answer can be sent.
   */
  #sendHead(isAll: boolean): boolean {
    const stream = this.#stream
    if (stream.destroyed || stream.closed) return false
    if (this.#status !== 0) {
      const head: (string | number)[] = [':status', this.#status, ...this.#headers]
      this.#status = 0
      if (this.#body.isRefused || !(this.#body.isWhole || this.#hasCome())) {
        this.#closeAfter = true
        this.#body.refuse(CUT_OFF)
      }
      try {
        stream.respond(head as never, isAll ? ALL : undefined)
      } catch {
        // What the server sent is not what Node lets through; this call breaks off, and no other with it.
        const wasEnded = this.#ended
        this.break()
        if (!wasEnded) this.listener?.left('Node refuses to send this head')
        return false
      }
    }
    // HEAD, 204 and 304 have ended with their head.
    return !stream.writableEnded
  }

  /** What waits for the client holds memory here and a connection to the server; it has to be taken in time. */
  #mustBeRead(): void {
    const { readMs, readBytesPerMs } = this.#deadlines
    if (this.#readByMono !== NEVER) return
    this.#readByMono = performance.now() + readMs + this.#stream.writableLength / readBytesPerMs
    this.#watch()
  }

  #waitForDrain(): void {
    if (!this.#hearsDrain) this.#stream.on('drain', () => this.#onDrain())
    this.#hearsDrain = true
    this.#mustBeRead()
  }

  #onDrain(): void {
    this.#readByMono = NEVER
    this.#unwatch()
    this.listener?.drained()
  }

  #watch(): void {
    if (!this.#isWatched) this.connection.waiting.add(this)
    this.#isWatched = true
  }

  #unwatch(): void {
    if (!this.#isWatched || this.#body.isAwaited || this.#readByMono !== NEVER) return
    this.#isWatched = false
    this.connection.waiting.delete(this)
  }

  /** Ends an exchange of which the client is still sending: the stream is reset without an error (RFC 9113 §8.1). */
  #closeGently(): void {
    const stream = this.#stream
    if (stream.writableFinished) stream.close(constants.NGHTTP2_NO_ERROR)
    else stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
  }

  #onClose(): void {
    this.isGone = true
    if (!this.#body.isWhole) this.#body.refuse(CUT_OFF)
    this.#readByMono = NEVER
    this.#unwatch()
    if (this.#isBegun) this.connection.requestOver()
    if (this.#ended) return
    this.#ended = true
    const { isCut, retiredFor } = this.connection
    this.listener?.left(isCut ? `cut off: ${retiredFor ?? 'limit'}` : 'the client left')
  }
}

const NEVER = Number.POSITIVE_INFINITY
const NO_HEADERS: readonly string[] = []
const ALL = { endStream: true }
/** Of which Node makes RST_STREAM with INTERNAL_ERROR. */
const BROKEN_OFF = new Error('the answer is broken off')

function ignore(): void {}

import { constants, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { Refusal } from '../core/refusal.ts'
import { err, type Result } from '../core/result.ts'
import type { Arrival, Reply, ReplyListener } from '../journey/arrival.ts'
import type { ArrivalDeadlines } from './arrival-deadlines.ts'
import { BodyReading, CUT_OFF } from './body-reading.ts'
import type { Connection } from './connection.ts'

/** A request of HTTP/2 and its answer, on Node's own objects. */
export class Http2Arrival implements Arrival, Reply {
  readonly method: string
  readonly target: string
  readonly rawHeaders: readonly string[]
  readonly headBytes: number
  readonly connection: Connection
  readonly reply: Reply = this
  quotaHeaders: readonly string[] = []
  listener: ReplyListener | undefined
  bytesWritten = 0
  readonly #request: Http2ServerRequest
  readonly #response: Http2ServerResponse
  readonly #deadlines: ArrivalDeadlines
  #ended = false
  #isClosed = false
  /** When what the client has not read becomes too old; `Infinity` while nothing waits for it. */
  #readByMono = NEVER
  #hearsDrain = false
  /** It is among those that the connection looks at. */
  #isWatched = false
  isBodyRead = false
  #body: BodyReading | undefined
  /** When the body has to be here; `Infinity` when it is, or is not asked for. */
  #bodyByMono = NEVER
  /** The rest of the request will not be read, so the connection cannot carry another. */
  #closeAfter = false

  constructor(
    request: Http2ServerRequest,
    response: Http2ServerResponse,
    connection: Connection,
    deadlines: ArrivalDeadlines,
  ) {
    this.#request = request
    this.#response = response
    this.#deadlines = deadlines
    this.connection = connection
    this.method = request.method ?? ''
    this.target = request.url ?? ''
    this.rawHeaders = withoutPseudoHeaders(request.rawHeaders)
    this.headBytes = sizeOf(request.rawHeaders)
    connection.requestBegun()
    response.on('close', () => this.#onClose())
    // A client that resets shows as an error here; 'close' follows and is where it is acted on.
    response.on('error', ignore)
    request.on('error', ignore)
  }

  get headSent(): boolean {
    return this.#response.headersSent
  }

  get isGone(): boolean {
    return this.#isClosed
  }

  readBody(limitBytes: number): Promise<Result<Buffer, Refusal>> {
    this.isBodyRead = true
    const request = this.#request
    const declared = Number(request.headers['content-length'] ?? 0)
    if (declared > limitBytes) {
      this.#closeAfter = true
      return Promise.resolve(err({ reason: 'message_too_large', limitBytes }))
    }
    // What has ended already would not say so again.
    if (request.destroyed || this.#isClosed) return Promise.resolve(err(CUT_OFF))
    this.#bodyByMono = performance.now() + this.#deadlines.bodyMs
    this.#body = new BodyReading(request, limitBytes, result => this.#onBody(result))
    this.#watch()
    return this.#body.result
  }

  #onBody(result: Result<Buffer, Refusal>): void {
    this.#bodyByMono = NEVER
    this.#unwatch()
    // What still comes has been refused; it is neither kept nor read to its end.
    if (!result.ok) this.#closeAfter = true
  }

  head(status: number, headers: readonly string[], _flush: boolean): void {
    const response = this.#response
    if (response.destroyed) return
    if (!this.isBodyRead) this.#closeAfter = !this.#request.stream.endAfterHeaders
    try {
      response.writeHead(status, http2Headers(headers) as never)
    } catch {
      // What the server sent is not what Node lets through; this call breaks off, and no other with it.
      this.break()
      this.listener?.left('Node refuses to send this head')
    }
  }

  write(chunk: Buffer): boolean {
    if (this.#response.destroyed) return true
    this.bytesWritten += chunk.length
    const flows = this.#response.write(chunk)
    if (!flows) this.#waitForDrain()
    return flows
  }

  end(chunk?: Buffer): void {
    this.#ended = true
    const response = this.#response
    if (this.#closeAfter) this.#closeGently()
    if (chunk === undefined || chunk.length === 0) {
      response.end()
    } else {
      this.bytesWritten += chunk.length
      response.end(chunk)
    }
    if (response.writableLength > 0) this.#mustBeRead()
  }

  break(): void {
    this.#ended = true
    const { stream } = this.#response
    if (stream !== undefined && !stream.destroyed) stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  }

  /** Called by the connection, now and then, while the client has something to send or to read. */
  checkTime(nowMono: number): void {
    if (nowMono >= this.#bodyByMono) this.#body?.refuse({ reason: 'request_timeout', waitedMs: this.#deadlines.bodyMs })
    if (nowMono < this.#readByMono) return
    this.#readByMono = NEVER
    this.#unwatch()
    const { listener } = this
    const wasEnded = this.#ended
    this.break()
    if (!wasEnded) listener?.left('the client stopped reading')
  }

  /** What waits for the client holds memory here and a connection to the server; it has to be taken in time. */
  #mustBeRead(): void {
    const { readMs, readBytesPerMs } = this.#deadlines
    if (this.#readByMono !== NEVER) return
    this.#readByMono = performance.now() + readMs + this.#response.writableLength / readBytesPerMs
    this.#watch()
  }

  #waitForDrain(): void {
    if (!this.#hearsDrain) this.#response.on('drain', () => this.#onDrain())
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
    if (!this.#isWatched || this.#bodyByMono !== NEVER || this.#readByMono !== NEVER) return
    this.#isWatched = false
    this.connection.waiting.delete(this)
  }

  /** Ends an exchange of which the client is still sending: the stream is reset without an error (RFC 9113 §8.1). */
  #closeGently(): void {
    const { stream } = this.#response
    stream?.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR))
  }

  #onClose(): void {
    this.#isClosed = true
    this.#readByMono = NEVER
    this.#unwatch()
    this.connection.requestOver()
    if (this.#ended) return
    this.#ended = true
    const { isCut, retiredFor } = this.connection
    this.listener?.left(isCut ? `cut off: ${retiredFor ?? 'limit'}` : 'the client left')
  }
}

const NEVER = Number.POSITIVE_INFINITY

function ignore(): void {}

/** RFC 9113 §6.5.2. */
function sizeOf(raw: readonly string[]): number {
  let bytes = 0
  for (let i = 0; i < raw.length; i++) bytes += (raw[i] as string).length + 16
  return bytes
}

function withoutPseudoHeaders(raw: readonly string[]): string[] {
  const headers: string[] = []
  let authority: string | undefined
  let host = false
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    if (name.charCodeAt(0) === 0x3a) {
      if (name === ':authority') authority = raw[i + 1]
      continue
    }
    if (name === 'host') host = true
    headers.push(name, raw[i + 1] as string)
  }
  // RFC 9113 §8.3.1: a Host beside :authority must not differ; both are handed on and the repeat is refused later.
  if (authority !== undefined && !(host && authorityEquals(headers, authority))) headers.push('host', authority)
  return headers
}

function authorityEquals(headers: readonly string[], authority: string): boolean {
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === 'host' && headers[i + 1]?.toLowerCase() !== authority.toLowerCase()) return false
  }
  return true
}

/** HTTP/2 has no connection headers, and Node wants one entry a name, repeated ones as a list. */
function http2Headers(headers: readonly string[]): Record<string, string | string[]> {
  const out = Object.create(null) as Record<string, string | string[]>
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] as string).toLowerCase()
    const value = headers[i + 1] as string
    const before = out[name]
    if (before === undefined) out[name] = value
    else if (Array.isArray(before)) before.push(value)
    else out[name] = [before, value]
  }
  return out
}

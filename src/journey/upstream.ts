/**
 * The hop to the MCP server, as the journey needs it. Implementations: `edge/upstream-http1.ts`.
 * Nothing here knows about MCP; headers are flat lists `[name, value, name, value, …]` in the order of the wire.
 */
export interface Upstream {
  /** Sends one request. Exactly one of `answer.end` and `answer.fail` is called in the end, unless it is cancelled. */
  send(request: UpstreamRequest, answer: AnswerSink): UpstreamCall
  /** Closes idle connections and refuses new calls; calls under way go on. */
  close(): void
}

export interface UpstreamRequest {
  readonly method: 'POST' | 'GET' | 'DELETE'
  /** Path and query. */
  readonly path: string
  readonly headers: readonly string[]
  readonly body: Buffer | undefined
  /** To the first byte of the answer's head. */
  readonly firstByteMs: number
  /** Longest silence once the answer has begun; any byte, a comment of an event stream too, starts it anew. */
  readonly idleMs: number
}

/** Receives an answer as it arrives. Called on the same tick as the bytes; must not throw. */
export interface AnswerSink {
  /** Final head (1xx are swallowed). `bodyLength` is the Content-Length, undefined when chunked or until close. */
  head(status: number, headers: readonly string[], bodyLength: number | undefined): void
  /** A piece of the body; false asks for a pause until `resume()`. The chunk is not reused by the caller. */
  data(chunk: Buffer): boolean
  end(): void
  /** After `head` this means that the answer is broken: what was passed on must not look complete. */
  fail(failure: UpstreamFailure): void
}

export interface UpstreamCall {
  /** Goes on after `data` returned false. */
  resume(): void
  /** The client left: the upstream connection is closed at once, which tells the server. No callback follows. */
  cancel(): void
}

export interface UpstreamFailure {
  /** `busy`: it is the sidecar that has no connection to spare; says nothing about the server. */
  readonly kind: 'unreachable' | 'busy' | 'broke' | 'timeout' | 'invalid'
  readonly detail: string
  /** False when not one byte of the request can have reached the server, so that another attempt is safe. */
  readonly sent: boolean
  readonly waitedMs: number
}

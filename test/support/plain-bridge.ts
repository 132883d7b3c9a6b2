import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { USER } from './mcp-clients.ts'
import type { TestIdentity } from './pki.ts'

export interface BridgeOptions {
  /** PEM of the CA of the sidecar's certificate. */
  readonly ca: string
  /** What the bridge presents itself with. */
  readonly identity: Pick<TestIdentity, 'tls'>
  /** ALPN towards the sidecar. */
  readonly protocol?: 'http/1.1' | 'h2'
  /** What a gateway says about the user; set on every request. */
  readonly headers?: Readonly<Record<string, string>>
}

export interface PlainBridge {
  readonly port: number
  /** Where the sidecar listens. The bridge is there first, because the sidecar has to know its origin. */
  connectTo(sidecarPort: number): void
  stop(): Promise<void>
}

/**
 * Plain HTTP in, mTLS out, for clients that cannot present a certificate. It stands where a gateway does and adds
 * nothing but who the user is: Host, every other header, status and trailing bytes pass as they are, unbuffered, and
 * whoever breaks off on one side is broken off on the other.
 */
export async function startPlainBridge(options: BridgeOptions): Promise<PlainBridge> {
  let target: Target | undefined
  const server = http.createServer((request, response) => {
    if (target === undefined) return void response.writeHead(503).end()
    target.send(request, response)
  })
  // The peer decides how long a stream lasts.
  server.requestTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    connectTo(sidecarPort) {
      target = options.protocol === 'h2' ? http2Target(sidecarPort, options) : http1Target(sidecarPort, options)
    },
    async stop() {
      target?.close()
      await new Promise<void>(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

interface Target {
  send(request: IncomingMessage, response: ServerResponse): void
  close(): void
}

function http1Target(port: number, options: BridgeOptions): Target {
  // Not the SNI of the Host header: that one passes for what it is, be it evil.
  const tls = { ca: options.ca, ...options.identity.tls, servername: 'localhost', ALPNProtocols: ['http/1.1'] }
  const agent = new https.Agent({ keepAlive: true, ...tls })
  let begun: Promise<unknown> = Promise.resolve()
  return {
    async send(request, response) {
      // The agent lets a request that finds an idle connection overtake one that has to make its own. Clients open a
      // session's event stream and call at once; a server that asks something in that call needs the stream to be there.
      const isNext = begun
      const { promise, resolve } = Promise.withResolvers<void>()
      begun = promise
      await isNext
      const outgoing = https.request({
        agent,
        host: '127.0.0.1',
        port,
        method: request.method ?? 'GET',
        path: request.url ?? '/',
        headers: forwarded(request, options),
      })
      outgoing.on('socket', socket => {
        if (socket.connecting) socket.once('secureConnect', resolve)
        else resolve()
      })
      outgoing.on('close', resolve)
      outgoing.on('response', answer => {
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders.filter(endToEnd))
        relay(answer, response, answer.headers['content-length'] === '0')
      })
      join(request, outgoing, response)
    },
    close: () => agent.destroy(),
  }
}

function http2Target(port: number, options: BridgeOptions): Target {
  const { ca, identity } = options
  let session: http2.ClientHttp2Session | undefined
  const connected = (): http2.ClientHttp2Session => {
    if (session !== undefined && !session.closed && !session.destroyed) return session
    session = http2.connect(`https://127.0.0.1:${port}`, { ca, ...identity.tls, servername: 'localhost' })
    session.on('error', () => {})
    return session
  }
  return {
    send(request, response) {
      const { Host: authority, ...headers } = pairs(forwarded(request, options))
      const outgoing = connected().request({
        ':method': request.method ?? 'GET',
        ':path': request.url ?? '/',
        ':scheme': 'https',
        ':authority': authority ?? '',
        ...headers,
      })
      outgoing.on('response', (answer, flags) => {
        const lines = Object.entries(answer).filter(([name]) => !name.startsWith(':'))
        response.writeHead(answer[':status'] ?? 502, Object.fromEntries(lines))
        relay(outgoing, response, (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0)
      })
      join(request, outgoing, response)
    },
    close: () => session?.destroy(),
  }
}

/** Header lines of the client as they came, less those that are about its own connection, and then the user's. */
function forwarded(request: IncomingMessage, { headers = USER }: BridgeOptions): string[] {
  return [...request.rawHeaders.filter(endToEnd), ...Object.entries(headers).flat()]
}

const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'te', 'upgrade'])

/** For `filter` over a flat list of names and values. */
function endToEnd(_: string, at: number, lines: readonly string[]): boolean {
  return !HOP_BY_HOP.has((lines[at - (at % 2)] as string).toLowerCase())
}

function pairs(lines: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {}
  for (let i = 0; i < lines.length; i += 2) {
    const name = lines[i] as string
    found[name.toLowerCase() === 'host' ? 'Host' : name] = lines[i + 1] as string
  }
  return found
}

function join(request: IncomingMessage, outgoing: Writable, response: ServerResponse): void {
  request.pipe(outgoing)
  outgoing.on('error', () => {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end()
  })
  response.on('close', () => {
    if (!response.writableFinished) outgoing.destroy()
  })
}

function relay(answer: Readable, response: ServerResponse, isEmpty: boolean): void {
  // In one write: a client that has the head of an answer goes on, and while its end is under way the connection is busy.
  if (!isEmpty) response.flushHeaders()
  answer.pipe(response)
  // A stream that broke must not look as if it had ended.
  answer.on('error', () => response.destroy())
  answer.on('close', () => {
    if (!answer.readableEnded) response.destroy()
  })
}

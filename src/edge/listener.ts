import type { X509Certificate } from 'node:crypto'
import http2 from 'node:http2'
import net, { type AddressInfo, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { LimitsConfig, SocketAddress } from '../config/config.ts'
import type { ConnectionFacts } from '../core/audit/exchange.ts'
import type { ClientCertificate } from '../core/identity/caller.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'
import { NodeArrival } from './arrival-node.ts'
import { Connection, type ConnectionAge } from './connection.ts'
import { HandshakeGate } from './handshake-gate.ts'
import { endHandshake, setServerContext } from './tls-repairs.ts'

export interface ListenerOptions {
  readonly address: SocketAddress
  readonly limits: LimitsConfig
  readonly deadlines: ListenerDeadlines
  /** Connections at the same time, at most `limits.connections`. */
  readonly maxConnections: number
  readonly secureContext: SecureContextOptions
  readonly connectionAge: () => ConnectionAge
  readonly readCertificate: (der: Buffer, chain: readonly Buffer[]) => Result<ClientCertificate, { detail: string }>
  /** Why a certificate that TLS has accepted is refused all the same; OpenSSL's words where it has one. */
  readonly judge: (certificate: ClientCertificate) => string | undefined
  /** Whether no stranger is to be let in now, because there is too much to do. */
  readonly isFull: () => boolean
  readonly events: ListenerEvents
}

/** How long each part of a connection's life may take, in ms. */
export interface ListenerDeadlines {
  readonly handshakeMs: number
  readonly headersMs: number
  readonly bodyMs: number
  /** Until what waits for a client has been taken by it, and how much longer for each byte. */
  readonly readMs: number
  readonly readBytesPerMs: number
  readonly idleMs: number
}

export interface ListenerEvents {
  arrival(arrival: NodeArrival): void
  /** Bytes that never became a request: Node's HTTP parser gave up on them, or a deadline ran out. */
  malformed(connection: Connection, refusal: Refusal): void
  /** A connection that never got as far as HTTP; `reason` is OpenSSL's word where there is one. */
  connectionRefused(refused: RefusedConnection): void
  connectionOpened(connection: Connection): void
  connectionClosed(connection: Connection): void
  handshake(result: 'accepted' | 'refused', version: string): void
}

export interface RefusedConnection {
  readonly reason: string
  readonly remoteAddress: string
  readonly certificate: ClientCertificate | undefined
  readonly tls: string
}

const SWEEP_MS = 250
/** Requests that an HTTP/1.1 client may send without waiting for an answer. Node would begin every one of them at once. */
const MOST_PIPELINED = 32
const TURNED_AWAY = { admitted: false, evicted: undefined }

/**
 * The mTLS listener. Every socket passes one gate between the end of its handshake and the first byte of HTTP: without
 * a client certificate that chains to the client CA it is destroyed there. Whether the peer is on the list is judged for
 * each request, since that list can change while the connection lives.
 *
 * The gate stands before Node's own listener, which then runs HTTP/1.1 and HTTP/2 on the server that accepted the
 * socket; a separate `http.Server` fed by `emit('connection')` would enforce none of its timeouts.
 */
export class Listener {
  readonly #options: ListenerOptions
  readonly #server: http2.Http2SecureServer
  readonly #connections = new Map<Socket, Connection>()
  readonly #turnedAway = new WeakSet<Socket>()
  readonly #bySession = new WeakMap<http2.ServerHttp2Session, Connection>()
  readonly #gate: HandshakeGate<Socket>
  /** The connection that Node's listener is just being given: its HTTP/2 session is announced on the same tick. */
  #entering: Connection | undefined
  #sweep: NodeJS.Timeout | undefined

  constructor(options: ListenerOptions) {
    this.#options = options
    const { limits, deadlines } = options
    this.#server = http2.createSecureServer({
      ...options.secureContext,
      allowHTTP1: true,
      ALPNProtocols: ['h2', 'http/1.1'],
      requestCert: true,
      // Refusing here would lose the reason (Node reports ECONNRESET); the gate refuses, and knows why.
      rejectUnauthorized: false,
      handshakeTimeout: deadlines.handshakeMs,
      http1Options: {
        maxHeaderSize: limits.headerBytes,
        headersTimeout: deadlines.headersMs,
        requestTimeout: deadlines.headersMs + deadlines.bodyMs,
        connectionsCheckingInterval: 500,
        keepAliveTimeout: deadlines.idleMs,
        insecureHTTPParser: false,
        requireHostHeader: true,
        noDelay: true,
        highWaterMark: 64 * 1024,
      },
      maxHeaderListPairs: 200,
      maxSendHeaderBlockLength: limits.headerBytes,
      maxSessionInvalidFrames: 10,
      maxSessionRejectedStreams: 20,
      streamResetBurst: 100,
      streamResetRate: 20,
      maxSettings: 16,
      maxOutstandingPings: 4,
      settings: { maxConcurrentStreams: 256, maxHeaderListSize: limits.headerBytes, enableConnectProtocol: false },
    } as http2.SecureServerOptions)
    setServerContext(this.#server, options.secureContext)
    this.#server.maxConnections = options.maxConnections
    this.#gate = new HandshakeGate(limits.handshakes)
    this.#listenTo(this.#server)
  }

  /** @returns the port that is listened on. */
  async start(): Promise<number> {
    const { host, port } = this.#options.address
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    this.#server.on('error', () => {
      // EMFILE and the like: the listening socket stays, and accepting goes on when there is room again.
    })
    this.#sweep = setInterval(() => this.#checkTimes(), SWEEP_MS).unref()
    return (this.#server.address() as AddressInfo).port
  }

  get connections(): Iterable<Connection> {
    return this.#connections.values()
  }

  get connectionCount(): number {
    return this.#connections.size
  }

  /** For new handshakes; connections that are open keep what they have. */
  setSecureContext(context: SecureContextOptions): void {
    setServerContext(this.#server, context)
  }

  /** Accepts no more connections. */
  stopAccepting(): void {
    // `close` of Node's HTTP/2 server would also close its sessions and idle connections at once; those are ours to drain.
    net.Server.prototype.close.call(this.#server)
  }

  /** Ends everything that is left. */
  destroy(): void {
    clearInterval(this.#sweep)
    for (const connection of this.#connections.values()) connection.destroy()
    if (this.#server.listening) this.#server.close()
  }

  #listenTo(server: http2.Http2SecureServer): void {
    const serveHttp = server.listeners('secureConnection')[0] as (socket: TLSSocket) => void
    const beginTls = server.listeners('connection')[0] as (socket: Socket) => void
    server.removeAllListeners('connection')
    server.removeAllListeners('secureConnection')
    server.removeAllListeners('tlsClientError')
    // Before TLS is begun: who is turned away costs no TLS socket, and can still be destroyed (see endHandshake).
    server.on('connection', socket => {
      if (this.#maySpeakTls(socket)) beginTls.call(server, socket)
    })
    server.on('tlsClientError', (error, socket) => this.#onHandshakeFailed(error, socket))
    server.on('secureConnection', socket => {
      const connection = this.#judge(socket)
      if (connection === undefined) return
      this.#entering = connection
      serveHttp.call(server, socket)
      this.#entering = undefined
    })
    server.on('drop', data => this.#refused('TOO_MANY_CONNECTIONS', data?.remoteAddress ?? '', undefined, ''))
    server.on('session', session => {
      const connection = this.#entering
      if (connection === undefined) return session.destroy()
      this.#bySession.set(session, connection)
      connection.attach(session)
      session.on('error', ignore)
      session.on('ping', () => connection.noteFrame())
      session.on('remoteSettings', () => connection.noteFrame())
    })
    server.on('request', (request, response) => {
      const connection =
        request.httpVersionMajor === 2
          ? this.#bySession.get((request as http2.Http2ServerRequest).stream.session as http2.ServerHttp2Session)
          : this.#connections.get(request.socket)
      if (connection === undefined) return void response.destroy()
      if (!connection.isHttp2 && connection.openRequests >= MOST_PIPELINED) return connection.destroy()
      this.#options.events.arrival(new NodeArrival(request, response, connection, this.#options.deadlines))
    })
    server.on('checkContinue', (request, response) => {
      response.writeContinue()
      server.emit('request', request, response)
    })
    // Node would answer 417 by itself, without a line; an expectation may be ignored (RFC 9110 §10.1.1) and goes no further.
    server.on('checkExpectation', (request, response) => server.emit('request', request, response))
    server.on('connect', (request: http2.Http2ServerRequest, second: Socket | http2.Http2ServerResponse) => {
      // HTTP/1.1 hands over the bare socket, HTTP/2 an answer like any other.
      if (second instanceof net.Socket)
        this.#answerRaw(second, { reason: 'request_upgrade_refused' }, '400 Bad Request')
      else server.emit('request', request, second)
    })
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => this.#onUnparseable(error, socket))
    server.on('sessionError', ignore)
    server.on('unknownProtocol', socket => socket.destroy())
  }

  #maySpeakTls(socket: Socket): boolean {
    socket.on('error', ignore)
    const address = socket.remoteAddress ?? ''
    const isFull = this.#options.isFull()
    const { admitted, evicted } = isFull ? TURNED_AWAY : this.#gate.enter(socket, address, performance.now())
    if (evicted !== undefined) {
      this.#turnAway(evicted, 'HANDSHAKE_TOO_SLOW')
      endHandshake(evicted)
    }
    if (!admitted) {
      this.#turnAway(socket, isFull ? 'OVERLOADED' : 'TOO_MANY_HANDSHAKES')
      socket.destroy()
      return false
    }
    socket.once('close', () => this.#gate.leave(socket, 'failed'))
    return true
  }

  #turnAway(socket: Socket, reason: string): void {
    this.#turnedAway.add(socket)
    this.#refused(reason, socket.remoteAddress ?? '', undefined, '')
  }

  #judge(socket: TLSSocket): Connection | undefined {
    socket.on('error', ignore)
    const remoteAddress = socket.remoteAddress ?? ''
    const version = socket.getProtocol() ?? ''
    const tls = `${version} ${socket.getCipher()?.standardName ?? ''}`.trim()
    const presented = socket.getPeerX509Certificate()
    const read =
      presented === undefined ? undefined : this.#options.readCertificate(presented.raw, issuersOf(presented))
    const certificate = read?.ok === true ? read.value : undefined
    let reason: string | undefined
    if (presented === undefined) reason = 'PEER_DID_NOT_RETURN_A_CERTIFICATE'
    else if (!socket.authorized) reason = String(socket.authorizationError ?? 'UNAUTHORIZED')
    else if (certificate === undefined) reason = 'PEER_IDENTITY_AMBIGUOUS'
    else if (socket.isSessionReused()) reason = 'SESSION_RESUMED'
    else reason = this.#options.judge(certificate)
    if (reason !== undefined || certificate === undefined) {
      this.#options.events.handshake('refused', version)
      this.#gate.leave(carrierOf(socket), 'failed')
      this.#refused(reason ?? 'UNAUTHORIZED', remoteAddress, certificate, tls)
      socket.destroy()
      return undefined
    }
    this.#options.events.handshake('accepted', version)
    this.#gate.leave(carrierOf(socket), 'well')
    const facts: ConnectionFacts = {
      remoteAddress,
      certificate,
      tls,
      httpVersion: socket.alpnProtocol === 'h2' ? '2' : '1.1',
    }
    const connection = new Connection(socket, facts)
    this.#connections.set(socket, connection)
    socket.once('close', () => {
      this.#connections.delete(socket)
      this.#options.events.connectionClosed(connection)
    })
    this.#options.events.connectionOpened(connection)
    return connection
  }

  #onHandshakeFailed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    this.#options.events.handshake('refused', socket.getProtocol?.() ?? '')
    if (this.#turnedAway.has(carrierOf(socket))) return
    this.#refused(error.code ?? 'TLS_HANDSHAKE_FAILED', socket.remoteAddress ?? '', undefined, '')
    socket.destroy()
  }

  #refused(reason: string, remoteAddress: string, certificate: ClientCertificate | undefined, tls: string): void {
    this.#options.events.connectionRefused({ reason, remoteAddress, certificate, tls })
  }

  #onUnparseable(error: NodeJS.ErrnoException, socket: Socket): void {
    const { code } = error
    if (code === 'ECONNRESET' || code === 'EPIPE' || !socket.writable) return void socket.destroy()
    if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      const waitedMs = this.#options.deadlines.headersMs
      this.#answerRaw(socket, { reason: 'request_timeout', waitedMs }, '408 Request Timeout')
    } else if (code === 'HPE_HEADER_OVERFLOW') {
      this.#answerRaw(socket, { reason: 'request_headers_too_large' }, '431 Request Header Fields Too Large')
    } else {
      this.#answerRaw(socket, { reason: 'request_malformed', detail: code ?? error.message }, '400 Bad Request')
    }
  }

  /** Answers what never became a request, on the bare socket. */
  #answerRaw(socket: Socket, refusal: Refusal, status: string): void {
    const connection = this.#connections.get(socket)
    if (connection !== undefined) this.#options.events.malformed(connection, refusal)
    if (socket.writable) {
      socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n`)
    }
    // A peer that keeps sending must not keep the socket.
    setTimeout(() => socket.destroy(), 1000).unref()
  }

  #checkTimes(): void {
    const now = performance.now()
    const age = this.#options.connectionAge()
    for (const connection of this.#connections.values()) connection.checkTime(now, age, this.#options.deadlines.idleMs)
  }
}

/** The TCP socket below a TLS socket, which is what the gate knows. */
function carrierOf(socket: TLSSocket): Socket {
  return (socket as unknown as { _parent?: Socket })._parent ?? socket
}

/** DER of the issuers as OpenSSL verified the chain, leaf's issuer first. */
function issuersOf(leaf: X509Certificate): Buffer[] {
  const chain: Buffer[] = []
  let at = leaf.issuerCertificate
  while (at !== undefined && chain.length < 10) {
    chain.push(at.raw)
    if (at.issuerCertificate === undefined || at.issuerCertificate.fingerprint256 === at.fingerprint256) break
    at = at.issuerCertificate
  }
  return chain
}

function ignore(): void {}

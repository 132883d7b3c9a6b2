import http2 from 'node:http2'
import net, { type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { LimitsConfig, SocketAddress } from '../config/config.ts'
import type { ConnectionFacts } from '../core/audit/exchange.ts'
import { HEAD_LIMIT } from '../core/http1/answer-reader.ts'
import type { ClientCertificate } from '../core/identity/caller.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'
import type { Arrival } from '../journey/arrival.ts'
import type { ArrivalDeadlines } from './arrival-deadlines.ts'
import { type BodyRoom, roomForBodies } from './body-room.ts'
import { Connection, type ConnectionAge } from './connection.ts'
import { Door } from './door.ts'
import { Http1Connection, type Http1Options } from './http1-connection.ts'
import { Http2Arrival } from './http2-arrival.ts'
import { listenOn } from './listen.ts'
import { carrierOf, issuersOf } from './tls-peer.ts'
import { setServerContext } from './tls-repairs.ts'
import { AtTurnsEnd } from './turns.ts'

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
export interface ListenerDeadlines extends ArrivalDeadlines {
  readonly handshakeMs: number
  readonly headersMs: number
  readonly idleMs: number
}

export interface ListenerEvents {
  arrival(arrival: Arrival): void
  /**
   * What never became a request: bytes of HTTP/1.1 that are not understood, too large or too slow, and requests of HTTP/2
   * that were reset before anybody has looked at them.
   */
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
const TAKEN_BACK: Refusal = { reason: 'request_malformed', detail: 'the request was taken back at once' }
const GIVEN_UP: Refusal = { reason: 'request_malformed', detail: 'the request was taken back before its turn' }
/** @source nghttp2.h */
const NGHTTP2_ERR_CALLBACK_FAILURE = -902

/**
 * The mTLS listener. Every socket passes one gate between the end of its handshake and the first byte of HTTP: without
 * a client certificate that chains to the client CA it is destroyed there. Whether the peer is on the list is judged for
 * each request, since that list can change while the connection lives.
 *
 * Behind the gate HTTP/1.1 is read here (`Http1Connection`), and HTTP/2 by Node's own listener, on the server that
 * accepted the socket.
 */
export class Listener {
  readonly #options: ListenerOptions
  readonly #server: http2.Http2SecureServer
  readonly #connections = new Map<Socket, Connection>()
  readonly #door: Door
  readonly #http1: Http1Options
  /** The connection that Node's listener is just being given: its HTTP/2 session is announced on the same tick. */
  #entering: Connection | undefined
  #hasHadPeers = false
  readonly #bodyRoom: BodyRoom
  /** What has come and waits for its turn, of either protocol. */
  readonly #turns: { readonly isBusy: boolean }[] = []
  /** Everything is ended; a handshake that is over only now leads nowhere. */
  #isOver = false
  #sweep: NodeJS.Timeout | undefined

  constructor(options: ListenerOptions) {
    this.#options = options
    const { limits, deadlines } = options
    this.#bodyRoom = roomForBodies(limits.bodyBytes)
    this.#server = http2.createSecureServer({
      ...options.secureContext,
      // For what is offered in the handshake; a socket that chose HTTP/1.1 never gets to Node's own reading of it.
      allowHTTP1: true,
      ALPNProtocols: ['h2', 'http/1.1'],
      requestCert: true,
      // Refusing here would lose the reason (Node reports ECONNRESET); the gate refuses, and knows why.
      rejectUnauthorized: false,
      handshakeTimeout: deadlines.handshakeMs,
      maxHeaderListPairs: 200,
      // For whatever head the server may send, with what HTTP/2 and we put to it: Node ends the whole session over a larger one.
      maxSendHeaderBlockLength: 2 * HEAD_LIMIT,
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
    const beginTls = this.#server.listeners('connection')[0] as (socket: Socket) => void
    this.#door = new Door({
      handshakes: limits.handshakes,
      isFull: options.isFull,
      begin: socket => beginTls.call(this.#server, socket),
      refused: (reason, remoteAddress) => this.#refused(reason, remoteAddress, undefined, ''),
    })
    const turns = new AtTurnsEnd<Http1Connection>(connection => connection.read())
    this.#turns.push(turns)
    this.#http1 = {
      headBytes: limits.headerBytes,
      headersMs: deadlines.headersMs,
      idleMs: deadlines.idleMs,
      deadlines,
      bodyRoom: this.#bodyRoom,
      inTurn: connection => turns.add(connection),
      arrival: arrival => options.events.arrival(arrival),
      malformed: (connection, refusal) => options.events.malformed(connection, refusal),
    }
    this.#listenTo(this.#server)
  }

  /** @returns the port that is listened on. */
  async start(): Promise<number> {
    const port = await listenOn(this.#server, this.#options.address, 'listen.address')
    this.#server.on('error', () => {
      // EMFILE and the like: the listening socket stays, and accepting goes on when there is room again.
    })
    this.#sweep = setInterval(() => this.#checkTimes(), SWEEP_MS).unref()
    return port
  }

  get connections(): Iterable<Connection> {
    return this.#connections.values()
  }

  /** Whether anybody has ever got past the handshake. */
  get hasHadPeers(): boolean {
    return this.#hasHadPeers
  }

  get connectionCount(): number {
    return this.#connections.size
  }

  /** Requests have come that nobody has looked at yet; their connections may be gone. */
  get hasUnread(): boolean {
    return this.#turns.some(({ isBusy }) => isBusy)
  }

  /** Handshakes under way. */
  get handshakes(): number {
    return this.#door.handshakes
  }

  /** For new handshakes; connections that are open keep what they have. */
  setSecureContext(context: SecureContextOptions): void {
    setServerContext(this.#server, context)
  }

  /** Accepts no more connections. */
  stopAccepting(): void {
    // `close` of Node's HTTP/2 server would also close its sessions and idle connections at once; those are ours to drain.
    net.Server.prototype.close.call(this.#server)
    this.#door.close()
  }

  /** Ends everything that is left. */
  destroy(): void {
    this.#isOver = true
    clearInterval(this.#sweep)
    for (const connection of this.#connections.values()) connection.destroy()
    if (this.#server.listening) this.#server.close()
  }

  #listenTo(server: http2.Http2SecureServer): void {
    const serveHttp2 = server.listeners('secureConnection')[0] as (socket: TLSSocket) => void
    server.removeAllListeners('connection')
    server.removeAllListeners('secureConnection')
    server.removeAllListeners('tlsClientError')
    server.on('connection', socket => this.#door.arrive(socket))
    server.on('tlsClientError', (error, socket) => this.#onHandshakeFailed(error, socket))
    server.on('secureConnection', socket => {
      const connection = this.#judge(socket)
      if (connection === undefined) return
      if (!connection.isHttp2) return void new Http1Connection(socket, connection, this.#http1)
      this.#entering = connection
      serveHttp2.call(server, socket)
      this.#entering = undefined
    })
    server.on('drop', data => this.#refused('TOO_MANY_CONNECTIONS', data?.remoteAddress ?? '', undefined, ''))
    // Node tells of a request before it reads on. Looked at after everything that has come with it, a request that was
    // reset at once is known to be wanted by nobody, and costs next to nothing (CVE-2023-44487).
    const begun = new AtTurnsEnd<Http2Arrival>(
      arrival => {
        // Who has waited behind others, and gives up meanwhile, floods nobody.
        if (arrival.isTakenBack) return this.#options.events.malformed(arrival.connection, GIVEN_UP)
        arrival.begin()
        this.#options.events.arrival(arrival)
      },
      ({ isTakenBack, connection }) => {
        if (isTakenBack) this.#onTakenBack(connection)
        return !isTakenBack
      },
    )
    this.#turns.push(begun)
    server.on('session', session => {
      const connection = this.#entering
      if (connection === undefined) return session.destroy()
      session.removeAllListeners('stream')
      session.on('stream', (stream, _headers, _flags, head) => {
        begun.add(new Http2Arrival(stream, head, connection, this.#options.deadlines, this.#bodyRoom))
      })
      connection.attach(session)
      session.on('error', error => this.#onSessionError(connection, error))
      session.on('ping', () => connection.noteFrame())
      session.on('remoteSettings', () => connection.noteFrame())
    })
    server.on('sessionError', ignore)
    server.on('unknownProtocol', socket => socket.destroy())
  }

  #judge(socket: TLSSocket): Connection | undefined {
    socket.on('error', ignore)
    if (this.#isOver) return void socket.destroy()
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
      this.#door.failed(carrierOf(socket))
      this.#refused(reason ?? 'UNAUTHORIZED', remoteAddress, certificate, tls)
      socket.destroy()
      return undefined
    }
    this.#options.events.handshake('accepted', version)
    const carrier = carrierOf(socket)
    this.#door.entered(carrier)
    const facts: ConnectionFacts = {
      remoteAddress,
      certificate,
      tls,
      httpVersion: socket.alpnProtocol === 'h2' ? '2' : '1.1',
    }
    const connection = new Connection(socket, facts, () => this.#door.spoke(carrier))
    this.#connections.set(socket, connection)
    this.#hasHadPeers = true
    socket.once('close', () => {
      this.#connections.delete(socket)
      this.#options.events.connectionClosed(connection)
    })
    this.#options.events.connectionOpened(connection)
    return connection
  }

  /** A request whose client did not wait for anything; who does so without end is cut off, and has to wait outside. */
  #onTakenBack(connection: Connection): void {
    // Of a connection that was cut, its own line tells.
    if (connection.isCut) return
    this.#options.events.malformed(connection, TAKEN_BACK)
    if (connection.socket.destroyed || connection.noteTakenBack()) return
    this.#door.charge(connection.facts.remoteAddress)
  }

  /** What comes breaks the protocol, so that nothing more can be read: CONTINUATION without end, for one. */
  #onSessionError(connection: Connection, { code, errno }: NodeJS.ErrnoException): void {
    const isTooMany = code === 'ERR_HTTP2_TOO_MANY_INVALID_FRAMES'
    // A callback that has failed is Node's own, which has had too many streams to refuse: nobody broke the protocol.
    if (!isTooMany && (code !== 'ERR_HTTP2_ERROR' || errno === NGHTTP2_ERR_CALLBACK_FAILURE)) return
    // Single faulty requests that a gateway passes on add up on a connection that lives long.
    if (!isTooMany) this.#door.charge(connection.facts.remoteAddress)
    if (connection.retiredFor !== undefined) return
    connection.retiredFor = 'HTTP2_PROTOCOL_ERROR'
    // Node may say so after the connection is closed, too late for the line, which is written for those with a reason.
    if (!this.#connections.has(connection.socket)) this.#options.events.connectionClosed(connection)
  }

  #onHandshakeFailed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    this.#options.events.handshake('refused', socket.getProtocol?.() ?? '')
    if (this.#door.hasTurnedAway(carrierOf(socket))) return
    this.#refused(error.code ?? 'TLS_HANDSHAKE_FAILED', socket.remoteAddress ?? '', undefined, '')
    socket.destroy()
  }

  #refused(reason: string, remoteAddress: string, certificate: ClientCertificate | undefined, tls: string): void {
    this.#options.events.connectionRefused({ reason, remoteAddress, certificate, tls })
  }

  #checkTimes(): void {
    const now = performance.now()
    const age = this.#options.connectionAge()
    for (const connection of this.#connections.values()) connection.checkTime(now, age, this.#options.deadlines.idleMs)
  }
}

function ignore(): void {}

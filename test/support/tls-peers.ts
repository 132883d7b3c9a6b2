import type { AddressInfo } from 'node:net'
import { type ConnectionOptions, connect, createServer, type Server, type TLSSocket } from 'node:tls'
import { onTestFinished } from 'vitest'
import type { TlsConfig } from '../../src/config/config.ts'
import { readTrustBundle, type TrustBundle, type TrustFiles } from '../../src/core/trust/bundle.ts'
import { readClientCertificate } from '../../src/core/trust/certificate.ts'
import { judgeHandshake } from '../../src/core/trust/standing.ts'
import { secureContextOptions } from '../../src/core/trust/tls-options.ts'
import { keepPeerChains, setServerContext } from '../../src/edge/tls-repairs.ts'

/** A bundle of PEM texts, or an error that names what is wrong. */
export function bundleOf(
  texts: { cert: string; key?: string; clientCa: string; crl?: string },
  tls: TlsConfig,
  nowMs = Date.now(),
): TrustBundle {
  const bytes = (text: string | undefined) => (text === undefined ? undefined : Buffer.from(text))
  const files = {
    cert: bytes(texts.cert),
    key: bytes(texts.key),
    clientCa: bytes(texts.clientCa),
    crl: bytes(texts.crl),
  }
  const bundle = readTrustBundle(files as TrustFiles, tls, nowMs)
  if (!bundle.ok) throw new Error(bundle.error.map(({ code, message }) => `${code}: ${message}`).join('\n'))
  return bundle.value
}

export interface BareServer {
  readonly port: number
  readonly server: Server
  /** Takes another bundle into use for new handshakes, as the listener does. */
  use(bundle: TrustBundle): void
}

/**
 * A TLS server with the contexts of the listener and nothing behind them: it answers each client with `accepted` or the
 * reason why not, and ends the connection.
 */
export async function bareServer(bundle: TrustBundle, tls: TlsConfig): Promise<BareServer> {
  keepPeerChains()
  let current = bundle
  const server = createServer({ ...secureContextOptions(bundle, tls), requestCert: true, rejectUnauthorized: false })
  setServerContext(server, secureContextOptions(bundle, tls))
  server.on('secureConnection', socket => {
    socket.on('error', () => {})
    socket.end(verdict(socket, current))
  })
  server.on('tlsClientError', () => {})
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return {
    port: (server.address() as AddressInfo).port,
    server,
    use(next) {
      current = next
      setServerContext(server, secureContextOptions(next, tls))
    },
  }
}

export interface Visit {
  readonly answer: string
  readonly protocol: string | null
  readonly isReused: boolean
  readonly cipher: string
  /** Every session that the client could come back with. */
  readonly sessions: readonly Buffer[]
  /** Ticket of TLS 1.2. */
  readonly ticket: Buffer | undefined
}

/** Connects as a client and reports how that went; a handshake that fails is answered with the error's code. */
export function visit(port: number, options: ConnectionOptions): Promise<Visit> {
  return new Promise(resolve => {
    const sessions: Buffer[] = []
    let answer = ''
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ...options })
    let ticket: Buffer | undefined
    socket.on('session', session => sessions.push(session))
    socket.on('data', chunk => (answer += chunk.toString()))
    let cipher = ''
    let protocol: string | null = null
    let isReused = false
    socket.on('secureConnect', () => {
      cipher = socket.getCipher().name
      protocol = socket.getProtocol()
      isReused = socket.isSessionReused()
      ticket = socket.getTLSTicket()
      const session = socket.getSession()
      if (session !== undefined) sessions.push(session)
    })
    socket.on('error', error => (answer ||= (error as NodeJS.ErrnoException).code ?? error.message))
    socket.on('close', () => resolve({ answer, protocol, isReused, cipher, sessions, ticket }))
  })
}

function verdict(socket: TLSSocket, bundle: TrustBundle): string {
  const leaf = socket.getPeerX509Certificate()
  if (leaf === undefined) return 'no certificate'
  if (!socket.authorized) return String(socket.authorizationError)
  const chain: Buffer[] = []
  for (let at = leaf.issuerCertificate; at !== undefined && chain.length < 9; at = at.issuerCertificate)
    chain.push(at.raw)
  const certificate = readClientCertificate(leaf.raw, chain)
  if (!certificate.ok) return certificate.error.detail
  return judgeHandshake(certificate.value, bundle, Date.now()) ?? 'accepted'
}

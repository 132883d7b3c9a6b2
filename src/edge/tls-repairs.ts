import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { createSecureContext, type SecureContextOptions, type Server, TLSSocket } from 'node:tls'

/**
 * Gives a server another context for new handshakes.
 *
 * `setSecureContext` of Node 24 takes a fixed list of options and leaves `allowPartialTrustChain` out, so that a client
 * CA which is not a root would let nobody in. What Node does with that option in `createSecureContext` is done here.
 */
export function setServerContext(server: Pick<Server, 'setSecureContext'>, options: SecureContextOptions): void {
  server.setSecureContext(options)
  if (options.allowPartialTrustChain !== true) return
  const { _sharedCreds } = server as unknown as { _sharedCreds?: { context?: { setAllowPartialTrustChain?(): void } } }
  _sharedCreds?.context?.setAllowPartialTrustChain?.()
}

/**
 * Ends a TLS handshake that is under way, given the TCP socket below it, which is all that the server tells of it.
 *
 * To destroy that socket under its TLS socket ends the process: Node 24.21 frees what OpenSSL then still writes to
 * (segmentation fault). A TLS socket waits for `close` of what it lies on, and takes everything down in the right order.
 */
export function endHandshake(carrier: Socket): void {
  carrier.emit('close', false)
}

/**
 * Leaves with the kernel what a socket has not read yet, until TLS is begun on it, which reads by itself.
 *
 * An accepted socket is read at once. What it had read before its TLS began would be taken out of it by TLS; and were the
 * end of the stream among it, the socket would then destroy itself below TLS, which `endHandshake` says the end of.
 */
export function holdBack(socket: Socket): void {
  const { _handle } = socket as unknown as { _handle?: { reading: boolean; readStop(): number } | null }
  if (_handle == null) return
  _handle.reading = false
  _handle.readStop()
}

/** What `_handle` of a TLS socket is; the same for servers and clients. */
interface PeerHandle {
  getPeerCertificate?: (this: PeerHandle, detailed: boolean) => SentCertificate | undefined
  getPeerX509Certificate?: (this: PeerHandle) => unknown
}

interface SentCertificate {
  readonly raw?: Buffer
  readonly issuerCertificate?: SentCertificate
}

let isInstalled = false

/**
 * Makes `getPeerX509Certificate()` of TLS sockets give the certificate with its `issuerCertificate`s, of those that the peer
 * has sent and those that we hold, whenever it is asked, and without losing memory.
 *
 * Node's own empties OpenSSL's list of them and never frees what it has taken: 4.5 KB for each connection with a client
 * certificate (measured: 24.21.0), and since 24.21 and 26.8 Node itself asks once for each (nodejs/node#65579), so that
 * whoever asks later gets the leaf alone. `getPeerCertificate` has neither fault, and is what is asked here, once.
 *
 * To be called before the first connection; calling it again does nothing.
 */
export function keepPeerChains(): void {
  if (isInstalled) return
  isInstalled = true
  const prototype = handlePrototype()
  if (prototype?.getPeerCertificate === undefined || prototype.getPeerX509Certificate === undefined) return
  const answers = new WeakMap<PeerHandle, X509Certificate>()
  const answerOf = (handle: PeerHandle): X509Certificate | undefined => {
    const before = answers.get(handle)
    if (before !== undefined) return before
    const chain = chainOf(handle.getPeerCertificate?.(true))
    // Before the handshake there is nothing to keep.
    if (chain === undefined) return undefined
    answers.set(handle, chain)
    return chain
  }
  // Node wants to know here whether there is one.
  prototype.getPeerX509Certificate = function (this: PeerHandle) {
    return answerOf(this)
  }
  TLSSocket.prototype.getPeerX509Certificate = function (this: TLSSocket & { _handle?: PeerHandle | null }) {
    return this._handle == null ? undefined : answerOf(this._handle)
  }
}

const LONGEST_CHAIN = 10

/** The certificates as Node's class, each with the next one as its issuer. */
function chainOf(sent: SentCertificate | undefined): X509Certificate | undefined {
  const raws: Buffer[] = []
  for (let at = sent; at?.raw !== undefined && raws.length < LONGEST_CHAIN; at = at.issuerCertificate) {
    // A root names itself as its issuer.
    if (raws.at(-1)?.equals(at.raw) === true) break
    raws.push(at.raw)
  }
  let issuer: X509Certificate | undefined
  for (const raw of raws.reverse()) {
    const certificate: X509Certificate = new X509Certificate(raw)
    Object.defineProperty(certificate, 'issuerCertificate', { value: issuer })
    issuer = certificate
  }
  return issuer
}

/** What the handles of all TLS sockets have in common; a socket that leads nowhere shows it. */
function handlePrototype(): PeerHandle | undefined {
  const nowhere = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  // An empty list of CAs, or Node would load the public ones for nothing.
  const socket = new TLSSocket(nowhere, { isServer: true, secureContext: createSecureContext({ ca: [] }) })
  socket.on('error', () => {})
  const handle = (socket as unknown as { _handle?: PeerHandle })._handle
  socket.destroy()
  return handle == null ? undefined : Object.getPrototypeOf(handle)
}

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

interface PeerHandle {
  getPeerX509Certificate?: (this: PeerHandle) => unknown
}

let isInstalled = false

/**
 * Makes `getPeerX509Certificate().issuerCertificate` of server sockets hold the certificates that the client has sent.
 *
 * Reading them empties OpenSSL's list, and since 24.21 and 26.8 Node itself reads it once before it hands the socket on
 * (nodejs/node#65579): whoever asks later gets the leaf alone. Here the first answer is kept, for Node and everybody
 * else. To be called before the first connection; calling it again does nothing, and where Node is sound it is harmless.
 */
export function keepPeerChains(): void {
  if (isInstalled) return
  isInstalled = true
  const prototype = handlePrototype()
  const read = prototype?.getPeerX509Certificate
  if (prototype === undefined || read === undefined) return
  const answers = new WeakMap<PeerHandle, unknown>()
  prototype.getPeerX509Certificate = function (this: PeerHandle) {
    let answer = answers.get(this)
    if (answer === undefined) {
      answer = read.call(this)
      // Before the handshake there is nothing to keep.
      if (answer !== undefined) answers.set(this, answer)
    }
    return answer
  }
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

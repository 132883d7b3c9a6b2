import type { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'

/** The TCP socket below a TLS socket, which is what the gate knows. */
export function carrierOf(socket: TLSSocket): Socket {
  return (socket as unknown as { _parent?: Socket })._parent ?? socket
}

/** DER of the issuers as OpenSSL verified the chain, leaf's issuer first. */
export function issuersOf(leaf: X509Certificate): Buffer[] {
  const chain: Buffer[] = []
  let at = leaf.issuerCertificate
  while (at !== undefined && chain.length < 10) {
    chain.push(at.raw)
    if (at.issuerCertificate === undefined || at.issuerCertificate.fingerprint256 === at.fingerprint256) break
    at = at.issuerCertificate
  }
  return chain
}

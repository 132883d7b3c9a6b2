import { createHash, type KeyObject, X509Certificate } from 'node:crypto'
import type { ClientCertificate } from '../identity/caller.ts'
import { type CertificateFacts, readCertificate } from './certificate.ts'

/** Longest chain that is followed, in certificates. */
export const MAX_PATH = 10

/**
 * A client's certificate and the issuers that came with it, in order, as far as each has really signed the one before;
 * undefined when the certificate cannot be read. Found out once for each certificate.
 *
 * What the TLS layer hands over is what the peer has sent: with a forged namesake of its issuer, a peer could otherwise
 * lead away from the list that revokes it.
 */
export function pathOf(certificate: ClientCertificate): readonly CertificateFacts[] | undefined {
  const known = paths.get(certificate)
  if (known !== undefined) return known
  const leaf = readCertificate(certificate.der)
  if (!leaf.ok) return undefined
  const path = [leaf.value]
  // In whatever order they were sent; OpenSSL puts up with any.
  const sent = certificate.chain.slice(0, MAX_PATH).map(readIssuer)
  for (let last = leaf.value; path.length <= MAX_PATH && last.subject.key !== last.issuer.key; ) {
    const issuer = sent.find(one => one?.isCa && one.subject.key === last.issuer.key && hasSigned(one, last))
    if (issuer === undefined) break
    path.push(issuer)
    last = issuer
  }
  paths.set(certificate, path)
  return path
}

/**
 * Whether the holder of the issuer's key has signed the other certificate. Certificates do not change, so each pair is
 * verified once as long as both are in use.
 *
 * @param publicKey  The issuer's key where the caller has it at hand.
 */
export function hasSigned(issuer: CertificateFacts, issued: CertificateFacts, publicKey?: KeyObject): boolean {
  let known = verified.get(issued)
  if (known === undefined) {
    known = new Map()
    verified.set(issued, known)
  }
  let answer = known.get(issuer.authorityKey)
  if (answer === undefined) {
    answer = new X509Certificate(issued.der).verify(publicKey ?? new X509Certificate(issuer.der).publicKey)
    if (known.size < MAX_KEPT) known.set(issuer.authorityKey, answer)
  }
  return answer
}

/** Intermediates are few and come with every connection: each is read once, and shared, so that it is verified once. */
function readIssuer(der: Buffer): CertificateFacts | undefined {
  const digest = createHash('sha256').update(der).digest('base64')
  const known = issuers.get(digest)
  if (known !== undefined) return known
  const read = readCertificate(der)
  if (!read.ok) return undefined
  // A peer that brings ever new ones must not fill the memory; forgetting all costs reading the few again.
  if (issuers.size >= MAX_KEPT) issuers.clear()
  issuers.set(digest, read.value)
  return read.value
}

const MAX_KEPT = 64
const issuers = new Map<string, CertificateFacts>()
const paths = new WeakMap<ClientCertificate, readonly CertificateFacts[]>()
const verified = new WeakMap<CertificateFacts, Map<string, boolean>>()

import { X509Certificate } from 'node:crypto'
import type { ClientCertificate } from '../identity/caller.ts'
import type { Authority } from './authorities.ts'
import type { TrustBundle } from './bundle.ts'
import type { CertificateFacts } from './certificate.ts'
import { hasSigned, MAX_PATH, pathOf } from './peer-path.ts'
import type { BelievedList } from './revocation.ts'
import { isSignedBy } from './revocation-list.ts'

/** Why a certificate that was once accepted is so no longer; OpenSSL's words where it has one. */
export type StandingFault =
  | 'CERT_NOT_YET_VALID'
  | 'CERT_HAS_EXPIRED'
  | 'CERT_REVOKED'
  | 'CRL_HAS_EXPIRED'
  | 'CA_REMOVED'
  | 'CERT_CHAIN_UNREADABLE'

/**
 * Judges the certificate of a connection that is open by the bundle of now: whether it and its issuers are still valid,
 * still lead to a CA of the bundle, and are on no revocation list.
 *
 * Signatures are verified once for each certificate; after that this compares keys and names and costs microseconds, so
 * it can be asked for every connection at each reload.
 *
 * An expired revocation list does not end connections: it says nothing new about them.
 *
 * @param nowMs  Wall clock, ms since the epoch.
 */
export function judgeCertificate(
  certificate: ClientCertificate,
  bundle: TrustBundle,
  nowMs: number,
): StandingFault | undefined {
  return judge(certificate, bundle, nowMs, false)
}

/**
 * Judges the certificate of a connection whose handshake has just ended, by the bundle of now. TLS may have verified it
 * by the bundle before; and with `crlCoverage: partial` this is the only check of revocation lists, so here an expired
 * list of one of its issuers refuses it.
 */
export function judgeHandshake(
  certificate: ClientCertificate,
  bundle: TrustBundle,
  nowMs: number,
): StandingFault | undefined {
  return judge(certificate, bundle, nowMs, true)
}

/**
 * When the certificate ends by itself: the earliest end of it and its issuers, ms since the epoch. Beyond the longest
 * timer (24.8 days) more often than not.
 */
export function standsUntilMs(certificate: ClientCertificate): number {
  const path = pathOf(certificate)
  return path === undefined ? certificate.notAfterMs : Math.min(...path.map(({ notAfterMs }) => notAfterMs))
}

/**
 * The issuers of a certificate up to the root or the end of trust, as DER, leaf's issuer first: the chain by which the
 * bundle vouches for it, without whatever else the peer has sent. Undefined when there is none.
 */
export function verifiedIssuers(certificate: ClientCertificate, bundle: TrustBundle): Buffer[] | undefined {
  const presented = pathOf(certificate)
  const path = presented === undefined ? undefined : upToAuthority(presented, bundle)
  return path?.slice(1).map(({ der }) => der)
}

function judge(
  certificate: ClientCertificate,
  bundle: TrustBundle,
  nowMs: number,
  listsMustBeFresh: boolean,
): StandingFault | undefined {
  const presented = pathOf(certificate)
  if (presented === undefined) return 'CERT_CHAIN_UNREADABLE'
  const path = upToAuthority(presented, bundle)
  if (path === undefined) return 'CA_REMOVED'
  for (const { notBeforeMs, notAfterMs } of path) {
    if (notAfterMs < nowMs) return 'CERT_HAS_EXPIRED'
    if (notBeforeMs > nowMs) return 'CERT_NOT_YET_VALID'
  }
  for (let index = 0; index + 1 < path.length; index++) {
    const [subject, issuer] = [path[index], path[index + 1]]
    const list = subject && issuer && listOf(issuer, bundle.lists)
    if (list === undefined) continue
    if (list.revoked.has(subject?.serial ?? '')) return 'CERT_REVOKED'
    if (listsMustBeFresh && list.nextUpdateMs < nowMs) return 'CRL_HAS_EXPIRED'
  }
  return undefined
}

/**
 * The certificate, its issuers up to the first authority of the bundle, and the authorities above that one. An authority
 * is known by its name and key, so a CA that was renewed with the same key goes on vouching; the bundle's own copy of
 * it is what counts.
 */
function upToAuthority(path: readonly CertificateFacts[], bundle: TrustBundle): CertificateFacts[] | undefined {
  const at = path.findIndex(({ authorityKey }, index) => index > 0 && bundle.authorityKeys.has(authorityKey))
  const anchor = at < 0 ? signerOf(path.at(-1), bundle) : currentOf(path[at]?.authorityKey, bundle)
  if (anchor === undefined) return undefined
  const whole = [...(at < 0 ? path : path.slice(0, at)), anchor.facts]
  for (let above = currentOf(anchor.issuedBy, bundle); above !== undefined; above = currentOf(above.issuedBy, bundle)) {
    whole.push(above.facts)
    if (whole.length > MAX_PATH) return undefined
  }
  return whole
}

/** The root need not be among what the TLS layer hands over; the signature on the last certificate tells which it is. */
function signerOf(last: CertificateFacts | undefined, bundle: TrustBundle): Authority | undefined {
  const candidates = bundle.authorities.filter(({ facts }) => facts.subject.key === last?.issuer.key)
  if (last === undefined || candidates.length === 0) return undefined
  const signer = candidates.find(({ facts, x509 }) => hasSigned(facts, last, x509.publicKey))
  return currentOf(signer?.facts.authorityKey, bundle)
}

/** The authority with this name and key that is valid longest: bundles hold old and new side by side. */
function currentOf(authorityKey: string | undefined, bundle: TrustBundle): Authority | undefined {
  let current: Authority | undefined
  for (const authority of bundle.authorities) {
    if (authority.facts.authorityKey !== authorityKey) continue
    if (current === undefined || authority.facts.notAfterMs > current.facts.notAfterMs) current = authority
  }
  return current
}

function listOf(issuer: CertificateFacts, lists: readonly BelievedList[]): BelievedList | undefined {
  return lists.find(list => {
    if (list.signedBy !== undefined) return list.signedBy === issuer.authorityKey
    return list.issuer.key === issuer.subject.key && isSignedByIssuer(list, issuer)
  })
}

/** Intermediates bring their key along; whether they have signed a list is found out once for each pair. */
function isSignedByIssuer(list: BelievedList, issuer: CertificateFacts): boolean {
  let known = signedBy.get(list)
  if (known === undefined) signedBy.set(list, (known = new Map()))
  let isSigned = known.get(issuer.authorityKey)
  if (isSigned === undefined) {
    isSigned = isSignedBy(list, new X509Certificate(issuer.der).publicKey)
    // Few intermediates sign; a peer that brings ever new ones of the same name must not fill the memory.
    if (known.size < 64) known.set(issuer.authorityKey, isSigned)
  }
  return isSigned
}

const signedBy = new WeakMap<BelievedList, Map<string, boolean>>()

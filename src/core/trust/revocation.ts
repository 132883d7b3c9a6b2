import type { TlsConfig } from '../../config/config.ts'
import { type Authority, type Findings, isBlank, label } from './authorities.ts'
import { readPem } from './pem.ts'
import type { TrustAdvice, TrustFault } from './problem.ts'
import { isSignedBy, type RevocationList, readRevocationList } from './revocation-list.ts'

/** A revocation list that is in use. */
export interface BelievedList extends RevocationList {
  readonly pem: string
  /**
   * `authorityKey` of the CA in the bundle that has signed it; undefined for a list of an intermediate that is not in
   * the bundle, whose signature is checked when a peer brings that intermediate along.
   */
  readonly signedBy: string | undefined
}

/**
 * Reads the revocation lists: one or several PEM blocks, each matched to the CA that signed it, the newest of each CA.
 *
 * OpenSSL, once it has any list, refuses every peer of a CA that has none. So with `crlCoverage: full` a CA without a
 * list is a problem here, rather than an outage; with `partial` OpenSSL is given no lists and `standing.ts` checks them.
 */
export function readRevocation(
  file: Buffer | undefined,
  options: Pick<TlsConfig, 'crl' | 'crlCoverage'>,
  authorities: readonly Authority[],
  nowMs: number,
  { problems, warnings }: Findings,
): BelievedList[] {
  if (file === undefined) return []
  const setting = 'tls.crl' as const
  const path = options.crl ?? ''
  const problem = (code: TrustFault, message: string, sinceMs?: number) =>
    problems.push({ setting, path, code, message, ...(sinceMs === undefined ? {} : { sinceMs }) })
  const warning = (code: TrustAdvice, message: string, sinceMs?: number) =>
    warnings.push({ setting, path, code, message, ...(sinceMs === undefined ? {} : { sinceMs }) })

  if (isBlank(file)) {
    problem('file_empty', 'is empty')
    return []
  }
  const blocks = readPem(file)
  if (!blocks.ok) {
    problem(blocks.error.code, blocks.error.message)
    return []
  }
  const listBlocks = blocks.value.filter(block => block.label === 'X509 CRL')
  if (listBlocks.length === 0) problem('crl_malformed', 'holds no revocation list')

  const newest = new Map<string, BelievedList>()
  for (const [index, block] of listBlocks.entries()) {
    const read = readRevocationList(block.der)
    if (!read.ok) {
      problem(read.error.code, `revocation list ${index + 1} ${read.error.message}`)
      continue
    }
    const list = read.value
    const namesakes = authorities.filter(({ facts }) => facts.subject.key === list.issuer.key)
    const signer = namesakes.find(({ x509 }) => isSignedBy(list, x509.publicKey))
    if (namesakes.length > 0 && signer === undefined) {
      problem('crl_signature', `the list of ${list.issuer.text} was not signed by the key of that CA in tls.clientCa`)
      continue
    }
    if (signer === undefined) {
      warning('crl_stranger', `the list of ${list.issuer.text} belongs to no CA of tls.clientCa`)
    }
    const key = signer?.facts.authorityKey ?? `name:${list.issuer.key}`
    const other = newest.get(key)
    if (other !== undefined) warning('crl_superseded', `holds several lists of ${list.issuer.text}; the newest counts`)
    // An expired list must never win over a current one because it comes first (RUSTSEC-2026-0049).
    if (other !== undefined && other.thisUpdateMs >= list.thisUpdateMs) continue
    newest.set(key, { ...list, pem: block.text, signedBy: signer?.facts.authorityKey })
  }

  const lists = [...newest.values()]
  for (const { issuer, thisUpdateMs, nextUpdateMs, signedBy } of lists) {
    if (nextUpdateMs < nowMs) {
      // A list of nobody we know cannot hold everything up.
      if (signedBy === undefined) warning('crl_expires_soon', `the list of ${issuer.text} has expired`, nextUpdateMs)
      else problem('crl_expired', `the list of ${issuer.text} has expired`, nextUpdateMs)
    } else if (thisUpdateMs > nowMs) {
      problem('crl_not_yet_valid', `the list of ${issuer.text} is not valid yet`, thisUpdateMs)
    } else if (nowMs > thisUpdateMs + (nextUpdateMs - thisUpdateMs) * 0.9) {
      warning('crl_expires_soon', `the list of ${issuer.text} is about to expire`, nextUpdateMs)
    }
  }
  if (options.crlCoverage === 'full') {
    for (const { facts, isRoot, issuedBy } of authorities) {
      if (facts.notAfterMs < nowMs) continue
      if (!newest.has(facts.authorityKey) && !lists.some(list => list.issuer.key === facts.subject.key)) {
        problem(
          'crl_missing',
          `holds no list of ${label(facts)}; every peer of it would be refused (or crlCoverage: partial)`,
        )
      }
      if (!isRoot && issuedBy === undefined) {
        problem(
          'crl_missing',
          `cannot cover ${label(facts)}, whose issuer is not in tls.clientCa (use crlCoverage: partial)`,
        )
      }
    }
  }
  return lists.filter(({ nextUpdateMs }) => nextUpdateMs >= nowMs)
}

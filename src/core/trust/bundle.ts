import { createHash } from 'node:crypto'
import type { TlsConfig } from '../../config/config.ts'
import { err, ok, type Result } from '../result.ts'
import { type Authority, readAuthorities } from './authorities.ts'
import type { CertificateFacts } from './certificate.ts'
import { readOwnCertificate } from './own-certificate.ts'
import type { TrustProblem, TrustWarning } from './problem.ts'
import { type BelievedList, readRevocation } from './revocation.ts'

/** The files as they were read, all of one generation. `key` is undefined when the certificate's file holds it. */
export interface TrustFiles {
  readonly cert: Buffer
  readonly key: Buffer | undefined
  readonly clientCa: Buffer
  readonly crl: Buffer | undefined
}

/**
 * Who we are and whom we believe, as one value: certificate chain, key, client CAs and revocation lists. Everything in
 * it has been validated together; it is published whole and never changed.
 */
export interface TrustBundle {
  /** Ready for Node's `tls`, written anew from what was validated. `ca` is never empty. */
  readonly pem: {
    readonly cert: string
    readonly key: string
    readonly ca: readonly string[]
    /** One text for each list: Node reads only the first list of a text. */
    readonly crl: readonly string[]
  }
  readonly leaf: CertificateFacts
  /** Certificates that are sent behind the leaf. */
  readonly intermediates: readonly CertificateFacts[]
  /** When the first certificate of what we send ends, ms since the epoch. */
  readonly notAfterMs: number
  readonly authorities: readonly Authority[]
  /** `authorityKey` of each CA. */
  readonly authorityKeys: ReadonlySet<string>
  /**
   * Some CA is neither a root nor issued by another one of the bundle. It is an end of trust all the same, as whatever
   * an operator lists as client CA is (RFC 5280 §6.1.1 (d)); OpenSSL has to be told.
   */
  readonly partialChain: boolean
  readonly crlCoverage: 'full' | 'partial'
  readonly lists: readonly BelievedList[]
  /** SHA-256 of all of it: two bundles with equal digests are the same. */
  readonly digest: string
  readonly warnings: readonly TrustWarning[]
}

/**
 * Reads and validates a whole set of files. Nothing of it is used unless all of it is right.
 *
 * @param options  Paths for the messages; `crlCoverage`.
 * @param nowMs    Wall clock, ms since the epoch.
 * @returns        the bundle, or every problem, in the order certificate, key, CA, revocation lists.
 */
export function readTrustBundle(
  files: TrustFiles,
  options: TlsConfig,
  nowMs: number,
): Result<TrustBundle, TrustProblem[]> {
  const problems: TrustProblem[] = []
  const warnings: TrustWarning[] = []
  const findings = { problems, warnings }
  const authorities = readAuthorities(files.clientCa, options.clientCa, nowMs, findings)
  const ours = readOwnCertificate(files, options, authorities, nowMs, findings)
  const lists = readRevocation(files.crl, options, authorities, nowMs, findings)
  if (ours === undefined || problems.length > 0) return err(inOrder(problems))

  const sent = [ours.leaf, ...ours.intermediates]
  const pem = {
    cert: ours.certPem,
    key: ours.keyPem,
    ca: authorities.map(({ pem }) => pem),
    crl: lists.map(({ pem }) => pem),
  }
  return ok({
    pem,
    leaf: ours.leaf,
    intermediates: ours.intermediates,
    notAfterMs: Math.min(...sent.map(({ notAfterMs }) => notAfterMs)),
    authorities,
    authorityKeys: new Set(authorities.map(({ facts }) => facts.authorityKey)),
    partialChain: authorities.some(({ isRoot, issuedBy }) => !isRoot && issuedBy === undefined),
    crlCoverage: options.crlCoverage,
    lists,
    digest: createHash('sha256').update(JSON.stringify(pem)).digest('hex'),
    warnings: inOrder(warnings),
  })
}

const ORDER = { 'tls.cert': 0, 'tls.key': 1, 'tls.clientCa': 2, 'tls.crl': 3 } as const

function inOrder<F extends TrustProblem | TrustWarning>(findings: F[]): F[] {
  return findings.toSorted((a, b) => ORDER[a.setting] - ORDER[b.setting])
}

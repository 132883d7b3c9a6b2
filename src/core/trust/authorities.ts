import { X509Certificate } from 'node:crypto'
import { type CertificateFacts, readCertificate } from './certificate.ts'
import { type PemBlock, readPem } from './pem.ts'
import type { TrustAdvice, TrustFault, TrustProblem, TrustWarning } from './problem.ts'

/** A CA whose clients we accept. */
export interface Authority {
  readonly facts: CertificateFacts
  readonly x509: X509Certificate
  readonly pem: string
  /** It vouches for itself. */
  readonly isRoot: boolean
  /** `authorityKey` of the CA in the same bundle that has issued it; undefined for roots too. */
  readonly issuedBy: string | undefined
}

/** Where readers put what they find. */
export interface Findings {
  readonly problems: TrustProblem[]
  readonly warnings: TrustWarning[]
}

/**
 * Reads the bundle of client CAs. Every certificate must be a CA; expired ones are tolerated with a warning as long as
 * one is left, because bundles keep old roots for a while.
 */
export function readAuthorities(
  file: Buffer,
  path: string,
  nowMs: number,
  { problems, warnings }: Findings,
): Authority[] {
  const setting = 'tls.clientCa' as const
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
  if (blocks.value.some(isPrivateKey)) warning('key_in_ca', 'holds a private key, which has no business there')
  const certificates = blocks.value.filter(isCertificate)
  if (certificates.length === 0) problem('ca_missing', 'holds no certificate')

  const authorities = new Map<string, Omit<Authority, 'issuedBy'>>()
  for (const [index, block] of certificates.entries()) {
    const parsed = parseCertificate(block)
    if (typeof parsed === 'string') {
      problem('certificate_malformed', `certificate ${index + 1}: ${parsed}`)
      continue
    }
    const { facts, x509 } = parsed
    // RFC 5280 §4.2.1.3: bit 5 is keyCertSign. Without it OpenSSL accepts nothing that the key has signed.
    const maySign = facts.keyUsage === undefined || facts.keyUsage.has(5)
    if (!facts.isCa || !maySign) {
      problem('ca_not_authority', `${label(facts)} is not a CA certificate (CA:TRUE and certificate signing)`)
      continue
    }
    if (facts.notAfterMs < nowMs) warning('ca_expired', `${label(facts)} has expired`, facts.notAfterMs)
    const isRoot = x509.checkIssued(x509) && x509.verify(x509.publicKey)
    authorities.set(facts.fingerprint256, { facts, x509, pem: block.text, isRoot })
  }
  const all = [...authorities.values()]
  const isUsable = all.some(({ facts }) => facts.notAfterMs >= nowMs)
  if (all.length > 0 && !isUsable) {
    problem('ca_expired', 'holds expired CAs only', Math.max(...all.map(({ facts }) => facts.notAfterMs)))
  }
  return all.map(authority => {
    const issuer = authority.isRoot ? undefined : all.find(other => hasIssued(other, authority))
    return { ...authority, issuedBy: issuer?.facts.authorityKey }
  })
}

function hasIssued(issuer: Pick<Authority, 'facts' | 'x509'>, issued: Pick<Authority, 'facts' | 'x509'>): boolean {
  return issuer.facts.subject.key === issued.facts.issuer.key && issued.x509.verify(issuer.x509.publicKey)
}

/** A certificate as we and as OpenSSL read it, or what is wrong with it. */
export function parseCertificate(block: PemBlock): { facts: CertificateFacts; x509: X509Certificate } | string {
  const facts = readCertificate(block.der)
  if (!facts.ok) return facts.error
  try {
    return { facts: facts.value, x509: new X509Certificate(block.der) }
  } catch {
    return 'OpenSSL cannot read the certificate'
  }
}

/** How a certificate is called in messages. */
export function label(facts: CertificateFacts): string {
  return `${facts.subject.text === '' ? 'certificate' : facts.subject.text} (serial ${facts.serial})`
}

export function isCertificate({ label }: PemBlock): boolean {
  return label === 'CERTIFICATE' || label === 'X509 CERTIFICATE'
}

export function isPrivateKey({ label }: PemBlock): boolean {
  return label.endsWith('PRIVATE KEY')
}

export function isBlank(file: Buffer): boolean {
  return file.every(byte => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09)
}

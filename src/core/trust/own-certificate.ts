import { createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto'
import type { TlsConfig } from '../../config/config.ts'
import {
  type Authority,
  type Findings,
  isBlank,
  isCertificate,
  isPrivateKey,
  label,
  parseCertificate,
} from './authorities.ts'
import type { CertificateFacts } from './certificate.ts'
import { type PemBlock, readPem } from './pem.ts'
import type { TrustAdvice, TrustFault, TrustSetting } from './problem.ts'

/** Our own certificate with its key. */
export interface OwnCertificate {
  readonly leaf: CertificateFacts
  readonly intermediates: readonly CertificateFacts[]
  readonly certPem: string
  readonly keyPem: string
}

interface Files {
  readonly cert: Buffer
  readonly key: Buffer | undefined
}

interface Link {
  readonly facts: CertificateFacts
  readonly x509: X509Certificate
  readonly pem: string
}

/** Reads the certificate chain and the key that we serve with, and checks that they can be served with now. */
export function readOwnCertificate(
  files: Files,
  options: TlsConfig,
  authorities: readonly Authority[],
  nowMs: number,
  { problems, warnings }: Findings,
): OwnCertificate | undefined {
  const at = (setting: TrustSetting) => ({
    setting,
    path: setting === 'tls.key' && options.key !== undefined ? options.key : options.cert,
  })
  const problem: Report<TrustFault> = (setting, code, message, sinceMs) =>
    problems.push({ ...at(setting), code, message, ...(sinceMs === undefined ? {} : { sinceMs }) })
  const warning: Report<TrustAdvice> = (setting, code, message, sinceMs) =>
    warnings.push({ ...at(setting), code, message, ...(sinceMs === undefined ? {} : { sinceMs }) })

  const certBlocks = readBlocks(files.cert, 'tls.cert', problem)
  const keyBlocks = files.key === undefined ? certBlocks : readBlocks(files.key, 'tls.key', problem)
  const chain = certBlocks === undefined ? [] : readChain(certBlocks, problem)
  const key = keyBlocks === undefined ? undefined : readKey(keyBlocks, problem)
  const [leaf, ...intermediates] = chain
  if (leaf === undefined) return undefined

  checkTimes(chain, nowMs, problem)
  checkPurpose(leaf, authorities, problem)
  checkChain(chain, problem)
  if (key !== undefined && !leaf.x509.checkPrivateKey(key.object)) {
    problem('tls.key', 'key_mismatch', `is not the key of ${label(leaf.facts)} in tls.cert`)
  }
  advise(leaf, chain, authorities, nowMs, warning)
  if (key === undefined) return undefined
  return {
    leaf: leaf.facts,
    intermediates: intermediates.map(({ facts }) => facts),
    certPem: chain.map(({ pem }) => pem).join(''),
    keyPem: key.pem,
  }
}

type Report<Code> = (setting: TrustSetting, code: Code, message: string, sinceMs?: number) => void

function readBlocks(file: Buffer, setting: TrustSetting, problem: Report<TrustFault>): PemBlock[] | undefined {
  if (isBlank(file)) {
    problem(setting, 'file_empty', 'is empty')
    return undefined
  }
  const blocks = readPem(file)
  if (blocks.ok) return blocks.value
  problem(setting, blocks.error.code, blocks.error.message)
  return undefined
}

function readChain(blocks: readonly PemBlock[], problem: Report<TrustFault>): Link[] {
  const certificates = blocks.filter(isCertificate)
  if (certificates.length === 0) problem('tls.cert', 'certificate_missing', 'holds no certificate')
  const chain: Link[] = []
  for (const [index, block] of certificates.entries()) {
    const parsed = parseCertificate(block)
    if (typeof parsed === 'string') {
      problem('tls.cert', 'certificate_malformed', `certificate ${index + 1}: ${parsed}`)
      // Without one link nothing can be said about the chain.
      return []
    }
    chain.push({ ...parsed, pem: block.text })
  }
  return chain
}

function readKey(
  blocks: readonly PemBlock[],
  problem: Report<TrustFault>,
): { object: KeyObject; pem: string } | undefined {
  const [block, ...more] = blocks.filter(isPrivateKey)
  if (block === undefined) {
    problem('tls.key', 'key_missing', 'holds no private key')
    return undefined
  }
  if (more.length > 0) {
    problem('tls.key', 'key_ambiguous', 'holds several private keys')
    return undefined
  }
  if (block.label.startsWith('ENCRYPTED') || block.text.includes('ENCRYPTED')) {
    problem('tls.key', 'key_encrypted', 'is encrypted; a key without a passphrase is needed')
    return undefined
  }
  try {
    const object = createPrivateKey(block.text)
    const unsuitable = unsuitability(object)
    if (unsuitable !== undefined) problem('tls.key', 'key_unsuitable', unsuitable)
    return { object, pem: block.text }
  } catch {
    problem('tls.key', 'key_malformed', 'holds a private key that cannot be read')
    return undefined
  }
}

function unsuitability(key: KeyObject): string | undefined {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return modulusLength < 2048 ? `is an RSA key of ${modulusLength} bits; at least 2048 are needed` : undefined
    case 'ec':
      return CURVES.has(namedCurve) ? undefined : `is on the curve ${namedCurve}; P-256, P-384 or P-521 are needed`
    case 'ed25519':
      return undefined
    default:
      return `is of type ${key.asymmetricKeyType}; RSA, ECDSA or Ed25519 is needed`
  }
}

function checkTimes(chain: readonly Link[], nowMs: number, problem: Report<TrustFault>): void {
  for (const { facts } of chain) {
    if (facts.notAfterMs < nowMs) {
      problem('tls.cert', 'certificate_expired', `${label(facts)} has expired`, facts.notAfterMs)
    }
    if (facts.notBeforeMs > nowMs) {
      problem('tls.cert', 'certificate_not_yet_valid', `${label(facts)} is not valid yet`, facts.notBeforeMs)
    }
  }
}

function checkPurpose(leaf: Link, authorities: readonly Authority[], problem: Report<TrustFault>): void {
  const { extKeyUsage, issuer } = leaf.facts
  if (extKeyUsage !== undefined && !extKeyUsage.some(usage => SERVER_USAGES.has(usage))) {
    problem('tls.cert', 'certificate_purpose', `${label(leaf.facts)} is not for TLS servers (no serverAuth)`)
  }
  // What cert-manager stores while the real certificate is on its way (annotation issue-temporary-certificate).
  if (issuer.commonNames.includes('cert-manager.local')) {
    const message = `${label(leaf.facts)} is cert-manager's temporary certificate; the real one is not issued yet`
    return problem('tls.cert', 'certificate_temporary', message)
  }
  const isTrusted = authorities.some(({ facts }) => facts.fingerprint256 === leaf.facts.fingerprint256)
  const isSelfSigned = leaf.x509.checkIssued(leaf.x509) || leaf.facts.issuer.key === leaf.facts.subject.key
  if (isSelfSigned && !isTrusted) {
    problem('tls.cert', 'certificate_self_signed', `${label(leaf.facts)} is signed by nobody but itself`)
  }
}

/** Each certificate must be followed by its issuer: clients get the chain as it is. */
function checkChain(chain: readonly Link[], problem: Report<TrustFault>): void {
  for (const [index, link] of chain.entries()) {
    const issuer = chain[index + 1]
    if (issuer === undefined) return
    const isIssued = link.x509.checkIssued(issuer.x509) && link.x509.verify(issuer.x509.publicKey)
    if (!isIssued || !issuer.facts.isCa) {
      const message = `${label(link.facts)} is followed by ${label(issuer.facts)}, which has not issued it`
      return problem('tls.cert', 'chain_broken', message)
    }
  }
}

function advise(
  leaf: Link,
  chain: readonly Link[],
  authorities: readonly Authority[],
  nowMs: number,
  warning: Report<TrustAdvice>,
): void {
  const { notBeforeMs, notAfterMs, names, isCa } = leaf.facts
  const renewalMs = notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3
  // A tenth more than two thirds: cert-manager renews at two thirds, and that takes its time to get here.
  const isLate = nowMs > renewalMs + (notAfterMs - renewalMs) / 10
  if (isLate && nowMs <= notAfterMs) {
    const message = `${label(leaf.facts)} is past two thirds of its life and has not been renewed`
    warning('tls.cert', 'renewal_late', message, renewalMs)
  }
  if (names.dnsNames.length + names.ips.length + names.uris.length === 0) {
    warning('tls.cert', 'no_names', `${label(leaf.facts)} has no subject alternative name; clients will refuse it`)
  }
  if (isCa) warning('tls.cert', 'leaf_is_authority', `${label(leaf.facts)} is a CA certificate, not one for a server`)
  const top = chain.at(-1)
  const namesakes = authorities.filter(({ facts }) => facts.subject.key === top?.facts.issuer.key)
  if (top !== undefined && namesakes.length > 0 && !namesakes.some(({ x509 }) => top.x509.verify(x509.publicKey))) {
    const message = `${label(top.facts)} names an issuer of tls.clientCa, but was signed by another key`
    warning('tls.cert', 'issuer_differs', message)
  }
}

const CURVES = new Set(['prime256v1', 'secp384r1', 'secp521r1'])

/** serverAuth, and "any" (RFC 5280 §4.2.1.12). */
const SERVER_USAGES = new Set(['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'])

import { createHash } from 'node:crypto'
import type { ClientCertificate } from '../identity/caller.ts'
import { err, ok, type Result } from '../result.ts'
import {
  childrenOf,
  childrenOfTag,
  type DerElement,
  isDer,
  oidText,
  readOnly,
  TAG,
  timeMs,
  unsignedHex,
} from './der.ts'
import {
  type AltNames,
  type DistinguishedName,
  isSpiffe,
  NO_NAMES,
  readAltNames,
  readName,
  spiffeFault,
} from './names.ts'

/**
 * Reads a client certificate that the TLS layer has already verified against the client CA.
 *
 * @param der    The leaf; identity comes from it alone, whatever else the peer sent along.
 * @param chain  Its issuers in DER, the leaf's own issuer first, the root last.
 * @refuses      `peer_identity_ambiguous` when the leaf is not strict DER, repeats an extension, has several SPIFFE IDs
 *               or a malformed one, or a name with control characters or non-ASCII where only ASCII may be.
 * @source       RFC 5280 §4; SPIFFE X.509-SVID §2.
 */
export function readClientCertificate(
  der: Buffer,
  chain: readonly Buffer[],
): Result<ClientCertificate, { reason: 'peer_identity_ambiguous'; detail: string }> {
  const read = readCertificate(der)
  if (!read.ok) return ambiguous(read.error)
  const { names, subject, issuer, serial, fingerprint256, notBeforeMs, notAfterMs } = read.value
  const spiffeIds = names.uris.filter(isSpiffe)
  if (spiffeIds.length > 1) return ambiguous('the certificate holds several SPIFFE IDs')
  const fault = spiffeIds[0] === undefined ? undefined : spiffeFault(spiffeIds[0])
  if (fault !== undefined) return ambiguous(fault)
  return ok({
    subject: subject.text,
    issuer: issuer.text,
    serial,
    fingerprint256,
    // With several common names there is no telling which one is meant, so no rule can match any of them.
    commonName: subject.commonNames.length === 1 ? subject.commonNames[0] : undefined,
    uris: names.uris,
    dnsNames: names.dnsNames,
    ips: names.ips,
    notBeforeMs,
    notAfterMs,
    der,
    chain,
  })
}

/** What a certificate says, from strict DER. Nothing here has been verified. */
export interface CertificateFacts {
  readonly subject: DistinguishedName
  readonly issuer: DistinguishedName
  /** Upper-case hex without separators. */
  readonly serial: string
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint256: string
  /** SHA-256 of subject and public key: equal for every certificate of one authority, renewed ones too. */
  readonly authorityKey: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly names: AltNames
  readonly isCa: boolean
  /** Key usage bits by number (RFC 5280 §4.2.1.3), undefined when the extension is absent. */
  readonly keyUsage: ReadonlySet<number> | undefined
  /** Dotted extended key usages, undefined when the extension is absent. */
  readonly extKeyUsage: readonly string[] | undefined
  readonly der: Buffer
}

/** Reads any X.509 certificate. @returns what is wrong with it, in words, when it is not strict DER. */
export function readCertificate(der: Buffer): Result<CertificateFacts, string> {
  if (der.length > MAX_BYTES) return err('the certificate is larger than 64 KiB')
  if (!isDer(der)) return err('the certificate is not strict DER')
  const [tbs] = childrenOfTag(readOnly(der), TAG.sequence) ?? []
  const fields = childrenOfTag(tbs, TAG.sequence)
  if (fields === undefined) return err('the certificate has no contents')
  // Version 1 certificates begin with the serial number; they have no extensions and so no names to go by.
  const start = fields[0]?.tag === 0xa0 ? 1 : 0
  const [serialField, , issuerField, validity, subjectField, publicKey] = fields.slice(start)
  const serial = unsignedHex(serialField)
  if (serial === undefined) return err('the serial number is not a positive integer')
  const issuer = readName(issuerField)
  if (!issuer.ok) return err(`the issuer ${issuer.error}`)
  const subject = readName(subjectField)
  if (!subject.ok) return err(`the subject ${subject.error}`)
  const [notBefore, notAfter] = childrenOfTag(validity, TAG.sequence) ?? []
  const notBeforeMs = timeMs(notBefore)
  const notAfterMs = timeMs(notAfter)
  if (notBeforeMs === undefined || notAfterMs === undefined) return err('the validity is malformed')
  if (publicKey?.tag !== TAG.sequence) return err('the public key is malformed')
  const extensions = readExtensions(fields.slice(start + 6).find(field => field.tag === 0xa3))
  if (!extensions.ok) return extensions
  return ok({
    subject: subject.value,
    issuer: issuer.value,
    serial,
    fingerprint256: sha256(der),
    authorityKey: sha256(subjectField?.whole ?? der, publicKey.whole),
    notBeforeMs,
    notAfterMs,
    ...extensions.value,
    der,
  })
}

type ExtensionFacts = Pick<CertificateFacts, 'names' | 'isCa' | 'keyUsage' | 'extKeyUsage'>

function readExtensions(field: DerElement | undefined): Result<ExtensionFacts, string> {
  const byId = new Map<string, Buffer>()
  if (field !== undefined) {
    const [list, ...rest] = childrenOf(field) ?? []
    const extensions = childrenOfTag(list, TAG.sequence)
    if (extensions === undefined || rest.length > 0) return err('the extensions are malformed')
    for (const extension of extensions) {
      const parts = childrenOfTag(extension, TAG.sequence) ?? []
      const id = parts[0]
      const value = parts.at(-1)
      const isFormed = id?.tag === TAG.oid && value?.tag === TAG.octetString && parts.length <= 3
      if (!isFormed || (parts.length === 3 && parts[1]?.tag !== TAG.boolean)) return err('an extension is malformed')
      const name = oidText(id.content)
      // RFC 5280 §4.2: at most one of each; two would let two readers see two identities.
      if (byId.has(name)) return err(`the extension ${name} is there twice`)
      byId.set(name, value.content)
    }
  }
  const altNames = byId.get(EXTENSION.subjectAltName)
  const names = altNames === undefined ? ok(NO_NAMES) : readAltNames(altNames)
  if (!names.ok) return names
  return ok({
    names: names.value,
    isCa: readIsCa(byId.get(EXTENSION.basicConstraints)),
    keyUsage: readBits(byId.get(EXTENSION.keyUsage)),
    extKeyUsage: readUsages(byId.get(EXTENSION.extKeyUsage)),
  })
}

function readIsCa(extension: Buffer | undefined): boolean {
  if (extension === undefined) return false
  const [first] = childrenOfTag(readOnly(extension), TAG.sequence) ?? []
  return first?.tag === TAG.boolean && first.content[0] === 0xff
}

function readBits(extension: Buffer | undefined): ReadonlySet<number> | undefined {
  if (extension === undefined) return undefined
  const field = readOnly(extension)
  const bits = new Set<number>()
  if (field?.tag !== TAG.bitString) return bits
  field.content.subarray(1, 3).forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (0x80 >> bit)) !== 0) bits.add(index * 8 + bit)
  })
  return bits
}

function readUsages(extension: Buffer | undefined): string[] | undefined {
  if (extension === undefined) return undefined
  const usages = childrenOfTag(readOnly(extension), TAG.sequence) ?? []
  return usages.filter(usage => usage.tag === TAG.oid).map(usage => oidText(usage.content))
}

function ambiguous(detail: string) {
  return err({ reason: 'peer_identity_ambiguous' as const, detail })
}

function sha256(...parts: readonly Buffer[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

const EXTENSION = {
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  extKeyUsage: '2.5.29.37',
} as const

const MAX_BYTES = 65_536

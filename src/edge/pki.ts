import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto'
import {
  bitString,
  boolean,
  context,
  type Der,
  encode,
  generalName,
  integer,
  name,
  namedBits,
  octets,
  oid,
  type RelativeName,
  reparse,
  type SubjectAltNames,
  sequence,
  time,
} from './x509-writer.ts'

/** Kinds of key that certificates are minted for; the signature algorithm follows from the issuer's kind. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'rsa-2048' | 'ed25519'

/** A certificate with its key, as PEM (the key as PKCS#8) and as Node's objects. */
export interface Identity {
  /** The certificate alone. */
  readonly cert: string
  /** The certificate and its intermediates, leaf first, without the root: what a TLS server or client sends. */
  readonly chain: string
  readonly key: string
  readonly der: Buffer
  readonly x509: X509Certificate
  /** Upper-case hex without separators, as Node prints it. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/** An identity that may issue others. */
export interface CertificateAuthority extends Identity {
  readonly name: string
  readonly privateKey: KeyObject
  readonly subject: readonly RelativeName[]
  readonly keyId: Buffer
  /** What goes behind the certificates that it issues: its own and those above it, without the root. */
  readonly issuedChain: string
}

export interface CaOptions {
  name: string
  keyType?: KeyType
  /** From a minute ago when absent. */
  notBefore?: Date
  /** Ten years when absent. */
  notAfter?: Date
  /** How many intermediates may follow; no limit when absent. */
  pathLength?: number
}

export interface LeafOptions extends SubjectAltNames {
  /** Common name; without one and without `subject` the subject is empty and the SAN extension critical. */
  cn?: string
  /** The whole subject instead of a common name: `[['O', 'Acme, Inc.'], ['CN', 'kong']]`. */
  subject?: readonly RelativeName[]
  /** Both when absent. */
  usages?: readonly ('serverAuth' | 'clientAuth')[]
  keyType?: KeyType
  /** From a minute ago when absent. */
  notBefore?: Date
  /** 90 days when absent. */
  notAfter?: Date
  /** Hex; random when absent. */
  serial?: string
  /** PEM of the key to certify, for renewals that keep their key; a new one when absent. */
  key?: string
}

export interface CrlOptions {
  /** Serials in hex, as `Identity.serial` has them. */
  revoked: readonly string[]
  thisUpdate?: Date
  /** A day after `thisUpdate` when absent. */
  nextUpdate?: Date
  number?: number
}

/** Mints a self-signed root (RFC 5280 §4; accepted by `openssl verify -x509_strict`). */
export function mintCa(options: CaOptions): CertificateAuthority {
  return mintAuthority(undefined, options)
}

/** Mints an authority below another one. */
export function mintIntermediate(issuer: CertificateAuthority, options: CaOptions): CertificateAuthority {
  return mintAuthority(issuer, options)
}

/** Mints a certificate for a TLS server, client or both. */
export function mintLeaf(issuer: CertificateAuthority, options: LeafOptions): Identity {
  return issueLeaf(issuer, options)
}

/** Mints a leaf that vouches for itself: what cert-manager stores while the real one is not issued yet. */
export function mintSelfSigned(options: LeafOptions): Identity {
  return issueLeaf(undefined, options)
}

function issueLeaf(issuer: CertificateAuthority | undefined, options: LeafOptions): Identity {
  const keys = options.key === undefined ? newKeys(options.keyType ?? 'ec-p256') : keysOf(options.key)
  const subject = options.subject ?? (options.cn === undefined ? [] : [['CN', options.cn] as const])
  const usages = options.usages ?? ['serverAuth', 'clientAuth']
  const san = generalNames(options)
  const extensions = [
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.keyUsage, true, namedBits([0])),
    ...(usages.length > 0
      ? [extension(OID.extKeyUsage, false, sequence(...usages.map(usage => oid(OID[usage]))))]
      : []),
    // RFC 5280 §4.2.1.6: the names are critical when they are all there is.
    ...(san.length > 0 ? [extension(OID.subjectAltName, subject.length === 0, sequence(...san))] : []),
  ]
  const notBefore = options.notBefore ?? aMinuteAgo()
  const notAfter = options.notAfter ?? new Date(Date.now() + 90 * DAY_MS)
  return issue({ issuer, keys, subject, notBefore, notAfter, serial: options.serial, extensions })
}

/** Mints a certificate revocation list (RFC 5280 §5). @returns PEM. */
export function mintCrl(ca: CertificateAuthority, options: CrlOptions): string {
  const thisUpdate = options.thisUpdate ?? aMinuteAgo()
  const nextUpdate = options.nextUpdate ?? new Date(thisUpdate.getTime() + DAY_MS)
  const algorithm = signatureAlgorithm(ca.privateKey)
  const revoked = options.revoked.map(serial => sequence(integer(Buffer.from(serial, 'hex')), time(thisUpdate)))
  const list = sequence(
    integer(1),
    algorithm,
    name(ca.subject),
    time(thisUpdate),
    time(nextUpdate),
    // RFC 5280 §5.1.2.6: the list is absent, not empty, when nothing is revoked.
    ...(revoked.length > 0 ? [sequence(...revoked)] : []),
    context(
      0,
      sequence(
        extension(OID.authorityKeyIdentifier, false, sequence(context(0, ca.keyId))),
        extension(OID.crlNumber, false, integer(options.number ?? 1)),
      ),
    ),
  )
  return pem('X509 CRL', signed(list, algorithm, ca.privateKey))
}

function mintAuthority(issuer: CertificateAuthority | undefined, options: CaOptions): CertificateAuthority {
  const keys = newKeys(options.keyType ?? 'ec-p256')
  const subject: RelativeName[] = [['CN', options.name]]
  const pathLength = options.pathLength === undefined ? [] : [integer(options.pathLength)]
  const extensions = [
    extension(OID.basicConstraints, true, sequence(boolean(true), ...pathLength)),
    // keyCertSign and cRLSign.
    extension(OID.keyUsage, true, namedBits([5, 6])),
  ]
  const notBefore = options.notBefore ?? aMinuteAgo()
  const notAfter = options.notAfter ?? new Date(Date.now() + 3650 * DAY_MS)
  const identity = issue({ issuer, keys, subject, notBefore, notAfter, serial: undefined, extensions })
  const issuedChain = issuer === undefined ? '' : identity.chain
  return {
    ...identity,
    name: options.name,
    privateKey: keys.privateKey,
    subject,
    keyId: keyIdOf(keys.publicKey),
    issuedChain,
  }
}

interface Issue {
  issuer: CertificateAuthority | undefined
  keys: Keys
  subject: readonly RelativeName[]
  notBefore: Date
  notAfter: Date
  serial: string | undefined
  extensions: readonly Der[]
}

function issue({ issuer, keys, subject, notBefore, notAfter, serial, extensions }: Issue): Identity {
  const signer = issuer?.privateKey ?? keys.privateKey
  const algorithm = signatureAlgorithm(signer)
  const keyId = keyIdOf(keys.publicKey)
  const tbs = sequence(
    context(0, integer(2)),
    integer(serial === undefined ? newSerial() : Buffer.from(serial, 'hex')),
    algorithm,
    name(issuer?.subject ?? subject),
    sequence(time(notBefore), time(notAfter)),
    name(subject),
    reparse(keys.publicKey.export({ type: 'spki', format: 'der' })),
    context(
      3,
      sequence(
        ...extensions,
        extension(OID.subjectKeyIdentifier, false, octets(keyId)),
        extension(OID.authorityKeyIdentifier, false, sequence(context(0, issuer?.keyId ?? keyId))),
      ),
    ),
  )
  const der = signed(tbs, algorithm, signer)
  const cert = pem('CERTIFICATE', der)
  const x509 = new X509Certificate(der)
  return {
    cert,
    chain: cert + (issuer?.issuedChain ?? ''),
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    der,
    x509,
    serial: x509.serialNumber,
    notBefore,
    notAfter,
  }
}

interface Keys {
  privateKey: KeyObject
  publicKey: KeyObject
}

function newKeys(type: KeyType): Keys {
  switch (type) {
    case 'ec-p256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' })
    case 'ec-p384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' })
    case 'rsa-2048':
      return generateKeyPairSync('rsa', { modulusLength: 2048 })
    case 'ed25519':
      return generateKeyPairSync('ed25519')
  }
}

function keysOf(key: string): Keys {
  const privateKey = createPrivateKey(key)
  return { privateKey, publicKey: createPublicKey(privateKey) }
}

/** RFC 7093 §2 method 1: the leftmost 160 bits of a SHA-256, rather than RFC 5280's SHA-1. */
function keyIdOf(publicKey: KeyObject): Buffer {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return createHash('sha256').update(spki).digest().subarray(0, 20)
}

function newSerial(): Buffer {
  const serial = randomBytes(16)
  // Positive and of full length: never a leading zero byte, never the sign bit.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  return serial
}

function signatureAlgorithm(key: KeyObject): Der {
  const [algorithm, ...parameters] = SIGNATURES[kindOf(key)].algorithm
  return sequence(oid(algorithm), ...parameters)
}

function signed(content: Der, algorithm: Der, key: KeyObject): Buffer {
  const signature = sign(SIGNATURES[kindOf(key)].digest, encode(content), key)
  return encode(sequence(content, algorithm, bitString(signature)))
}

function kindOf(key: KeyObject): KeyType {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return 'rsa-2048'
    case 'ed25519':
      return 'ed25519'
    default:
      return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ec-p384' : 'ec-p256'
  }
}

/** Object identifiers (RFC 5758, RFC 4055, RFC 8410) and digests of the signatures. RSA alone has a NULL parameter. */
const SIGNATURES: Record<KeyType, { algorithm: readonly [string, ...Der[]]; digest: string | null }> = {
  'ec-p256': { algorithm: ['1.2.840.10045.4.3.2'], digest: 'sha256' },
  'ec-p384': { algorithm: ['1.2.840.10045.4.3.3'], digest: 'sha384' },
  'rsa-2048': { algorithm: ['1.2.840.113549.1.1.11', reparse(Buffer.from('0500', 'hex'))], digest: 'sha256' },
  ed25519: { algorithm: ['1.3.101.112'], digest: null },
}

function generalNames(names: SubjectAltNames): Der[] {
  return [
    ...(names.uris ?? []).map(uri => generalName('uri', uri)),
    ...(names.dns ?? []).map(dns => generalName('dns', dns)),
    ...(names.ips ?? []).map(ip => generalName('ip', ip)),
    ...(names.extraSanRaw ?? []).map(raw => reparse(raw)),
  ]
}

function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(encode(value)))
}

const OID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlNumber: '2.5.29.20',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const

const DAY_MS = 86_400_000

/** Clocks in a cluster differ a little; a certificate from this very second would be refused as not yet valid. */
function aMinuteAgo(): Date {
  return new Date(Date.now() - 60_000)
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

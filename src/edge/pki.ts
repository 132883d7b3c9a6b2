import { type KeyObject, X509Certificate } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  type Keys,
  type KeyType,
  keyIdOf,
  keysOf,
  newKeys,
  newSerial,
  signatureAlgorithm,
  signed,
} from './x509-keys.ts'
import {
  boolean,
  context,
  type Der,
  extension,
  generalNames,
  integer,
  name,
  namedBits,
  octets,
  oid,
  pem,
  type RelativeName,
  reparse,
  type SubjectAltNames,
  sequence,
  time,
} from './x509-writer.ts'

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
  /** PEM of the key to certify, for a CA that is renewed with its key; a new one when absent. */
  key?: string
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

/** What `mintDevPki` has written: paths below `dir`, and who is who. */
export interface DevPki {
  readonly dir: string
  readonly ca: { readonly cert: string; readonly key: string }
  readonly identities: readonly DevIdentity[]
}

export interface DevIdentity {
  readonly name: DevName
  readonly cert: string
  readonly key: string
  readonly uri: string
  readonly notAfter: Date
  readonly about: string
}

export type DevName = 'server' | 'gateway' | 'second-gateway' | 'stranger'

export interface DevPkiOptions {
  keyType?: KeyType
  /** DNS names of the server besides those of this machine and of a Service called mcp-server. */
  dns?: readonly string[]
  ips?: readonly string[]
  /** Life of the leaves; the CA lives ten times as long. */
  days?: number
  /** Write over what is there; without it an existing file is an error (`EEXIST`). */
  overwrite?: boolean
}

/**
 * Writes a development PKI: `ca.crt`, `ca.key`, and for each identity `<name>/tls.crt` and `<name>/tls.key`, laid out as
 * a Secret of type kubernetes.io/tls is. Keys are readable by their owner only.
 *
 * The stranger has the gateway's own names, from another CA: what must never get in.
 */
export async function mintDevPki(dir: string, options: DevPkiOptions = {}): Promise<DevPki> {
  const days = options.days ?? 90
  const keyType = options.keyType ?? 'ec-p256'
  const notAfter = new Date(Date.now() + days * DAY_MS)
  const caNotAfter = new Date(Date.now() + days * 10 * DAY_MS)
  const ca = mintCa({ name: 'mcp-sidecar development CA', keyType, notAfter: caNotAfter })
  const otherCa = mintCa({ name: 'some other CA', keyType, notAfter: caNotAfter })
  const flag = options.overwrite === true ? 'w' : 'wx'

  const write = async (path: string, text: string, mode: number): Promise<string> => {
    const file = join(dir, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text, { flag, mode })
    return file
  }

  const identities: DevIdentity[] = []
  // The CA's key goes first: with `wx` it is the guard of everything else.
  const caKey = await write('ca.key', ca.key, 0o600)
  const caCert = await write('ca.crt', ca.cert, 0o644)
  for (const { name, about, leaf } of developmentIdentities(options)) {
    const identity: Identity = mintLeaf(name === 'stranger' ? otherCa : ca, { ...leaf, keyType, notAfter })
    const key = await write(`${name}/tls.key`, identity.key, 0o600)
    const cert = await write(`${name}/tls.crt`, identity.chain, 0o644)
    identities.push({ name, cert, key, about, notAfter, uri: leaf.uris?.[0] ?? '' })
  }
  return { dir, ca: { cert: caCert, key: caKey }, identities }
}

function mintAuthority(issuer: CertificateAuthority | undefined, options: CaOptions): CertificateAuthority {
  const keys = options.key === undefined ? newKeys(options.keyType ?? 'ec-p256') : keysOf(options.key)
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

interface Plan {
  name: DevName
  about: string
  leaf: LeafOptions
}

function developmentIdentities(options: DevPkiOptions): Plan[] {
  const service = 'mcp-server'
  return [
    {
      name: 'server',
      about: 'the sidecar itself',
      leaf: {
        cn: service,
        uris: ['spiffe://example.org/ns/default/sa/mcp-server'],
        dns: [
          'localhost',
          service,
          `${service}.default`,
          `${service}.default.svc`,
          `${service}.default.svc.cluster.local`,
          ...(options.dns ?? []),
        ],
        ips: ['127.0.0.1', '::1', ...(options.ips ?? [])],
        usages: ['serverAuth'],
      },
    },
    {
      name: 'gateway',
      about: 'the AI gateway; the peer to put on the list',
      leaf: gateway('kong'),
    },
    {
      name: 'second-gateway',
      about: 'another workload of the same CA; let in only when it is listed as well',
      leaf: gateway('envoy'),
    },
    {
      name: 'stranger',
      about: "the gateway's names from another CA; must never get in",
      leaf: gateway('kong'),
    },
  ]
}

function gateway(account: string): LeafOptions {
  return {
    cn: account,
    uris: [`spiffe://example.org/ns/gateway/sa/${account}`],
    dns: [`${account}.gateway.svc`],
    usages: ['clientAuth'],
  }
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

import { isIPv4, isIPv6 } from 'node:net'
import forge from 'node-forge'

/**
 * The pieces that certificates and revocation lists are written from, as DER. node-forge brings the ASN.1; its own
 * certificate functions cannot be used because they know RSA keys only.
 */
export type Der = forge.asn1.Asn1

/** One attribute of a distinguished name. */
export type RelativeName = readonly [type: keyof typeof ATTRIBUTES, value: string]

/** Subject alternative names. Values are encoded as they are, so that tests can write what a good CA would not. */
export interface SubjectAltNames {
  uris?: readonly string[]
  dns?: readonly string[]
  ips?: readonly string[]
  /** Whole `GeneralName`s in DER, put behind the others. */
  extraSanRaw?: readonly Buffer[]
}

export function encode(der: Der): Buffer {
  return Buffer.from(asn1.toDer(der).getBytes(), 'latin1')
}

/** DER that somebody else has written, as a piece. */
export function reparse(bytes: Buffer): Der {
  return asn1.fromDer(bytes.toString('latin1'), true)
}

export function sequence(...items: readonly Der[]): Der {
  return universal(Type.SEQUENCE, [...items])
}

export function boolean(value: boolean): Der {
  return universal(Type.BOOLEAN, value ? '\xff' : '\x00')
}

/** A non-negative number, or the big-endian bytes of one. */
export function integer(value: number | Buffer): Der {
  const bytes = typeof value === 'number' ? numberBytes(value) : value
  const isNegative = (bytes[0] ?? 0) >= 0x80
  return universal(Type.INTEGER, `${isNegative ? '\x00' : ''}${bytes.toString('latin1')}`)
}

export function octets(bytes: Buffer): Der {
  return universal(Type.OCTETSTRING, bytes.toString('latin1'))
}

export function oid(dotted: string): Der {
  return universal(Type.OID, asn1.oidToDer(dotted).getBytes())
}

export function bitString(bytes: Buffer): Der {
  return universal(Type.BITSTRING, `\x00${bytes.toString('latin1')}`)
}

/** A named bit list of at most eight bits: trailing zero bits are left out, as DER wants it (X.690 §11.2.2). */
export function namedBits(bits: readonly number[]): Der {
  const unused = 7 - Math.max(...bits)
  const byte = bits.reduce((sum, bit) => sum | (0x80 >> bit), 0)
  return universal(Type.BITSTRING, String.fromCharCode(unused, byte))
}

/** UTCTime until 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5). */
export function time(date: Date): Der {
  return date.getUTCFullYear() < 2050
    ? universal(Type.UTCTIME, asn1.dateToUtcTime(date))
    : universal(Type.GENERALIZEDTIME, asn1.dateToGeneralizedTime(date))
}

/** A distinguished name; each attribute is a relative name of its own. */
export function name(attributes: readonly RelativeName[]): Der {
  return sequence(
    ...attributes.map(([type, value]) =>
      universal(Type.SET, [
        sequence(oid(ATTRIBUTES[type]), universal(type === 'C' ? Type.PRINTABLESTRING : Type.UTF8, utf8(value))),
      ]),
    ),
  )
}

/** `[tag]` around a piece (constructed), or around bytes (primitive, implicit). */
export function context(tag: number, content: Der | Buffer): Der {
  return Buffer.isBuffer(content)
    ? asn1.create(Class.CONTEXT_SPECIFIC, tag, false, content.toString('latin1'))
    : asn1.create(Class.CONTEXT_SPECIFIC, tag, true, [content])
}

/** One entry of a SAN extension (RFC 5280 §4.2.1.6). */
function generalName(kind: 'uri' | 'dns' | 'ip', value: string): Der {
  switch (kind) {
    case 'dns':
      return context(2, Buffer.from(value, 'utf8'))
    case 'uri':
      return context(6, Buffer.from(value, 'utf8'))
    case 'ip':
      return context(7, ipBytes(value))
  }
}

/** All the names of a SAN extension, in the order of the types. */
export function generalNames(names: SubjectAltNames): Der[] {
  return [
    ...(names.uris ?? []).map(uri => generalName('uri', uri)),
    ...(names.dns ?? []).map(dns => generalName('dns', dns)),
    ...(names.ips ?? []).map(ip => generalName('ip', ip)),
    ...(names.extraSanRaw ?? []).map(raw => reparse(raw)),
  ]
}

/** One certificate or CRL extension (RFC 5280 §4.1.2.9); `value` goes inside the octet string. */
export function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(encode(value)))
}

/** RFC 7468. */
export function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

const ATTRIBUTES = {
  CN: '2.5.4.3',
  SERIALNUMBER: '2.5.4.5',
  C: '2.5.4.6',
  L: '2.5.4.7',
  ST: '2.5.4.8',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  DC: '0.9.2342.19200300.100.1.25',
  emailAddress: '1.2.840.113549.1.9.1',
} as const

const { asn1 } = forge
const { Class, Type } = asn1

function universal(type: forge.asn1.Type, value: string | Der[]): Der {
  return asn1.create(Class.UNIVERSAL, type, typeof value !== 'string', value)
}

function utf8(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

function numberBytes(value: number): Buffer {
  const hex = value.toString(16)
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
}

function ipBytes(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number))
  if (!isIPv6(text)) throw new TypeError(`not an IP address: ${text}`)
  const bytes = Buffer.alloc(16)
  // The URL parser writes the canonical form, without an embedded IPv4 address.
  const [head = '', tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  before.forEach((group, index) => bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2))
  after.forEach((group, index) => bytes.writeUInt16BE(Number.parseInt(group, 16), 16 - (after.length - index) * 2))
  return bytes
}

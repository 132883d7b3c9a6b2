import { err, ok, type Result } from '../result.ts'
import { childrenOf, childrenOfTag, type DerElement, oidText, readOnly, TAG } from './der.ts'

/** Subject alternative names by type, exactly as they are encoded. */
export interface AltNames {
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly ips: readonly string[]
}

export const NO_NAMES: AltNames = { uris: [], dnsNames: [], ips: [] }

/**
 * Reads the value of a SAN extension (RFC 5280 §4.2.1.6). Nothing is taken from a display string: OpenSSL and Node
 * print names so that one name can look like two. Text that could be read in two ways — control characters, NUL,
 * spaces, anything beyond ASCII — is refused, in names of every type that holds text.
 */
export function readAltNames(extension: Buffer): Result<AltNames, string> {
  const names = childrenOfTag(readOnly(extension), TAG.sequence)
  if (names === undefined) return err('the subject alternative names are not DER')
  if (names.length === 0) return err('the list of subject alternative names is empty')
  const uris: string[] = []
  const dnsNames: string[] = []
  const ips: string[] = []
  for (const { tag, content } of names) {
    switch (tag) {
      case GENERAL_NAME.rfc822:
      case GENERAL_NAME.dns:
      case GENERAL_NAME.uri: {
        const text = visibleAscii(content)
        if (text === undefined)
          return err(`a name of type ${TYPE_WORDS[tag]} holds a control character, a space or non-ASCII`)
        if (tag === GENERAL_NAME.uri) uris.push(text)
        if (tag === GENERAL_NAME.dns) dnsNames.push(text)
        break
      }
      case GENERAL_NAME.ip: {
        const ip = ipText(content)
        if (ip === undefined) return err('an IP address has neither 4 nor 16 bytes')
        ips.push(ip)
        break
      }
      case GENERAL_NAME.other:
      case GENERAL_NAME.x400:
      case GENERAL_NAME.directory:
      case GENERAL_NAME.ediParty:
      case GENERAL_NAME.registeredId:
        break
      default:
        return err('a subject alternative name is of no known type')
    }
  }
  return ok({ uris, dnsNames, ips })
}

/**
 * Checks the form of a SPIFFE ID of a workload (SPIFFE-ID §2): `spiffe://<trust domain>/<path>`, at most 2048 bytes, no
 * user, port, query, fragment or percent-encoding, no empty or dot segments.
 *
 * @returns what is wrong, in words, or undefined.
 */
export function spiffeFault(uri: string): string | undefined {
  if (uri.length > 2048) return 'a SPIFFE ID is longer than 2048 bytes'
  if (!uri.startsWith('spiffe://')) return 'the scheme of a SPIFFE ID is not written in lower case'
  const slash = uri.indexOf('/', 9)
  if (slash < 0) return 'a SPIFFE ID has no path'
  if (!/^[a-z0-9._-]{1,255}$/.test(uri.slice(9, slash))) return 'the trust domain of a SPIFFE ID is malformed'
  for (const segment of uri.slice(slash + 1).split('/')) {
    if (segment === '.' || segment === '..' || !/^[A-Za-z0-9._-]+$/.test(segment)) {
      return 'the path of a SPIFFE ID is malformed'
    }
  }
  return undefined
}

/** A URI that claims to be a SPIFFE ID, whatever the case of its scheme. */
export function isSpiffe(uri: string): boolean {
  return uri.slice(0, 7).toLowerCase() === 'spiffe:'
}

/** A distinguished name: as a safe text, and its common names as they are. */
export interface DistinguishedName {
  /**
   * RFC 4514, last attribute first. Only printable ASCII: whatever else there is, and the special characters, are
   * escaped, as OpenSSL's RFC2253 option and Envoy do it.
   */
  readonly text: string
  readonly commonNames: readonly string[]
  /** Hex of the encoding: equal names have equal keys. */
  readonly key: string
}

/** Reads a Name (RFC 5280 §4.1.2.4). */
export function readName(element: DerElement | undefined): Result<DistinguishedName, string> {
  const relatives = childrenOfTag(element, TAG.sequence)
  if (element === undefined || relatives === undefined) return err('is not a sequence')
  const texts: string[] = []
  const commonNames: string[] = []
  for (const relative of relatives) {
    const attributes = childrenOfTag(relative, TAG.set)
    if (attributes === undefined || attributes.length === 0) return err('holds an empty part')
    const parts: string[] = []
    for (const attribute of attributes) {
      const [type, value, ...rest] = childrenOf(attribute) ?? []
      if (type?.tag !== TAG.oid || value === undefined || rest.length > 0) return err('holds a malformed attribute')
      const id = oidText(type.content)
      const known = ATTRIBUTES[id]
      const text = attributeText(value)
      if (known === 'CN') {
        if (text === undefined || hasControls(text)) return err('has a common name that is not plain text')
        commonNames.push(text)
      }
      // RFC 4514 §2.4: a type without a name, or a value that is no string, is written as the hex of its encoding.
      const shown =
        known === undefined || text === undefined ? `#${value.whole.toString('hex').toUpperCase()}` : escapeValue(text)
      parts.unshift(`${known ?? id}=${shown}`)
    }
    texts.unshift(parts.join('+'))
  }
  return ok({ text: texts.join(','), commonNames, key: element.whole.toString('hex') })
}

function attributeText({ tag, content }: DerElement): string | undefined {
  switch (tag) {
    case TAG.utf8String:
      return decodeStrictly('utf-8', content)
    case TAG.numericString:
    case TAG.printableString:
    case TAG.ia5String:
      return content.every(byte => byte < 0x80) ? content.toString('latin1') : undefined
    case TAG.teletexString:
      return content.toString('latin1')
    case TAG.bmpString:
      return decodeStrictly('utf-16be', content)
    default:
      return undefined
  }
}

function decodeStrictly(encoding: 'utf-8' | 'utf-16be', content: Buffer): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(content)
  } catch {
    return undefined
  }
}

function escapeValue(text: string): string {
  let escaped = ''
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0
    if (code < 0x20 || code > 0x7e) escaped += hexPairs(char)
    else if (',+"\\<>;'.includes(char)) escaped += `\\${char}`
    else escaped += char
  }
  if (escaped.startsWith(' ') || escaped.startsWith('#')) escaped = `\\${escaped}`
  const endsWithSpace = escaped.length > 1 && escaped.endsWith(' ') && !escaped.endsWith('\\ ')
  return endsWithSpace ? `${escaped.slice(0, -1)}\\ ` : escaped
}

function hexPairs(char: string): string {
  return Buffer.from(char, 'utf8').toString('hex').toUpperCase().replaceAll(/../g, '\\$&')
}

function hasControls(text: string): boolean {
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0x2028 || code === 0x2029) return true
  }
  return false
}

function visibleAscii(content: Buffer): string | undefined {
  return content.length > 0 && content.every(byte => byte > 0x20 && byte < 0x7f)
    ? content.toString('latin1')
    : undefined
}

/** Dotted quad, or RFC 5952: lower case, the longest run of zero groups as `::`. */
function ipText(content: Buffer): string | undefined {
  if (content.length === 4) return content.join('.')
  if (content.length !== 16) return undefined
  const groups = Array.from({ length: 8 }, (_, index) => content.readUInt16BE(index * 2).toString(16))
  const runs = [
    ...groups
      .map(group => (group === '0' ? '0' : '.'))
      .join('')
      .matchAll(/0{2,}/g),
  ]
  const longest = runs.reduce(
    (best, run) => (run[0].length > best.length ? { at: run.index, length: run[0].length } : best),
    {
      at: -1,
      length: 0,
    },
  )
  if (longest.length === 0) return groups.join(':')
  return `${groups.slice(0, longest.at).join(':')}::${groups.slice(longest.at + longest.length).join(':')}`
}

const GENERAL_NAME = {
  other: 0xa0,
  rfc822: 0x81,
  dns: 0x82,
  x400: 0xa3,
  directory: 0xa4,
  ediParty: 0xa5,
  uri: 0x86,
  ip: 0x87,
  registeredId: 0x88,
} as const

const TYPE_WORDS = {
  [GENERAL_NAME.rfc822]: 'e-mail',
  [GENERAL_NAME.dns]: 'DNS',
  [GENERAL_NAME.uri]: 'URI',
} as const

/** Names of attribute types as OpenSSL writes them (RFC 4514 §3 and RFC 5280 §4.1.2.4). */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.4': 'SN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '2.5.4.12': 'title',
  '2.5.4.17': 'postalCode',
  '2.5.4.42': 'GN',
  '2.5.4.43': 'initials',
  '2.5.4.45': 'x500UniqueIdentifier',
  '2.5.4.46': 'dnQualifier',
  '2.5.4.97': 'organizationIdentifier',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
}

import { err, ok, type Result } from '../result.ts'

/**
 * Brings a resource URI into the form that rules match: scheme and host in lower case, default port gone, dot segments
 * removed, unreserved characters decoded, everything else that must be encoded encoded in upper-case hex.
 *
 * Where parsers disagree there is no such form, and the URI is refused: encoded slashes or dots that hide a segment,
 * backslashes, control characters, several `@`, IPv4 addresses in odd notation, a missing authority where WHATWG
 * invents one. Encoded slashes in a path are refused even where a server means them (`group%2Fname`).
 *
 * @param uri         As the caller sent it, or as a rule has it: `*` is left alone.
 * @param isTemplate  A URI template (RFC 6570): expressions in braces are kept.
 * @returns           The form, or why there is none.
 * @source            RFC 3986 §5.2.4, §6.2.2; WHATWG URL §4.4 (where the two differ, refused).
 */
export function normalizeUri(uri: string, isTemplate = false): Result<string, string> {
  if (PLAIN.test(uri) && !DOTS.test(uri) && uri.length <= LONGEST_URI) return ok(uri)
  if (uri.length > LONGEST_URI) return err(`a URI of more than ${LONGEST_URI} characters`)
  if (!uri.isWellFormed()) return err('a lone surrogate in a URI')
  if (NEVER.test(uri)) return err('a control character, blank or backslash in a URI')
  const parts = PARTS.exec(uri)
  if (parts === null) return err('a URI without a scheme')
  const scheme = parts[1]!.toLowerCase()
  const query = parts[4] ?? ''
  const fragment = parts[5] ?? ''
  let authority = parts[2]
  let path = parts[3]!
  if (authority === undefined && scheme === 'file' && path.startsWith('/')) authority = ''
  if (SPECIAL.has(scheme) && !authority) return err(`a ${scheme} URI without a host`)
  if (authority === undefined && scheme === 'file') return err('a file URI with a relative path')
  if (authority !== undefined) {
    const host = normalizeAuthority(authority, scheme, isTemplate)
    if (!host.ok) return host
    authority = host.value
    const segments = normalizePath(path, scheme, isTemplate)
    if (!segments.ok) return segments
    path = segments.value
    if (path === '' && (SPECIAL.has(scheme) || scheme === 'file')) path = '/'
    // The parser of Rust, which Python's pydantic has, leaves the host out.
    if (scheme === 'file' && authority !== '' && FIRST_DRIVE.test(path)) return err('a drive letter behind a host')
  } else {
    if (SEGMENT_DOTS.test(path)) return err('dot segments in a URI without an authority')
    if (path.startsWith('/')) {
      const segments = normalizePath(path, scheme, isTemplate)
      if (!segments.ok) return segments
      path = segments.value
    } else {
      const opaque = recode(path, isTemplate, OPAQUE_KEEPS)
      if (opaque === undefined) return err('percent-encoding that is not UTF-8 text')
      path = opaque
    }
  }
  const keeps = SPECIAL.has(scheme) || scheme === 'file' ? SPECIAL_QUERY_KEEPS : QUERY_KEEPS
  const search = recode(query, isTemplate, keeps)
  const anchor = recode(fragment, isTemplate, QUERY_KEEPS)
  if (search === undefined || anchor === undefined) return err('percent-encoding that is not UTF-8 text')
  return ok(`${scheme}:${authority === undefined ? '' : `//${authority}`}${path}${search}${anchor}`)
}

/** Without its fragment, which some servers drop before they look a resource up; undefined when there is none. */
export function withoutFragment(normalized: string): string | undefined {
  const hash = normalized.indexOf('#')
  return hash < 0 ? undefined : normalized.slice(0, hash)
}

/** Without its query, which servers of files drop; undefined when there is none or the scheme gives it a meaning. */
export function withoutFileQuery(normalized: string): string | undefined {
  const query = normalized.startsWith('file:') ? normalized.indexOf('?') : -1
  return query < 0 ? undefined : normalized.slice(0, query)
}

/**
 * The same place to a server that goes where an address leads: without user information, without the dot behind the name
 * of a host; of a file without the host, which servers that open the path alone drop. Undefined when it is all the same.
 */
export function withoutDetour(normalized: string): string | undefined {
  const parts = LEADS_SOMEWHERE.exec(normalized)
  if (parts === null) return undefined
  const [whole, scheme, host, port = ''] = parts as unknown as [string, string, string, string | undefined]
  const start = scheme === 'file' ? 'file://' : `${scheme}://${host}${port}`
  return start === whole ? undefined : start + normalized.slice(whole.length)
}

const LEADS_SOMEWHERE = /^(file|https?|wss?|ftp):\/\/(?:[^/?#@]*@)?([^/?#@]*?)\.?(:\d+)?(?=[/?#]|$)/

const LONGEST_URI = 8192

/** Already normal: no escapes, no upper case before the path, no port, no user, no query; dots are looked at apart. */
const PLAIN =
  /^(?!file:|https?:|wss?:|ftp:)[a-z][a-z0-9+.-]*:\/\/[a-z][a-z0-9._-]*(?:\/[A-Za-z0-9_~.-]+)*$|^file:\/\/(?:\/[A-Za-z0-9_~.-]+)+$/
const DOTS = /\/\.{1,2}(?:\/|$)/
const SEGMENT_DOTS = /(?:^|\/)(?:\.|%2e){1,2}(?:\/|;|$)/i
const NEVER = /[\p{Cc}\s\\]/u
const PARTS = /^([A-Za-z][A-Za-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/
/** Schemes for which WHATWG has rules of its own. */
const SPECIAL = new Set(['http', 'https', 'ws', 'wss', 'ftp'])
const DEFAULT_PORTS: Readonly<Record<string, string>> = { http: '80', https: '443', ws: '80', wss: '443', ftp: '21' }

const HOST = /^(?:[A-Za-z0-9._~!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])$/
const TEMPLATE_HOST = /^[A-Za-z0-9._:{}+,*-]*\{[A-Za-z0-9._:{}+,*-]*$/
const OUTSIDE_BRACES = /(?:^|\})[^{]*/g
/** A last label that WHATWG reads as part of an IPv4 address. */
const NUMERIC_END = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/i
const DOTTED_QUAD = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/
const DRIVE = /\/[A-Za-z](?::|%7C)(?:\/|$)/
const FIRST_DRIVE = /^\/[A-Za-z]:(?:\/|$)/

function normalizeAuthority(authority: string, scheme: string, isTemplate: boolean): Result<string, string> {
  // Variables of a template have a case, and what they stand for is not known.
  if (isTemplate && TEMPLATE_HOST.test(authority))
    return ok(authority.replace(OUTSIDE_BRACES, part => part.toLowerCase()))
  const at = authority.indexOf('@')
  if (at !== authority.lastIndexOf('@')) return err('several "@" in a URI')
  const user = at < 0 ? '' : authority.slice(0, at + 1)
  const rest = authority.slice(at + 1)
  if (user !== '' && !USER.test(user)) return err('user information in a URI that parsers read differently')
  const bracket = rest.lastIndexOf(']')
  const colon = rest.indexOf(':', bracket + 1)
  const host = (colon < 0 ? rest : rest.slice(0, colon)).toLowerCase()
  let port = colon < 0 ? '' : rest.slice(colon + 1)
  if (!HOST.test(host)) return err('a host in a URI that parsers read differently')
  if (port !== '' && (!/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535))
    return err('a port in a URI that parsers read differently')
  if (host === '' && (user !== '' || colon >= 0)) return err('a URI without a host')
  if (scheme === 'file' && (user !== '' || colon >= 0)) return err('a file URI with a port or user')
  // The same host to who looks it up; a rule about the host would not know it.
  if (scheme === 'file' && host.endsWith('.')) return err('a dot behind the host of a file URI')
  if (/^\.{1,2}$/.test(host)) return err('a host of dots in a URI')
  if (SPECIAL.has(scheme) || scheme === 'file') {
    if (host.startsWith('[') && !isCanonicalV6(host))
      return err('an IPv6 address in a notation that parsers read differently')
    if (NUMERIC_END.test(host) && !DOTTED_QUAD.test(host))
      return err('an IPv4 address in a notation that parsers read differently')
    if (/[!$&'()+,;=~]|\.\.|^\./.test(host)) return err('a host in a URI that parsers read differently')
  }
  if (port === DEFAULT_PORTS[scheme]) port = ''
  if (scheme === 'file' && host === 'localhost') return ok('')
  return ok(`${user}${host}${port === '' ? '' : `:${port}`}`)
}

const USER = /^[A-Za-z0-9._~!$&'()*+,;=:-]*@$/

/** Lower case without leading zeros and with the longest run of zero groups left out, as RFC 5952 writes it. */
function isCanonicalV6(host: string): boolean {
  try {
    return new URL(`http://${host}/`).hostname === host
  } catch {
    return false
  }
}

function normalizePath(path: string, scheme: string, isTemplate: boolean): Result<string, string> {
  if (/%(?:2f|5c)/i.test(path)) return err('an encoded slash in the path of a URI')
  if (/%25(?:2[0-9a-f]|5c)/i.test(path)) return err('a path that is encoded twice in a URI')
  const recoded = recode(path, isTemplate, PATH_KEEPS)
  if (recoded === undefined) return err('percent-encoding that is not UTF-8 text')
  // `..;x` is `..` to servers that cut path parameters off first.
  if (/(?:^|\/)\.{1,2};/.test(recoded)) return err('a dot segment with parameters in a URI')
  if (scheme === 'file') {
    if (recoded.includes('//')) return err('an empty segment in a file URI')
    // WHATWG reads it as a colon.
    if (/^\/[A-Za-z]%7C(?:\/|$)/.test(recoded)) return err('a drive letter with "|" in a URI')
  }
  // WHATWG keeps `..` from climbing over the drive of a file URI, and the parser of Rust over one in any URI.
  if (DRIVE.test(recoded) && DOTS.test(recoded)) return err('dot segments beside a drive letter')
  return ok(removeDots(recoded))
}

/** RFC 3986 §5.2.4 for a path that is empty or begins with a slash. */
function removeDots(path: string): string {
  if (!DOTS.test(path)) return path
  const out: string[] = []
  const segments = path.split('/')
  for (let i = 1; i < segments.length; i++) {
    const segment = segments[i]!
    const isDots = segment === '.' || segment === '..'
    if (segment === '..') out.pop()
    if (!isDots) out.push(segment)
    else if (i === segments.length - 1) out.push('')
  }
  return `/${out.join('/')}`
}

/** Runs of characters that stand for themselves. */
const PATH_KEEPS = /[A-Za-z0-9._~!$&'()*+,;=:@/-]+/y
const OPAQUE_KEEPS = PATH_KEEPS
const QUERY_KEEPS = /[A-Za-z0-9._~!$&'()*+,;=:@/?#-]+/y
/** WHATWG encodes the apostrophe there. */
const SPECIAL_QUERY_KEEPS = /[A-Za-z0-9._~!$&()*+,;=:@/?#-]+/y
const UNRESERVED = /^[A-Za-z0-9._~-]$/

/** One spelling for every character; undefined when the escapes are malformed, no UTF-8, or hide control characters. */
function recode(text: string, isTemplate: boolean, keeps: RegExp): string | undefined {
  let out = ''
  for (let i = 0; i < text.length; ) {
    keeps.lastIndex = i
    if (keeps.test(text)) {
      out += text.slice(i, keeps.lastIndex)
      i = keeps.lastIndex
      continue
    }
    const c = text[i]!
    if (c === '%') {
      ESCAPES.lastIndex = i
      if (!ESCAPES.test(text)) return undefined
      const decoded = decode(text.slice(i, ESCAPES.lastIndex))
      if (decoded === undefined || CONTROL.test(decoded)) return undefined
      for (const d of decoded) out += UNRESERVED.test(d) ? d : encode(d)
      i = ESCAPES.lastIndex
    } else if (isTemplate && (c === '{' || c === '}')) {
      out += c
      i++
    } else {
      const d = String.fromCodePoint(text.codePointAt(i)!)
      out += encode(d)
      i += d.length
    }
  }
  return out
}

const ESCAPES = /(?:%[0-9A-Fa-f]{2})+/y
const CONTROL = /\p{Cc}/u

function decode(run: string): string | undefined {
  try {
    return decodeURIComponent(run)
  } catch {
    return undefined
  }
}

function encode(char: string): string {
  return encodeURIComponent(char).replace(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

import type { JsonValue } from '../json.ts'
import type { Pattern } from './pattern.ts'
import { NO, type Truth, UNKNOWN, YES } from './truth.ts'

/**
 * Whether an argument is a URL whose host is on the list. The host is read by hand and by the WHATWG parser; where the
 * two differ (a number for an address, other alphabets, a backslash) other parsers differ as well, and it is unknown.
 */
export function hostIn(hosts: readonly Pattern[], value: JsonValue): Truth {
  if (typeof value !== 'string') return UNKNOWN
  const host = readHost(value)
  if (host === undefined) return UNKNOWN
  for (const pattern of hosts) if (pattern.matches(host)) return YES
  return NO
}

/**
 * The host of an absolute http(s) or ws(s) URL in lower case, an IPv6 address in its brackets.
 *
 * @returns  Undefined when there is none, or when two parsers could see two hosts.
 */
export function readHost(text: string): string | undefined {
  const scheme = SCHEMES.find(
    start => text.length > start.length && text.slice(0, start.length).toLowerCase() === start,
  )
  if (scheme === undefined || text.length > LONGEST_URL || !isPlain(text)) return undefined
  const host = authorityOf(text, scheme.length).replace(PORT, '').toLowerCase()
  if (!HOST.test(host)) return undefined
  try {
    return new URL(text).hostname === host ? host : undefined
  } catch {
    return undefined
  }
}

const SCHEMES = ['http://', 'https://', 'ws://', 'wss://']
const LONGEST_URL = 8192
const PORT = /:[0-9]{1,5}$/
// A trailing dot, an underscore at the end, user information: all of them are read differently here and there.
const HOST = /^(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])$/

function authorityOf(text: string, from: number): string {
  let end = from
  for (; end < text.length; end++) {
    const code = text.charCodeAt(end)
    if (code === 0x2f || code === 0x3f || code === 0x23) break
  }
  return text.slice(from, end)
}

/** No blanks, no controls, no backslash, nothing beyond ASCII. */
function isPlain(text: string): boolean {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code <= 0x20 || code >= 0x7f || code === 0x5c) return false
  }
  return true
}

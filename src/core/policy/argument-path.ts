import type { JsonValue } from '../json.ts'
import type { PathPrefix } from './arguments.ts'
import { NO, type Truth, UNKNOWN, YES } from './truth.ts'

/**
 * Whether an argument, normalised as a path, is the place that the prefix names or lies below it, segment by segment:
 * `/srv/docs` covers `/srv/docs/a` and not `/srv/docs-old`.
 *
 * Unknown: whatever two servers could take for two different places. A path is resolved by its letters alone; symbolic
 * links of the server's file system are beyond what a sidecar can see.
 */
export function pathWithin(prefix: PathPrefix, value: JsonValue): Truth {
  if (typeof value !== 'string') return UNKNOWN
  const path = readPath(value)
  // Where a relative path begins, only the server knows.
  if (typeof path === 'string' || path.isAbsolute !== prefix.isAbsolute) return UNKNOWN
  for (let at = 0; at < prefix.segments.length; at++) {
    if (path.segments[at] !== prefix.segments[at]) return NO
  }
  return YES
}

/**
 * Takes a path apart: `.` and doubled slashes go, `..` takes back one segment.
 *
 * @returns  The path, or why it can be read in more than one way.
 */
export function readPath(text: string): PathPrefix | string {
  const ambiguity = ambiguityOf(text)
  if (ambiguity !== undefined) return ambiguity
  const segments: string[] = []
  for (const segment of text.split('/')) {
    if (segment === '' || segment === '.') continue
    if (segment !== '..') segments.push(segment)
    else if (segments.pop() === undefined) return 'it climbs above where it begins'
  }
  return { isAbsolute: text.startsWith('/'), segments }
}

function ambiguityOf(text: string): string | undefined {
  if (text === '') return 'it is empty'
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code < 0x20 || code === 0x7f) return 'it contains a control character'
    if (code === 0x5c) return 'it contains a backslash, which is a separator to some'
    if (code === 0x25 && isHex(text.charCodeAt(at + 1)) && isHex(text.charCodeAt(at + 2))) {
      return 'it contains percent-encoding, which some decode'
    }
    if (code > 0x7f)
      return foldsToSyntax(text) ? 'it contains a character that some fold to / . \\ or %' : wrongStart(text)
  }
  return wrongStart(text)
}

function wrongStart(text: string): string | undefined {
  if (text.startsWith('//')) return 'it begins with two slashes, which names a host to some'
  if (text.startsWith('~')) return 'it begins with a tilde, which some expand'
  const colon = text.indexOf(':')
  const slash = text.indexOf('/')
  if (colon > 0 && (slash < 0 || colon < slash)) return 'it begins with a scheme or a drive'
  return undefined
}

/** Fullwidth and other compatibility forms: `／`, `．`, `‥`, `％`. */
function foldsToSyntax(text: string): boolean {
  return (
    countSyntax(text.normalize('NFKC')) !== countSyntax(text) || /[\u2044\u2215\u29f8\u{e0000}-\u{e007f}]/u.test(text)
  )
}

function countSyntax(text: string): number {
  let count = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x2f || code === 0x2e || code === 0x5c || code === 0x25) count++
  }
  return count
}

function isHex(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)
}

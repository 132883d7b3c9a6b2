import { compileSegmentGlob, type Glob } from './glob.ts'
import type { Refusal } from './refusal.ts'
import { err, ok, type Result } from './result.ts'

/** The configured paths, ready to match. */
export interface PathTable {
  /** Exact paths, the usual case. */
  readonly exact: ReadonlySet<string>
  readonly globs: readonly { readonly path: string; readonly matches: Glob }[]
}

/** `upstream.paths`: exact, or with `*` within a segment and `**` across. */
export function compilePaths(paths: readonly string[]): PathTable {
  return {
    exact: new Set(paths.filter(path => !path.includes('*'))),
    globs: paths.filter(path => path.includes('*')).map(path => ({ path, matches: compileSegmentGlob(path, '/') })),
  }
}

/** @returns the entry of `upstream.paths` that the path matches. */
export function matchPath(table: PathTable, path: string): string | undefined {
  if (table.exact.has(path)) return path
  for (const glob of table.globs) if (glob.matches(path)) return glob.path
  return undefined
}

/** A request target that can be read in one way only. */
export interface Target {
  readonly path: string
  /** Without the question mark; undefined when there is none. */
  readonly query: string | undefined
  /** Session id of the HTTP+SSE transport, as the query names it. */
  readonly session: string | undefined
}

/**
 * Splits an origin-form target and refuses what a server might normalise into another path: dot segments, encoded
 * slashes and dots, backslashes, empty segments, anything but visible ASCII.
 *
 * @source RFC 9112 §3.2.1 (origin-form), RFC 3986 §5.2.4 (dot segments); RFC 6750 §5.3 (no tokens in the query).
 */
export function readTarget(target: string): Result<Target, Refusal> {
  if (target.charCodeAt(0) !== SLASH) return malformed('not in origin form')
  for (let i = 0; i < target.length; i++) {
    const code = target.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f || code === BACKSLASH || code === HASH)
      return malformed('a character that may not be there')
  }
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  if (path.includes('//')) return malformed('empty segment')
  if (path.includes('/.') && DOT_SEGMENT.test(path)) return malformed('dot segment')
  if (path.includes('%') && ENCODED.test(path)) return malformed('encoded slash, backslash, dot or control')
  if (path.includes(';')) return malformed('path parameter')
  if (mark < 0) return ok({ path, query: undefined, session: undefined })

  const query = target.slice(mark + 1)
  let session: string | undefined
  for (const pair of query.split('&')) {
    const name = decoded(pair.split('=', 1)[0] as string)
    if (name === undefined) return malformed('percent-encoding in the query')
    const meant = foldParameter(name)
    if (meant === 'accesstoken') return err({ reason: 'request_token_in_query' })
    if (meant === 'sessionid') {
      if (!PLAIN_PARAMETER.test(name)) return malformed('session id under a name that can be read in another way')
      const value = decoded(pair.slice(pair.indexOf('=') + 1))
      if (session !== undefined || value === undefined || value === '') return malformed('session id repeated or empty')
      session = value
    }
    // Some servers take a semicolon for an ampersand: what stands behind one must not be a name that matters.
    if (pair.includes(';') && hidesParameter(pair)) return malformed('a semicolon beside a session id or a token')
  }
  return ok({ path, query, session })
}

const SLASH = 0x2f
const BACKSLASH = 0x5c
const HASH = 0x23
const DOT_SEGMENT = /\/\.{1,2}(?:\/|$)/
const ENCODED = /%(?:2[ef]|5c|[01][0-9a-f]|7f|25|(?![0-9a-f]{2}))/i

/**
 * A parameter's name as the least careful server reads it: `sessionId[]` and `sessionId[0]` make a list that is used as
 * text again (qs, PHP, Rack), and what is neither letter nor digit is dropped or folded.
 */
function foldParameter(name: string): string {
  const bracket = name.indexOf('[')
  return (bracket < 0 ? name : name.slice(0, bracket)).toLowerCase().replaceAll(/[^a-z0-9]/g, '')
}

const PLAIN_PARAMETER = /^[A-Za-z_.-]+$/

function hidesParameter(pair: string): boolean {
  const parts = pair.split(';')
  return parts.some(part => {
    const name = decoded(part.split('=', 1)[0] as string)
    const meant = name === undefined ? '' : foldParameter(name)
    return meant === 'sessionid' || meant === 'accesstoken'
  })
}

function malformed(detail: string): Result<never, Refusal> {
  return err({ reason: 'request_path_malformed', detail })
}

function decoded(text: string): string | undefined {
  if (!text.includes('%') && !text.includes('+')) return text
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

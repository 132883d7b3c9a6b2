import { compileGlob, compileSegmentGlob, type Glob } from '../glob.ts'
import { normalizeUri } from '../mcp/uri.ts'
import { ok, type Result } from '../result.ts'

/** A pattern of the policy, with what an index needs to know of it. */
export interface Pattern {
  readonly text: string
  /** What every match begins with; the whole text when `exact`. */
  readonly prefix: string
  /** There is no `*` in it: it is a name. */
  readonly exact: boolean
  readonly matches: Glob
}

/** `*` is any run of characters: methods, tools, prompts, users, orgs, roles, scopes. */
export function wordPattern(text: string): Pattern {
  return patternOf(text, compileGlob(text))
}

/** `*` stays within a segment, `**` crosses: URIs of resources and peers (`/`), host names (`.`). */
export function segmentPattern(text: string, separator: '/' | '.'): Pattern {
  return patternOf(text, compileSegmentGlob(text, separator))
}

function patternOf(text: string, matches: Glob): Pattern {
  const star = text.indexOf('*')
  return { text, prefix: star < 0 ? text : text.slice(0, star), exact: star < 0, matches }
}

/**
 * A pattern of resource URIs. Rules meet URIs in their normal form, so the pattern is brought into it as well.
 *
 * @returns  The pattern, or why no URI could ever match it.
 */
export function resourcePattern(text: string): Result<Pattern, string> {
  const normal = normalizeUri(text)
  if (normal.ok) return ok(segmentPattern(normal.value, '/'))
  // A star in the place of scheme or authority stands for many URIs and is none itself.
  return OPEN_START.test(text) ? ok(segmentPattern(text, '/')) : normal
}

const OPEN_START = /^(?:[a-z][a-z0-9+.-]*(?::\/{0,3})?)?\*/

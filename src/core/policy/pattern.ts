import { compileGlob, compileSegmentGlob, type Glob } from '../glob.ts'

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

/** Rules meet normalised URIs, whose scheme and host are in lower case, so a pattern has to be too. */
export function lowerAuthority(pattern: string): string {
  const start = /^[A-Za-z][A-Za-z0-9+.-]*:(?:\/\/[^/?#]*)?/.exec(pattern)?.[0] ?? ''
  return start.toLowerCase() + pattern.slice(start.length)
}

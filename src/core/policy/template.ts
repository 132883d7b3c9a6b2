import type { Caller } from '../identity/caller.ts'
import { normalizeUri } from '../mcp/uri.ts'
import type { CompiledPolicy } from './compile.ts'
import { argsHold, objectHolds, type Question, restHolds } from './rule.ts'
import { NO, YES } from './truth.ts'

/**
 * Whether this caller may read at least one resource that a URI template stands for, and no deny rule covers them all:
 * what `resources/templates/list` shows.
 *
 * @param uriTemplate  As the upstream lists it; one longer than 2048 characters is not shown.
 * @source RFC 6570: `{x}` expands without a slash, `{+x}`, `{/x}` and the other operators may bring some.
 */
export function visibleTemplate(policy: CompiledPolicy, caller: Caller, uriTemplate: string): boolean {
  if (policy.mode === 'shadow') return true
  if (uriTemplate.length > LONGEST) return false
  const normal = normalizeUri(uriTemplate, true)
  const template = normal.ok ? normal.value : uriTemplate
  const question: Question = {
    caller,
    method: 'resources/read',
    subject: 'resource',
    name: inWorstCase(template),
    args: undefined,
    lookalikes: undefined,
    regardless: 'arguments',
  }
  const live = policy.rules.filter(rule => !rule.shadow)
  const hides = live.some(
    rule =>
      rule.effect === 'deny' &&
      objectHolds(rule, question) !== NO &&
      restHolds(rule, question) !== NO &&
      argsHold(rule, question) !== NO,
  )
  if (hides) return false
  if (policy.default === 'allow') return true
  const parts = templateParts(template)
  return live.some(
    rule =>
      rule.effect === 'allow' &&
      rule.resources?.some(pattern => canMeet(patternParts(pattern.text), parts)) === true &&
      restHolds(rule, question) === YES,
  )
}

const LONGEST = 2048
const EXPRESSION = /\{([^{}]*)\}/g

/** Each expression as a text that only a star can take up, so that a deny covers it only if it covers every expansion. */
function inWorstCase(template: string): string {
  return template.replace(EXPRESSION, (_, body: string) => (staysInSegment(body) ? '\u0000' : '\u0000/\u0000'))
}

function staysInSegment(expression: string): boolean {
  return /^[A-Za-z0-9_.%,:]+$/.test(expression)
}

/** A letter, or a run of any: within its segment or across. */
type Part = string | typeof WITHIN | typeof ACROSS
const WITHIN = 0
const ACROSS = 1

function patternParts(pattern: string): Part[] {
  return (pattern.match(/\*+|[^*]/g) ?? []).map(token =>
    token === '*' ? WITHIN : token.startsWith('*') ? ACROSS : token,
  )
}

function templateParts(template: string): Part[] {
  const parts: Part[] = []
  let at = 0
  for (const match of template.matchAll(EXPRESSION)) {
    parts.push(...template.slice(at, match.index).split(''))
    parts.push(staysInSegment(match[1] as string) ? WITHIN : ACROSS)
    at = match.index + match[0].length
  }
  parts.push(...template.slice(at).split(''))
  return parts
}

/** Whether any text is described by both. Each pair of places is visited once: time and memory are their product. */
function canMeet(a: readonly Part[], b: readonly Part[]): boolean {
  const width = b.length + 1
  const reached = new Uint8Array((a.length + 1) * width)
  reached[0] = 1
  for (let i = 0; i <= a.length; i++) {
    for (let j = 0; j <= b.length; j++) {
      if (reached[i * width + j] === 0) continue
      const x = a[i]
      const y = b[j]
      // A run may be empty, or take up what the other has here. Where both are runs, one of them can be empty.
      if (typeof x === 'number') {
        reached[(i + 1) * width + j] = 1
        if (typeof y === 'number' || takesUp(x, y)) reached[i * width + j + 1] = 1
      }
      if (typeof y === 'number') {
        reached[i * width + j + 1] = 1
        if (typeof x === 'number' || takesUp(y, x)) reached[(i + 1) * width + j] = 1
      }
      if (typeof x === 'string' && x === y) reached[(i + 1) * width + j + 1] = 1
    }
  }
  return reached[a.length * width + b.length] === 1
}

function takesUp(run: typeof WITHIN | typeof ACROSS, letter: string | undefined): boolean {
  return letter !== undefined && (run === ACROSS || letter !== '/')
}

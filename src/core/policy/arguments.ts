import type { ArgumentConstraint } from '../../config/config.ts'
import type { JsonObject, JsonValue } from '../json.ts'
import { foldName as foldLetters, LONGEST_FOLDED } from '../mcp/fold.ts'
import { hostIn } from './argument-host.ts'
import { pathWithin } from './argument-path.ts'
import type { Pattern } from './pattern.ts'
import { NO, type Truth, UNKNOWN, YES } from './truth.ts'

/** A constraint of a rule on one argument, ready to be asked. */
export interface ArgumentCondition {
  /** As the policy spells it; an argument of exactly this name is meant, and the place that the dots lead to. */
  readonly name: string
  readonly path: readonly string[]
  readonly constraint: ArgumentConstraint
  /** Segments that the argument must begin with, when `prefix` is given. */
  readonly prefix: PathPrefix | undefined
  readonly hosts: readonly Pattern[] | undefined
  readonly pattern: WholeMatch | undefined
}

export interface PathPrefix {
  readonly isAbsolute: boolean
  readonly segments: readonly string[]
}

/** Says whether a regular expression matches a whole text, in linear time. */
export type WholeMatch = (text: string) => boolean

/** Longer texts are not matched against patterns: linear time is not yet little time. UTF-16 units. */
const LONGEST_FOR_PATTERN = 16_384

/**
 * Whether all constraints hold. An argument that is absent holds unless `required`; one that cannot be judged (another
 * type, a path or URL that can be read in two ways, a name that a lenient server folds onto the constrained one) is
 * unknown.
 *
 * @param lookalikes  From `lookalikesOf`; undefined when there are none.
 */
export function argumentsHold(
  conditions: readonly ArgumentCondition[],
  args: JsonObject | undefined,
  lookalikes: Lookalikes | undefined,
): Truth {
  let truth: Truth = YES
  for (const condition of conditions) {
    truth = least(truth, argumentHolds(condition, args, lookalikes))
    if (truth === NO) return NO
  }
  return truth
}

export function argumentHolds(
  condition: ArgumentCondition,
  args: JsonObject | undefined,
  lookalikes: Lookalikes | undefined,
): Truth {
  const whenAbsent = condition.constraint.required === true ? NO : YES
  if (args === undefined) return whenAbsent
  if (lookalikes !== undefined && isDoubted(condition, lookalikes)) return UNKNOWN
  const literal = Object.hasOwn(args, condition.name) ? args[condition.name] : undefined
  const inner = condition.path.length > 1 ? followDots(condition.path, args) : undefined
  if (inner === LOST || (literal !== undefined && inner !== undefined)) return UNKNOWN
  const value = literal !== undefined ? literal : inner
  return value === undefined ? whenAbsent : valueHolds(condition, value)
}

const LOST = Symbol('a value that a server may find and we cannot')

/** Undefined: nothing is there. */
function followDots(path: readonly string[], args: JsonObject): JsonValue | undefined | typeof LOST {
  let at: JsonValue = args
  for (const name of path) {
    // A list or a text where an object should be: the server may look into it, we do not know how.
    if (typeof at !== 'object' || at === null || Array.isArray(at)) return LOST
    if (at !== args && hasLookalike(at, name)) return LOST
    if (!Object.hasOwn(at, name)) return undefined
    at = at[name] as JsonValue
  }
  return at
}

/** Whether one value satisfies every part of the constraint. */
function valueHolds(condition: ArgumentCondition, value: JsonValue): Truth {
  const { constraint } = condition
  let truth: Truth = YES
  if (constraint.equals !== undefined) truth = least(truth, equalsOneOf(value, [constraint.equals]))
  if (constraint.enum !== undefined) truth = least(truth, equalsOneOf(value, constraint.enum))
  if (constraint.min !== undefined || constraint.max !== undefined) truth = least(truth, inRange(constraint, value))
  if (constraint.minLength !== undefined || constraint.maxLength !== undefined) {
    truth = least(truth, lengthInRange(constraint, value))
  }
  if (condition.prefix !== undefined) truth = least(truth, pathWithin(condition.prefix, value))
  if (condition.hosts !== undefined) truth = least(truth, hostIn(condition.hosts, value))
  if (condition.pattern !== undefined) truth = least(truth, matchesWhole(condition.pattern, value))
  return truth
}

function least(a: Truth, b: Truth): Truth {
  return a < b ? a : b
}

/** Servers turn `"5"` into 5 and `"true"` into true; a value of another type than the listed ones settles nothing. */
function equalsOneOf(value: JsonValue, listed: readonly (string | number | boolean | null)[]): Truth {
  let isComparable = true
  for (const one of listed) {
    if (value === one) return YES
    if (typeof value !== typeof one || value === null || one === null) isComparable = false
  }
  return isComparable ? NO : UNKNOWN
}

function inRange({ min, max }: ArgumentConstraint, value: JsonValue): Truth {
  if (typeof value !== 'number') return UNKNOWN
  return (min === undefined || value >= min) && (max === undefined || value <= max) ? YES : NO
}

/** A text's length is counted in Unicode code points, as JSON Schema does; a list's in entries. */
function lengthInRange({ minLength, maxLength }: ArgumentConstraint, value: JsonValue): Truth {
  if (typeof value !== 'string' && !Array.isArray(value)) return UNKNOWN
  const length = typeof value === 'string' ? codePoints(value) : value.length
  return (minLength === undefined || length >= minLength) && (maxLength === undefined || length <= maxLength) ? YES : NO
}

function codePoints(text: string): number {
  let pairs = 0
  for (let at = 1; at < text.length; at++) {
    const isLow = (text.charCodeAt(at) & 0xfc00) === 0xdc00
    if (isLow && (text.charCodeAt(at - 1) & 0xfc00) === 0xd800) pairs++
  }
  return text.length - pairs
}

function matchesWhole(pattern: WholeMatch, value: JsonValue): Truth {
  if (typeof value !== 'string' || value.length > LONGEST_FOR_PATTERN) return UNKNOWN
  return pattern(value) ? YES : NO
}

/** Names that arguments really have, by the form that a lenient server may fold them to. */
export type Lookalikes = ReadonlyMap<string, readonly string[]>

/**
 * Names among the arguments that fold onto a constrained name without being it: a server that matches keys without
 * regard to case (Go's encoding/json does), or that takes `userId` for `user_id`, would read one where the rule looked
 * for the other.
 *
 * @returns  Undefined when no argument can be mistaken for a constrained one.
 */
export function lookalikesOf(constrained: ConstrainedNames, args: JsonObject): Lookalikes | undefined {
  let found: Map<string, string[]> | undefined
  for (const name of Object.keys(args)) {
    if (constrained.plain.has(name) || !mayFold(constrained, name)) continue
    const folded = foldName(name)
    if (!constrained.folded.has(folded)) continue
    found ??= new Map()
    const names = found.get(folded)
    if (names === undefined) found.set(folded, [name])
    else names.push(name)
  }
  return found
}

/** The argument names that a policy constrains, arranged for `lookalikesOf`. */
export interface ConstrainedNames {
  /** Spellings that are the only constrained one of their folded form. */
  readonly plain: ReadonlySet<string>
  readonly folded: ReadonlySet<string>
  readonly lengths: ReadonlySet<number>
}

/** Undefined when nothing is constrained. */
export function constrainedNames(conditions: Iterable<ArgumentCondition>): ConstrainedNames | undefined {
  const spellings = new Map<string, Set<string>>()
  for (const { name, path } of conditions) {
    for (const spelling of [name, path[0] as string]) {
      const folded = foldName(spelling)
      spellings.set(folded, (spellings.get(folded) ?? new Set()).add(spelling))
    }
  }
  if (spellings.size === 0) return undefined
  const plain = [...spellings.values()].filter(names => names.size === 1).flatMap(names => [...names])
  const folded = new Set(spellings.keys())
  return { plain: new Set(plain), folded, lengths: new Set([...folded].map(name => name.length)) }
}

/** What a parser may take a name for, and what some servers drop or swap between the words of one: `userId`, `user-id`. */
function foldName(name: string): string {
  const bare = name.replace(BETWEEN_WORDS, '')
  // Folding only ever lengthens what is left, so a name that is too long here is that of no constrained argument.
  return foldLetters(bare.length > LONGEST_FOLDED ? bare.slice(0, LONGEST_FOLDED + 1) : bare)
}

const BETWEEN_WORDS = /[\s_\-\p{M}\p{C}]/gu

/** Whether folding could do anything at all: letters and digits keep their number, so the length tells. */
function mayFold(constrained: ConstrainedNames, name: string): boolean {
  if (constrained.lengths.has(name.length)) return true
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at)
    const isAlphanumeric = (code >= 97 && code <= 122) || (code >= 65 && code <= 90) || (code >= 48 && code <= 57)
    if (!isAlphanumeric) return true
  }
  return false
}

function isDoubted(condition: ArgumentCondition, lookalikes: Lookalikes): boolean {
  const isOther = (spelling: string) => lookalikes.get(foldName(spelling))?.some(name => name !== spelling) === true
  return isOther(condition.name) || (condition.path.length > 1 && isOther(condition.path[0] as string))
}

function hasLookalike(object: JsonObject, name: string): boolean {
  const folded = foldName(name)
  return Object.keys(object).some(key => key !== name && foldName(key) === folded)
}

import type { ArgumentConstraint } from '../../config/config.ts'
import type { Result } from '../result.ts'
import { readPath } from './argument-path.ts'
import type { ArgumentCondition, WholeMatch } from './arguments.ts'
import { segmentPattern } from './pattern.ts'
import type { PolicyProblem } from './problem.ts'

/** Compiles one regular expression of RE2 syntax; the error is what is wrong with it. */
export type PatternEngine = (source: string) => Result<WholeMatch, string>

/** Compiles the `args` of one rule; what is wrong is added to `problems`. */
export function compileArguments(
  args: Readonly<Record<string, ArgumentConstraint>>,
  path: string,
  engine: PatternEngine | undefined,
  problems: PolicyProblem[],
): ArgumentCondition[] {
  return Object.entries(args).map(([name, constraint]) => {
    const at = `${path}${/^[\w-]+$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`}`
    const problem = (key: string, message: string) => problems.push({ path: key === '' ? at : `${at}.${key}`, message })
    const steps = name.split('.')
    if (steps.some(step => step === '')) problem('', 'a name between two dots is empty')
    checkNumbers(constraint, problem)
    return {
      name,
      path: steps,
      constraint,
      prefix: compilePrefix(constraint.prefix, problem),
      hosts: compileHosts(constraint.hosts, problem),
      pattern: compilePattern(constraint.pattern, engine, problem),
    }
  })
}

type Report = (key: string, message: string) => void

function checkNumbers(constraint: ArgumentConstraint, problem: Report): void {
  const { min, max, minLength, maxLength } = constraint
  if (Object.values(constraint).every(part => part === undefined)) problem('', 'nothing is asked of this argument')
  if (constraint.enum?.length === 0) problem('enum', 'the list is empty, so no value would do')
  for (const [key, bound] of Object.entries({ min, max })) {
    if (bound !== undefined && !Number.isFinite(bound)) problem(key, 'must be a finite number')
    // Beyond this, two numbers that differ on the wire can be the same once they are read.
    else if (bound !== undefined && Math.abs(bound) > Number.MAX_SAFE_INTEGER) problem(key, 'is too large to be exact')
  }
  for (const [key, length] of Object.entries({ minLength, maxLength })) {
    if (length !== undefined && !(Number.isSafeInteger(length) && length >= 0)) problem(key, 'must be a whole number')
  }
  if (min !== undefined && max !== undefined && min > max) problem('max', 'is smaller than min, so no value would do')
  if (minLength !== undefined && maxLength !== undefined && minLength > maxLength) {
    problem('maxLength', 'is smaller than minLength, so no value would do')
  }
}

function compilePrefix(prefix: string | undefined, problem: Report): ArgumentCondition['prefix'] {
  if (prefix === undefined) return undefined
  const path = readPath(prefix)
  if (typeof path !== 'string') return path
  problem('prefix', `is no path that has one meaning: ${path}`)
  return { isAbsolute: true, segments: [] }
}

const HOST_PATTERN = /^(?:[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*|\[[0-9a-f:.]+\])$/

function compileHosts(hosts: readonly string[] | undefined, problem: Report): ArgumentCondition['hosts'] {
  if (hosts?.length === 0) problem('hosts', 'the list is empty, so no host would do')
  return hosts?.map((host, index) => {
    const lower = host.toLowerCase()
    if (!HOST_PATTERN.test(lower)) {
      problem(`hosts[${index}]`, 'is no host: give a name or an address, without scheme, port or path')
    }
    return segmentPattern(lower, '.')
  })
}

function compilePattern(
  source: string | undefined,
  engine: PatternEngine | undefined,
  problem: Report,
): WholeMatch | undefined {
  if (source === undefined) return undefined
  const compiled = engine?.(source)
  if (compiled?.ok) return compiled.value
  problem('pattern', compiled?.error ?? 'patterns cannot be compiled here: no pattern engine was given')
  return undefined
}

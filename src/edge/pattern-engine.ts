import type { PolicyConfig } from '../config/config.ts'
import type { PatternEngine } from '../core/policy/compile-arguments.ts'
import { err, ok } from '../core/result.ts'

/**
 * The engine for `args.….pattern`, or undefined when no rule of the policy has one: it takes some 10 ms and 3 MB to
 * load, which a policy without patterns need not pay.
 *
 * @source RE2 syntax and its guarantee of linear time, https://github.com/google/re2/wiki/Syntax; package re2js.
 */
export async function patternEngineFor(policy: PolicyConfig): Promise<PatternEngine | undefined> {
  const isNeeded = policy.rules.some(rule => Object.values(rule.args ?? {}).some(arg => arg.pattern !== undefined))
  return isNeeded ? await loadPatternEngine() : undefined
}

export async function loadPatternEngine(): Promise<PatternEngine> {
  const { RE2JS } = await import('re2js')
  return source => {
    if (source.length > LONGEST_SOURCE) return err(`is longer than ${LONGEST_SOURCE} characters`)
    try {
      const compiled = RE2JS.compile(source)
      return ok(text => compiled.matches(text))
    } catch (error) {
      return err(error instanceof Error ? error.message : String(error))
    }
  }
}

/** A pattern's time for each character grows with its length. UTF-16 units. */
const LONGEST_SOURCE = 1000

import * as z from 'zod'
import type { JsonObject } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import type { CompiledPolicy } from './compile.ts'
import { visibleInLists } from './decide.ts'
import { explain } from './explain.ts'
import type { PolicyProblem } from './problem.ts'
import { type CallerSpec, type CallSpec, callerFor, messageFor, sayCall, sayCaller } from './specimen.ts'
import type { Verdict } from './verdict.ts'

/** What `policy test` runs: calls, who makes them, and what is to be decided of each. */
export interface Fixtures {
  /** The policy or configuration to test, relative to the fixtures' file. */
  readonly policy: string | undefined
  readonly config: string | undefined
  readonly cases: readonly Case[]
}

export interface Case {
  readonly name: string
  readonly caller: CallerSpec
  readonly call: CallSpec
  /** `allow`, `deny by no-delete`, `would deny`, `deny for scopes mcp.read mcp.write`; undefined: not asked. */
  readonly expect: string | undefined
  /** Whether lists show the object to this caller; undefined: not asked. */
  readonly visible: boolean | undefined
}

export interface CaseResult {
  readonly name: string
  readonly passed: boolean
  readonly caller: string
  readonly call: string
  /** Where it differs: what was expected, and what is so. */
  readonly differences: readonly { readonly expected: string; readonly actual: string }[]
  /** Why, for one that did not pass. */
  readonly because: readonly string[]
}

/**
 * Reads fixtures that were parsed from YAML or JSON.
 *
 * @returns  The cases, or every problem with its path (`cases[2].call`).
 */
export function readFixtures(value: unknown): Result<Fixtures, PolicyProblem[]> {
  const parsed = fixturesSchema.safeParse(value)
  if (!parsed.success) return err(parsed.error.issues.map(toProblem))
  const { callers, cases, policy, config } = parsed.data
  const problems: PolicyProblem[] = []
  const read = cases.map(({ name, caller, call, expect, visible }, index): Case => {
    const path = `cases[${index}]`
    const who = typeof caller === 'string' ? callers[caller] : caller
    if (typeof caller === 'string' && who === undefined) {
      problems.push({ path: `${path}.caller`, message: `no caller is called ${caller}` })
    }
    const message = messageFor(call as CallSpec)
    if (!message.ok) problems.push({ path: `${path}.call`, message: message.error })
    if (expect === undefined && visible === undefined) {
      problems.push({ path, message: 'nothing is expected: give expect or visible' })
    }
    if (visible !== undefined && message.ok && message.value.objects.length === 0) {
      problems.push({ path: `${path}.visible`, message: 'the call names no tool, prompt or resource to be seen' })
    }
    return {
      name: name ?? `${sayCaller(who ?? {})}: ${sayCall(call as CallSpec)}`,
      caller: who ?? {},
      call: call as CallSpec,
      expect,
      visible,
    }
  })
  return problems.length > 0 ? err(problems) : ok({ policy, config, cases: read })
}

export function runCase(policy: CompiledPolicy, one: Case): CaseResult {
  const message = messageFor(one.call)
  if (!message.ok) throw new Error(`a call that was read before cannot be read now: ${message.error}`)
  const caller = callerFor(one.caller)
  const { verdict, judged } = explain(policy, caller, message.value)
  const differences: { expected: string; actual: string }[] = []
  if (one.expect !== undefined && !isAsExpected(one.expect, verdict)) {
    differences.push({ expected: one.expect, actual: sayVerdict(verdict) })
  }
  const isVisible = visibleInLists(policy, caller, message.value)
  if (one.visible !== undefined && isVisible !== undefined) {
    if (isVisible !== one.visible) {
      const say = (shown: boolean) => (shown ? 'visible in lists' : 'not visible in lists')
      differences.push({ expected: say(one.visible), actual: say(isVisible) })
    }
  }
  const rules = judged.flatMap(({ rules }) => rules)
  return {
    name: one.name,
    passed: differences.length === 0,
    caller: sayCaller(one.caller),
    call: sayCall(one.call),
    differences,
    because: differences.length === 0 ? [] : rules.map(sayRule),
  }
}

/** `allow by readers`, `deny by default for scopes mcp.read`, `would deny by no-delete`. */
export function sayVerdict({ effect, rule, mode, missingScopes }: Verdict): string {
  const would = effect === 'deny' && mode === 'shadow' ? 'would ' : ''
  const scopes = missingScopes.length === 0 ? '' : ` for scopes ${missingScopes.join(' ')}`
  return `${would}${effect} by ${rule}${scopes}`
}

export function sayRule(report: {
  rule: string
  effect: string
  shadow: boolean
  decides: boolean
  matches: boolean
  because: readonly string[]
}): string {
  const { rule, effect, shadow, decides, matches, because } = report
  const what = `${effect} ${rule}${shadow ? ' (in shadow)' : ''}`
  if (!matches) return `${what}: does not match: ${because.join('; ')}`
  const unknown = because.length === 0 ? '' : `, because a deny also does where ${because.join('; ')}`
  return `${what}: ${decides ? 'decides' : 'matches too'}${unknown}`
}

/** What is expected may say less than the verdict: `deny` is any deny, `deny by x` any of that rule. */
function isAsExpected(expected: string, verdict: Verdict): boolean {
  const parts = EXPECTATION.exec(expected)
  if (parts === null) return false
  const [, would, effect, rule, scopes] = parts
  if (effect !== verdict.effect) return false
  if (effect === 'deny' && (would !== undefined) !== (verdict.mode === 'shadow')) return false
  if (rule !== undefined && rule !== verdict.rule) return false
  return scopes === undefined || scopes === verdict.missingScopes.join(' ')
}

const EXPECTATION = /^(would )?(allow|deny)(?: by (\S+))?(?: for scopes (.+))?$/

const texts = z.array(z.string()).optional()
const callerSchema = z.strictObject({
  peer: z.string().optional(),
  uri: z.string().optional(),
  user: z.string().optional(),
  org: z.string().optional(),
  scopes: texts,
  roles: texts,
})
const jsonObject = z.record(z.string(), z.json()).transform(value => value as JsonObject)
const fixturesSchema = z.strictObject({
  policy: z.string().optional(),
  config: z.string().optional(),
  callers: z.record(z.string(), callerSchema).default({}),
  cases: z
    .array(
      z.strictObject({
        name: z.string().optional(),
        caller: z.union([z.string(), callerSchema]).default({}),
        call: z.strictObject({
          tool: z.string().optional(),
          prompt: z.string().optional(),
          resource: z.string().optional(),
          method: z.string().optional(),
          args: jsonObject.optional(),
          params: jsonObject.optional(),
        }),
        expect: z
          .string()
          .regex(
            EXPECTATION,
            'expected "allow", "deny" or "would deny", then "by <rule>" and "for scopes <…>" if asked',
          )
          .optional(),
        visible: z.boolean().optional(),
      }),
    )
    .min(1, 'no case'),
})

function toProblem(issue: z.core.$ZodIssue): PolicyProblem {
  const path = issue.path.map(key => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')
  return { path: path.replace(/^\./, ''), message: issue.message }
}

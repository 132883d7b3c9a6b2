import type { Caller } from '../identity/caller.ts'
import type { Message } from '../mcp/message.ts'
import { argumentHolds } from './arguments.ts'
import type { CompiledPolicy } from './compile.ts'
import { decide, pointAt, questionOf } from './decide.ts'
import { isImplicit } from './implicit.ts'
import {
  argsHold,
  type CompiledRule,
  methodHolds,
  namesObjects,
  objectHolds,
  orgHolds,
  peerHolds,
  type Question,
  rolesHold,
  scopesHold,
  userHolds,
} from './rule.ts'
import { NO, type Truth, UNKNOWN, YES } from './truth.ts'
import type { Verdict } from './verdict.ts'

/** Why a call is decided as it is: the verdict, and for each thing that was judged what every rule had to say. */
export interface Explanation {
  readonly verdict: Verdict
  /** The verdict in a sentence. */
  readonly summary: string
  readonly judged: readonly Judged[]
}

export interface Judged {
  /** `tool "search_web"`, `method "initialize"`. */
  readonly what: string
  readonly rules: readonly RuleReport[]
}

export interface RuleReport {
  readonly rule: string
  readonly effect: 'allow' | 'deny'
  readonly shadow: boolean
  /** Whether the rule takes part in the decision: all of it holds, or, for a deny, nothing of it surely fails. */
  readonly matches: boolean
  /** It is the rule that the verdict names. */
  readonly decides: boolean
  /** What fails or cannot be known, each in words; empty when everything holds. */
  readonly because: readonly string[]
}

export function explain(policy: CompiledPolicy, caller: Caller, message: Message): Explanation {
  const verdict = decide(policy, caller, message)
  const objects = message.objects.length === 0 ? [undefined] : message.objects
  const judged = objects.map(object => {
    const question = questionOf(policy, caller, message)
    if (object !== undefined) pointAt(question, object)
    return {
      what: `${question.subject} ${JSON.stringify(object?.name ?? question.method)}`,
      rules: policy.rules.map(rule => reportOf(rule, question, verdict)),
    }
  })
  return { verdict, summary: summaryOf(policy, verdict, message), judged }
}

function reportOf(rule: CompiledRule, question: Question, verdict: Verdict): RuleReport {
  const findings = conditionsOf(rule, question).filter(({ truth }) => truth !== YES)
  const fails = findings.some(({ truth }) => truth === NO)
  const matches = !fails && (findings.length === 0 || rule.effect === 'deny')
  return {
    rule: rule.id,
    effect: rule.effect,
    shadow: rule.shadow,
    matches,
    decides: matches && verdict.rule === rule.id,
    because: findings.map(({ words }) => words),
  }
}

interface Condition {
  readonly truth: Truth
  readonly words: string
}

function conditionsOf(rule: CompiledRule, question: Question): Condition[] {
  const { source } = rule
  const user = question.caller.user
  const noUser = 'there is no user to compare with'
  const conditions: Condition[] = [
    { truth: objectHolds(rule, question), words: objectWords(rule, question) },
    {
      truth: methodHolds(rule, question),
      words: `methods: ${among(source.methods)} is not ${quoted(question.method)}`,
    },
    {
      truth: peerHolds(rule, question),
      words: `when.peers: ${among(source.when.peers)} is not ${quoted(question.caller.peer.name)}`,
    },
    {
      truth: userHolds(rule, question),
      words: `when.users: ${user ? `${among(source.when.users)} is not ${quoted(user.id)}` : noUser}`,
    },
    {
      truth: orgHolds(rule, question),
      words: `when.orgs: ${user?.org === undefined ? 'there is no organisation to compare with' : `${among(source.when.orgs)} is not ${quoted(user.org)}`}`,
    },
    {
      truth: rolesHold(rule, question),
      words: `when.roles: ${user ? `none of ${among(source.when.roles)} is held` : noUser}`,
    },
  ]
  const scopes = scopesHold(rule, question)
  const missing = rule.scopes?.filter(scope => !user?.scopes.some(scope.matches)).map(({ text }) => quoted(text)) ?? []
  conditions.push({ truth: scopes, words: `when.scopes: ${user ? `${missing.join(', ')} not held` : noUser}` })
  if (argsHold(rule, question) === YES) return conditions
  for (const condition of rule.args) {
    const truth = argumentHolds(condition, question.args, question.lookalikes)
    const asked = Object.keys(condition.constraint).join(', ')
    const words = truth === UNKNOWN ? `cannot be judged (${asked})` : `is not as asked (${asked})`
    conditions.push({ truth, words: `args.${condition.name}: ${words}` })
  }
  return conditions
}

const LIST = { tool: 'tools', prompt: 'prompts', resource: 'resources' } as const

function objectWords(rule: CompiledRule, question: Question): string {
  if (question.subject === 'method') return 'the rule is about objects, and the call names none'
  const list = LIST[question.subject]
  const patterns = rule.source[list]
  if (patterns !== undefined) return `${list}: ${among(patterns)} is not ${quoted(question.name)}`
  return namesObjects(rule)
    ? `${list}: the rule is about other kinds`
    : `${list}: an allow of a ${question.subject} needs this list`
}

function summaryOf(policy: CompiledPolicy, verdict: Verdict, message: Message): string {
  const { effect, rule, mode, denied, missingScopes } = verdict
  if (effect === 'allow') {
    if (rule === 'implicit' && isImplicit(message))
      return 'allowed: always is to an accepted caller, and no rule denies it'
    return rule === 'default' ? 'allowed: no rule denies it and the default is to allow' : `allowed by rule ${rule}`
  }
  const what = denied === undefined ? '' : ` (${denied.kind} ${quoted(denied.name)})`
  const why = rule === 'default' ? 'no rule allows it' : `rule ${rule}`
  const scopes = missingScopes.length === 0 ? '' : `; the scopes ${missingScopes.join(' ')} would do`
  const served = policy.mode === 'shadow' ? 'the policy is in shadow' : 'the rule is in shadow'
  return mode === 'shadow'
    ? `would be denied${what}: ${why}; served, because ${served}`
    : `denied${what}: ${why}${scopes}`
}

function among(patterns: readonly string[] | undefined): string {
  return (patterns ?? []).map(quoted).join(' or ')
}

/** Names come from callers: bounded, and as JSON, so that no control character gets out. */
function quoted(name: string): string {
  return JSON.stringify(name.length > 128 ? `${name.slice(0, 128)}…` : name)
}

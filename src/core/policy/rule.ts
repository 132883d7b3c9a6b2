import type { RuleConfig } from '../../config/config.ts'
import type { Caller } from '../identity/caller.ts'
import type { JsonObject } from '../json.ts'
import { KNOWN_METHODS } from '../mcp/objects.ts'
import { type ArgumentCondition, argumentsHold, type Lookalikes } from './arguments.ts'
import type { Pattern } from './pattern.ts'
import { NO, type Truth, UNKNOWN, YES } from './truth.ts'
import type { Verdict } from './verdict.ts'

/** One rule, ready to be asked. An undefined list is an absent condition, which holds for everything. */
export interface CompiledRule {
  readonly id: string
  /** Place in the file, from 0. */
  readonly index: number
  readonly effect: 'allow' | 'deny'
  /** On trial: a deny of this rule is recorded and not enforced; an allow of this rule grants nothing. */
  readonly shadow: boolean
  readonly peers: readonly PeerPattern[] | undefined
  readonly users: readonly Pattern[] | undefined
  readonly orgs: readonly Pattern[] | undefined
  readonly roles: readonly Pattern[] | undefined
  /** All of them must be held, the other lists need one. */
  readonly scopes: readonly Pattern[] | undefined
  readonly methods: readonly Pattern[] | undefined
  readonly tools: readonly Pattern[] | undefined
  readonly prompts: readonly Pattern[] | undefined
  readonly resources: readonly Pattern[] | undefined
  readonly args: readonly ArgumentCondition[]
  /** What is answered when this rule allows; made once, so that an allowed call allocates no verdict. */
  readonly allowed: Verdict
  readonly source: RuleConfig
}

/** A peer is named by its entry under `peers`, or by a URI of its certificate when the pattern is one. */
export interface PeerPattern {
  readonly pattern: Pattern
  readonly of: 'name' | 'uri'
}

/** What a rule is asked about: `method` when the message names no object. */
export type Subject = 'tool' | 'prompt' | 'resource' | 'method'

/** One question to the rules: may this caller do this with this one object (or with none)? */
export interface Question {
  readonly caller: Caller
  readonly method: string
  subject: Subject
  /** Name of the tool or prompt, the normalised URI of a resource, or the method once more. */
  name: string
  readonly args: JsonObject | undefined
  /** Arguments that a lenient server may take for one that a rule constrains; usually undefined. */
  readonly lookalikes: Lookalikes | undefined
  /** `arguments`: for some arguments. `scopes`: with whatever scopes a rule asks for by name. */
  readonly regardless: 'nothing' | 'arguments' | 'scopes'
}

/**
 * Whether every condition of a rule holds. One condition that does not hold settles it, whatever else is unknown.
 * The cheap ones come first; the arguments are looked at only when everything else holds.
 */
function ruleHolds(rule: CompiledRule, question: Question): Truth {
  return objectHolds(rule, question) === NO ? NO : restHolds(rule, question)
}

/** Whether everything but the object is as the rule says. */
export function restHolds(rule: CompiledRule, question: Question): Truth {
  if (methodHolds(rule, question) === NO) return NO
  if (peerHolds(rule, question) === NO) return NO
  const user = userHolds(rule, question)
  if (user === NO) return NO
  const org = orgHolds(rule, question)
  if (org === NO) return NO
  const roles = rolesHold(rule, question)
  if (roles === NO) return NO
  const scopes = scopesHold(rule, question)
  if (scopes === NO) return NO
  const args = argsHold(rule, question)
  if (args === NO) return NO
  return user === YES && org === YES && roles === YES && scopes === YES && args === YES ? YES : UNKNOWN
}

/** Whether a rule decides: what cannot be known is no reason to allow, and no way around a deny. */
export function applies(rule: CompiledRule, question: Question): boolean {
  const truth = ruleHolds(rule, question)
  return truth === YES || (truth === UNKNOWN && rule.effect === 'deny')
}

/**
 * A message that names an object is matched only by a rule with the list of that kind, so that a rule about tools never
 * opens a resource. A deny rule without any of the three lists is about whatever its caller does: the switch that
 * turns a user off must not leave the tools on.
 */
export function objectHolds(rule: CompiledRule, question: Question): Truth {
  switch (question.subject) {
    case 'tool':
      return listHolds(rule, rule.tools, question.name)
    case 'prompt':
      return listHolds(rule, rule.prompts, question.name)
    case 'resource':
      return listHolds(rule, rule.resources, question.name)
    case 'method':
      return namesObjects(rule) ? NO : YES
  }
}

export function namesObjects(rule: Pick<CompiledRule, 'tools' | 'prompts' | 'resources'>): boolean {
  return rule.tools !== undefined || rule.prompts !== undefined || rule.resources !== undefined
}

function listHolds(rule: CompiledRule, list: readonly Pattern[] | undefined, name: string): Truth {
  if (list !== undefined) return anyMatches(list, name) ? YES : NO
  return rule.effect === 'deny' && !namesObjects(rule) ? YES : NO
}

export function methodHolds(rule: CompiledRule, question: Question): Truth {
  return rule.methods === undefined || anyMatches(rule.methods, question.method) ? YES : NO
}

export function peerHolds(rule: CompiledRule, question: Question): Truth {
  if (rule.peers === undefined) return YES
  const peer = question.caller.peer
  for (const { pattern, of } of rule.peers) {
    if (of === 'name' ? pattern.matches(peer.name) : peer.certificate.uris.some(pattern.matches)) return YES
  }
  return NO
}

/** Without a user nobody knows who calls; a gateway that forgets the header must not get round a deny of a user. */
export function userHolds(rule: CompiledRule, question: Question): Truth {
  if (rule.users === undefined) return YES
  const user = question.caller.user
  if (user === undefined) return UNKNOWN
  return anyMatches(rule.users, user.id) ? YES : NO
}

export function orgHolds(rule: CompiledRule, question: Question): Truth {
  if (rule.orgs === undefined) return YES
  const org = question.caller.user?.org
  if (org === undefined) return UNKNOWN
  return anyMatches(rule.orgs, org) ? YES : NO
}

export function rolesHold(rule: CompiledRule, question: Question): Truth {
  if (rule.roles === undefined) return YES
  const user = question.caller.user
  if (user === undefined) return UNKNOWN
  for (const role of user.roles) if (anyMatches(rule.roles, role)) return YES
  return NO
}

export function scopesHold(rule: CompiledRule, question: Question): Truth {
  if (rule.scopes === undefined) return YES
  const user = question.caller.user
  if (user === undefined) return UNKNOWN
  for (const scope of rule.scopes) {
    if (question.regardless === 'scopes' && scope.exact) continue
    if (!someMatch(scope, user.scopes)) return NO
  }
  return YES
}

export function argsHold(rule: CompiledRule, question: Question): Truth {
  if (rule.args.length === 0) return YES
  // For some arguments an allow holds; a deny that depends on arguments leaves the object to be used with others.
  if (question.regardless === 'arguments') return rule.effect === 'allow' ? YES : NO
  // A method of the server's own names the object, and nobody knows where it keeps the arguments.
  if (question.subject !== 'method' && !KNOWN_METHODS.has(question.method)) return UNKNOWN
  return argumentsHold(rule.args, question.args, question.lookalikes)
}

function anyMatches(patterns: readonly Pattern[], text: string): boolean {
  for (const pattern of patterns) if (pattern.matches(text)) return true
  return false
}

function someMatch(pattern: Pattern, texts: readonly string[]): boolean {
  for (const text of texts) if (pattern.matches(text)) return true
  return false
}

import type { Caller } from '../identity/caller.ts'
import type { McpObject, Message } from '../mcp/message.ts'
import { lookalikesOf } from './arguments.ts'
import { firstThatApplies } from './candidates.ts'
import type { CompiledPolicy } from './compile.ts'
import { isImplicit, judgedMethod, mustNameObject } from './implicit.ts'
import type { Question } from './rule.ts'
import type { Verdict } from './verdict.ts'

/**
 * What policy says of one message. A message that names several objects is judged on each, and one that is denied
 * denies it. A batch is as many calls of this function as it has elements.
 *
 * The order of the rules changes nothing but which of several that agree is named: the first in the file.
 *
 * @source contract section 3, Rules.
 */
export function decide(policy: CompiledPolicy, caller: Caller, message: Message): Verdict {
  const verdict = judge(policy, caller, message)
  // Only a deny by default can be for want of scopes: what a rule denies, no scope of an allow opens.
  if (verdict.rule !== 'default' || verdict.effect === 'allow' || policy.hasScopes === false) return verdict
  const missingScopes = scopesThatWouldDo(policy, caller, message)
  return missingScopes.length === 0 ? verdict : { ...verdict, missingScopes }
}

/**
 * Whether this caller may use this object at all, with whatever arguments: what the lists show. Deny rules with `args`
 * leave the object to be used with other arguments, so they do not hide it; what is only on trial hides nothing.
 *
 * @param name    Name of the tool or prompt; the normalised URI of a resource.
 * @param method  How it would be used, when not by `tools/call`, `prompts/get` or `resources/read`.
 */
export function visible(
  policy: CompiledPolicy,
  caller: Caller,
  kind: McpObject['kind'],
  name: string,
  method: string = USE[kind],
): boolean {
  if (policy.mode === 'shadow') return true
  const question = questionOfList(caller, kind, name, method)
  if (firstThatApplies(policy.denies[kind], question) !== undefined) return false
  return policy.default === 'allow' || firstThatApplies(policy.allows[kind], question) !== undefined
}

/** Whether the place that a listed URI leads to hides it: who is denied the place is denied the detour, too. */
export function visiblePlace(policy: CompiledPolicy, caller: Caller, name: string): boolean {
  if (policy.mode === 'shadow') return true
  const question = questionOfList(caller, 'resource', name, USE.resource)
  return firstThatApplies(policy.denies.resource, question) === undefined
}

/** Whether lists show what a message names first, in each form that its URI may be taken for. */
export function visibleInLists(policy: CompiledPolicy, caller: Caller, message: Message): boolean | undefined {
  const [first] = message.objects
  if (first === undefined) return undefined
  return message.objects.every(({ kind, name, normalized, isPlace }) => {
    if (kind !== first.kind || name !== first.name) return true
    return isPlace ? visiblePlace(policy, caller, normalized) : visible(policy, caller, kind, normalized)
  })
}

function questionOfList(caller: Caller, subject: McpObject['kind'], name: string, method: string): Question {
  return { caller, method, subject, name, args: undefined, lookalikes: undefined, regardless: 'arguments' }
}

const USE = { tool: 'tools/call', prompt: 'prompts/get', resource: 'resources/read' } as const

function judge(policy: CompiledPolicy, caller: Caller, message: Message): Verdict {
  const question = questionOf(policy, caller, message)
  if (message.objects.length === 0) return judgeOne(policy, message, question, undefined)
  let allowed: Verdict | undefined
  let onTrial: Verdict | undefined
  for (const object of message.objects) {
    const verdict = judgeOne(policy, message, question, object)
    if (verdict.effect === 'allow') allowed ??= verdict
    else if (verdict.mode === 'shadow') onTrial ??= verdict
    else return verdict
  }
  return onTrial ?? (allowed as Verdict)
}

/** The question that a message asks, before it is pointed at one of its objects. */
export function questionOf(policy: CompiledPolicy, caller: Caller, message: Message): Question {
  const { constrained } = policy
  // Not looked at unless a rule does: large ones are parsed for whoever asks.
  const args = constrained && message.args
  const method = judgedMethod(message)
  const lookalikes = constrained && args && lookalikesOf(constrained, args)
  return { caller, method, subject: 'method', name: method, args, lookalikes, regardless: 'nothing' }
}

/** Judges a message on one of its objects, or on its method alone when it names none. */
function judgeOne(
  policy: CompiledPolicy,
  message: Message,
  question: Question,
  object: McpObject | undefined,
): Verdict {
  if (object !== undefined) pointAt(question, object)
  const shown = object?.name ?? question.method
  const denying = firstThatApplies(policy.denies[question.subject], question)
  if (denying !== undefined) return denied(policy.mode, denying.id, question, shown)
  const verdict = granted(policy, message, question, object)
  if (verdict === undefined) return denied(policy.mode, 'default', question, shown)
  const trial = firstThatApplies(policy.trials[question.subject], question)
  return trial === undefined ? verdict : denied('shadow', trial.id, question, shown)
}

export function pointAt(question: Question, object: McpObject): void {
  question.subject = object.kind
  question.name = object.kind === 'resource' ? object.normalized : object.name
}

/** The verdict that lets it through, if there is one and no deny rule says otherwise. */
function granted(
  policy: CompiledPolicy,
  message: Message,
  question: Question,
  object: McpObject | undefined,
): Verdict | undefined {
  if (object?.isPlace === true) return policy.implicit
  if (object === undefined) {
    // Nothing is named where something must be. The reader refuses that; no rule may be taken to have allowed it.
    if (mustNameObject(message.method)) return undefined
    if (isImplicit(message)) return policy.implicit
  }
  const rule = firstThatApplies(policy.allows[question.subject], question)
  return rule?.allowed ?? policy.allowedByDefault
}

function denied(mode: Verdict['mode'], rule: string, question: Question, name: string): Verdict {
  return { effect: 'deny', rule, mode, missingScopes: NO_SCOPES, denied: { kind: question.subject, name } }
}

const NO_SCOPES: readonly string[] = []

/**
 * All scopes that this call needs, where nothing but scopes is missing: for each object those of the rule that asks
 * for the fewest. Those that the caller holds already are among them, because a client that asks for a new token asks
 * for just what it is told.
 */
function scopesThatWouldDo(policy: CompiledPolicy, caller: Caller, message: Message): readonly string[] {
  const user = caller.user
  if (user === undefined) return NO_SCOPES
  const needed = new Set<string>()
  const question: Question = { ...questionOf(policy, caller, message), regardless: 'scopes' }
  for (const object of message.objects.length === 0 ? [undefined] : message.objects) {
    if (object?.isPlace === true) continue
    if (object !== undefined) pointAt(question, object)
    // Rules are ranked here by how many scopes they ask for; one that asks for none is the first.
    const rule = firstThatApplies(policy.allowsByScopes[question.subject], question)
    if (rule === undefined) return NO_SCOPES
    for (const scope of rule.scopes ?? []) {
      if (scope.exact) needed.add(scope.text)
      else for (const held of user.scopes) if (scope.matches(held)) needed.add(held)
    }
  }
  // A deny rule may well speak of these very scopes; then they are not what is missing.
  const scopes = [...needed]
  const better: Caller = { ...caller, user: { ...user, scopes: [...new Set([...user.scopes, ...scopes])] } }
  return judge(policy, better, message).effect === 'allow' ? scopes : NO_SCOPES
}

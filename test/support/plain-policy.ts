import type { ArgumentConstraint, PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import type { McpObject, Message } from '../../src/core/mcp/message.ts'

/**
 * The contract's section on rules, read aloud: every rule is asked every time, nothing is prepared, nothing is shared
 * with the product's own reading. Slow and plain, so that it can be seen to be right.
 */
export function plainDecide(config: PolicyConfig, caller: Caller, message: Message) {
  const method = message.kind === 'response' ? 'response' : message.method
  const asked: (McpObject | undefined)[] = message.objects.length === 0 ? [undefined] : [...message.objects]
  const each = asked.map(object => plainOne(config, caller, message, method, object))
  const answer =
    each.find(one => one.effect === 'deny' && one.mode === 'enforce') ??
    each.find(one => one.effect === 'deny') ??
    (each[0] as (typeof each)[0])
  return answer
}

export function plainVisible(config: PolicyConfig, caller: Caller, kind: McpObject['kind'], name: string): boolean {
  if (config.mode === 'shadow') return true
  const method = { tool: 'tools/call', prompt: 'prompts/get', resource: 'resources/read' }[kind]
  const object = { kind, name, normalized: name }
  const live = config.rules.filter(rule => !rule.shadow)
  const withoutArgs = (rule: RuleConfig): RuleConfig => ({ ...rule, args: {} })
  const noArgs = (rule: RuleConfig) => Object.keys(rule.args ?? {}).length === 0
  const holds = (rule: RuleConfig) => matches(withoutArgs(rule), caller, method, object, undefined)
  if (live.some(rule => rule.effect === 'deny' && noArgs(rule) && holds(rule))) return false
  return config.default === 'allow' || live.some(rule => rule.effect === 'allow' && holds(rule))
}

function plainOne(
  config: PolicyConfig,
  caller: Caller,
  message: Message,
  method: string,
  object: McpObject | undefined,
): { effect: 'allow' | 'deny'; rule: string; mode: 'enforce' | 'shadow'; denied: unknown } {
  const matching = config.rules.filter(rule => matches(rule, caller, method, object, message.args))
  const live = matching.filter(rule => !rule.shadow)
  const deny = (rule: string, mode: 'enforce' | 'shadow') => ({
    effect: 'deny' as const,
    rule,
    mode,
    denied: object ? { kind: object.kind, name: object.name } : { kind: 'method', name: method },
  })
  const allow = (rule: string) => ({ effect: 'allow' as const, rule, mode: config.mode, denied: undefined })

  const denying = live.find(rule => rule.effect === 'deny')
  if (denying) return deny(denying.id, config.mode)
  if (!object && ['tools/call', 'prompts/get', 'resources/read'].includes(method)) return deny('default', config.mode)
  const implicit =
    !object &&
    (message.kind === 'response' ||
      ['ping', 'tools/list', 'subscriptions/listen'].includes(method) ||
      (method === 'stream/open' && message.id === undefined))
  const granted = implicit ? 'implicit' : live.find(rule => rule.effect === 'allow')?.id
  if (granted === undefined && config.default === 'deny') return deny('default', config.mode)
  const trial = matching.find(rule => rule.shadow && rule.effect === 'deny')
  return trial ? deny(trial.id, 'shadow') : allow(granted ?? 'default')
}

type Answer = 'no' | 'unknown' | 'yes'

function matches(
  rule: RuleConfig,
  caller: Caller,
  method: string,
  object: McpObject | undefined,
  args: JsonObject | undefined,
): boolean {
  const user = caller.user
  const answers: Answer[] = [
    aboutObject(rule, object),
    listed(rule.methods, [method]),
    listed(rule.when.peers, [caller.peer.name, ...caller.peer.certificate.uris], '/'),
    user || !rule.when.users ? listed(rule.when.users, [user?.id ?? '']) : 'unknown',
    user?.org !== undefined || !rule.when.orgs ? listed(rule.when.orgs, [user?.org ?? '']) : 'unknown',
    user || !rule.when.roles ? listed(rule.when.roles, [...(user?.roles ?? [])]) : 'unknown',
    user || !rule.when.scopes ? 'yes' : 'unknown',
    ...(rule.when.scopes ?? []).map((scope): Answer => (user ? listed([scope], [...user.scopes]) : 'unknown')),
    ...Object.entries(rule.args ?? {}).map(([name, constraint]) =>
      object && method.startsWith('vendor/') ? 'unknown' : argument(name, constraint, args ?? {}),
    ),
  ]
  if (answers.includes('no')) return false
  return rule.effect === 'deny' || !answers.includes('unknown')
}

function aboutObject(rule: RuleConfig, object: McpObject | undefined): Answer {
  const lists = [rule.tools, rule.prompts, rule.resources]
  const hasLists = lists.some(list => list !== undefined)
  if (!object) return hasLists ? 'no' : 'yes'
  const list = { tool: rule.tools, prompt: rule.prompts, resource: rule.resources }[object.kind]
  if (list) return listed(list, [object.normalized], object.kind === 'resource' ? '/' : undefined)
  return rule.effect === 'deny' && !hasLists ? 'yes' : 'no'
}

function listed(patterns: string[] | undefined, texts: string[], separator?: string): Answer {
  if (!patterns) return 'yes'
  return texts.some(text => patterns.some(pattern => globbed(pattern, text, separator))) ? 'yes' : 'no'
}

/** Tries every way to fill each star. */
function globbed(pattern: string, text: string, separator?: string): boolean {
  if (pattern === '') return text === ''
  if (!pattern.startsWith('*'))
    return text !== '' && pattern[0] === text[0] && globbed(pattern.slice(1), text.slice(1), separator)
  const crosses = separator === undefined || pattern.startsWith('**')
  const rest = pattern.startsWith('**') ? pattern.slice(2) : pattern.slice(1)
  if (globbed(rest, text, separator)) return true
  return text !== '' && (crosses || text[0] !== separator) && globbed(pattern, text.slice(1), separator)
}

/** Only for the constraints and values that the property tests make. */
function argument(name: string, constraint: ArgumentConstraint, args: JsonObject): Answer {
  const [head, inner] = name.split('.') as [string, string?]
  if (Object.keys(args).some(key => key !== head && key.toLowerCase() === head.toLowerCase())) return 'unknown'
  let value: JsonValue | undefined = args[head]
  if (inner !== undefined && value !== undefined) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'unknown'
    if (Object.keys(value).some(key => key !== inner && key.toLowerCase() === inner)) return 'unknown'
    value = value[inner]
  }
  if (value === undefined) return constraint.required ? 'no' : 'yes'
  const { equals, enum: oneOf, min, max, prefix, maxLength } = constraint
  const listedValues = equals !== undefined ? [equals] : oneOf
  if (listedValues) {
    if (listedValues.some(one => one === value)) return 'yes'
    return listedValues.every(one => one !== null && value !== null && typeof one === typeof value) ? 'no' : 'unknown'
  }
  if (min !== undefined || max !== undefined) {
    if (typeof value !== 'number') return 'unknown'
    return value >= (min ?? -Infinity) && value <= (max ?? Infinity) ? 'yes' : 'no'
  }
  if (maxLength !== undefined) return typeof value !== 'string' ? 'unknown' : value.length <= maxLength ? 'yes' : 'no'
  if (prefix !== undefined) {
    if (typeof value !== 'string' || !value.startsWith('/')) return 'unknown'
    return value === '/srv/a' ? 'yes' : 'no'
  }
  return 'yes'
}

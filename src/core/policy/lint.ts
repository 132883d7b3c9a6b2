import { KNOWN_METHODS } from '../mcp/objects.ts'
import type { CompiledPolicy } from './compile.ts'
import { covers } from './cover.ts'
import { isAlwaysAllowed } from './implicit.ts'
import type { Pattern } from './pattern.ts'
import type { PolicyProblem } from './problem.ts'
import { type CompiledRule, namesObjects } from './rule.ts'

/** What the upstream was seen to offer: the `result` of a recorded `tools/list`, `prompts/list`, `resources/list`. */
export interface Recorded {
  readonly tools?: readonly RecordedTool[]
  readonly prompts?: readonly { readonly name: string }[]
}

export interface RecordedTool {
  readonly name: string
  readonly inputSchema?: { readonly properties?: Readonly<Record<string, unknown>> }
}

/**
 * What is legal in a policy and yet most likely not meant: rules that can never match, that others make useless, or that
 * name what the upstream does not have. Warnings, in the order of the file.
 */
export function lintPolicy(policy: CompiledPolicy, recorded: Recorded = {}): PolicyProblem[] {
  const { rules } = policy
  const warnings = rules.flatMap(rule => [
    ...unreachableLists(rule),
    ...uselessMethods(rule),
    ...looseArguments(rule),
    ...inShadow(rule),
    ...outdoneBy(rule, rules),
    ...unknownNames(rule, recorded),
  ])
  if (policy.default === 'allow' && !rules.some(rule => rule.effect === 'deny' && !rule.shadow)) {
    warnings.push({ path: 'policy.default', message: 'everything is allowed: the default is allow and no rule denies' })
  }
  return warnings
}

const REACHED_BY = {
  tools: ['tools/call'],
  prompts: ['prompts/get', 'completion/complete'],
  resources: [
    'resources/read',
    'resources/subscribe',
    'resources/unsubscribe',
    'resources/directory/read',
    'skills/get',
    'completion/complete',
    'subscriptions/listen',
  ],
} as const

const LISTS = ['tools', 'prompts', 'resources'] as const

/** A list whose kind none of the rule's methods acts on. */
function unreachableLists(rule: CompiledRule): PolicyProblem[] {
  const { methods } = rule
  if (methods === undefined) return []
  return LISTS.filter(list => rule[list] !== undefined).flatMap(list => {
    if (REACHED_BY[list].some(method => methods.some(pattern => pattern.matches(method)))) return []
    // A vendor's own method of the same family may name one too.
    if (methods.some(({ text, exact }) => text.startsWith(`${list}/`) && (!exact || !KNOWN_METHODS.has(text))))
      return []
    return [
      at(rule, list, `can never match: none of the methods names one of ${list} (${REACHED_BY[list].join(', ')})`),
    ]
  })
}

function uselessMethods(rule: CompiledRule): PolicyProblem[] {
  return (rule.methods ?? []).flatMap(({ text, exact }, index) => {
    const path = `methods[${index}]`
    if (!exact) {
      const isSome = [...KNOWN_METHODS, ...OUR_METHODS].some(method => rule.methods?.[index]?.matches(method))
      return isSome ? [] : [at(rule, path, `no method that we know is like ${text}; right only for a vendor's own`)]
    }
    const isKnown = KNOWN_METHODS.has(text) || OUR_METHODS.includes(text)
    if (!isKnown) return [at(rule, path, `${text} is no method that we know; right only for a vendor's own`)]
    if (namesObjects(rule) && !NAMING.has(text)) {
      return [at(rule, path, `${text} names no object, so a rule with tools, prompts or resources never matches it`)]
    }
    if (rule.effect === 'allow' && isAlwaysAllowed(text))
      return [at(rule, path, `${text} is always allowed; not needed`)]
    if (rule.effect === 'allow' && !namesObjects(rule) && NAMING.has(text) && text !== 'subscriptions/listen') {
      return [at(rule, path, `${text} names an object, so an allow needs the list of its kind`)]
    }
    return []
  })
}

const OUR_METHODS = ['stream/open', 'session/end', 'response', 'notifications/tasks/status']
const NAMING: ReadonlySet<string> = new Set(Object.values(REACHED_BY).flat())

function looseArguments(rule: CompiledRule): PolicyProblem[] {
  if (rule.args.length === 0) return []
  if (rule.tools === undefined && rule.prompts === undefined) {
    const message = 'only calls of tools and prompts have arguments; without a list of either this judges none'
    return [at(rule, 'args', message)]
  }
  if (rule.effect === 'allow') return []
  return rule.args
    .filter(({ constraint }) => constraint.required !== true)
    .map(({ name }) =>
      at(rule, `args.${name}`, 'also denies calls that leave this argument out; add required: true if they may pass'),
    )
}

function inShadow(rule: CompiledRule): PolicyProblem[] {
  if (!rule.shadow || rule.effect === 'deny') return []
  return [at(rule, 'shadow', 'an allow in shadow grants nothing; see with `policy replay` what it would')]
}

/** Another rule that takes everything this one could say. */
function outdoneBy(rule: CompiledRule, rules: readonly CompiledRule[]): PolicyProblem[] {
  for (const other of rules) {
    if (other === rule || other.shadow || !covers(other, rule)) continue
    const isTwin = other.effect === rule.effect && covers(rule, other)
    if (isTwin && other.index > rule.index) continue
    if (other.effect === 'deny' && rule.effect === 'allow') {
      return [at(rule, '', `allows nothing: rule ${other.id} denies all of it`)]
    }
    if (other.effect === rule.effect && !rule.shadow) {
      return [
        at(rule, '', `changes nothing: rule ${other.id} ${rule.effect === 'allow' ? 'allows' : 'denies'} all of it`),
      ]
    }
  }
  return []
}

function unknownNames(rule: CompiledRule, { tools, prompts }: Recorded): PolicyProblem[] {
  const missing = (list: 'tools' | 'prompts', known: readonly { name: string }[] | undefined) =>
    known === undefined
      ? []
      : (rule[list] ?? []).flatMap((pattern, index) =>
          known.some(({ name }) => pattern.matches(name))
            ? []
            : [at(rule, `${list}[${index}]`, `the recorded list has no ${list.slice(0, -1)} ${like(pattern)}`)],
        )
  const problems = [...missing('tools', tools), ...missing('prompts', prompts)]
  const meant = (tools ?? []).filter(tool => rule.tools?.some(pattern => pattern.matches(tool.name)))
  const described = meant.filter(tool => tool.inputSchema?.properties !== undefined)
  if (described.length === 0 || described.length < meant.length) return problems
  for (const { name, path } of rule.args) {
    const head = path[0] as string
    const isKnown = described.some(({ inputSchema }) =>
      [name, head].some(one => Object.hasOwn(inputSchema?.properties ?? {}, one)),
    )
    if (!isKnown) problems.push(at(rule, `args.${name}`, 'no tool of this rule has such an argument in its schema'))
  }
  return problems
}

function like(pattern: Pattern): string {
  return pattern.exact ? `named ${pattern.text}` : `like ${pattern.text}`
}

function at(rule: CompiledRule, key: string, message: string): PolicyProblem {
  return { path: `policy.rules[${rule.index}]${key === '' ? '' : `.${key}`}`, message }
}

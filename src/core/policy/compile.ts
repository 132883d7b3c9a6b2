import type { PolicyConfig, RuleConfig } from '../../config/config.ts'
import { err, ok, type Result } from '../result.ts'
import { type ConstrainedNames, constrainedNames } from './arguments.ts'
import { type Fact, indexRules, type ObjectList, type RuleIndex } from './candidates.ts'
import { compileArguments, type PatternEngine } from './compile-arguments.ts'
import { type Pattern, resourcePattern, segmentPattern, wordPattern } from './pattern.ts'
import type { PolicyProblem } from './problem.ts'
import { type CompiledRule, namesObjects, type PeerPattern, type Subject } from './rule.ts'
import type { Verdict } from './verdict.ts'

/** A policy, ready to decide. Immutable: a reload makes another one and replaces this whole. */
export interface CompiledPolicy {
  readonly mode: PolicyConfig['mode']
  readonly default: PolicyConfig['default']
  readonly denyStyle: PolicyConfig['denyStyle']
  readonly refusals: PolicyConfig['refusals']
  /** In the order of the file. */
  readonly rules: readonly CompiledRule[]
  readonly denies: BySubject
  /** Deny rules in shadow: asked only about what would be served. */
  readonly trials: BySubject
  readonly allows: BySubject
  /** The same allow rules, ranked by the number of scopes they ask for and found without regard to scopes. */
  readonly allowsByScopes: BySubject
  readonly hasScopes: boolean
  readonly constrained: ConstrainedNames | undefined
  readonly implicit: Verdict
  readonly allowedByDefault: Verdict | undefined
}

export type BySubject = Readonly<Record<Subject, RuleIndex>>

/**
 * Compiles a policy, or says everything that is wrong with it.
 *
 * @param patterns  Needed only when a rule has `args.….pattern`; `patternEngineFor` of the edge loads it then.
 */
export function compilePolicy(config: PolicyConfig, patterns?: PatternEngine): Result<CompiledPolicy, PolicyProblem[]> {
  const problems: PolicyProblem[] = []
  const ids = new Set<string>()
  const rules = config.rules.map((rule, index) => {
    const path = `policy.rules[${index}]`
    if (RESERVED.has(rule.id)) problems.push({ path: `${path}.id`, message: `"${rule.id}" is a reserved word` })
    else if (ids.has(rule.id)) problems.push({ path: `${path}.id`, message: `"${rule.id}" is used twice` })
    ids.add(rule.id)
    return compileRule(rule, index, config.mode, path, patterns, problems)
  })
  if (problems.length > 0) return err(problems)

  const live = rules.filter(rule => !rule.shadow)
  const allows = live.filter(rule => rule.effect === 'allow')
  const fewestFirst = allows.toSorted((a, b) => (a.scopes?.length ?? 0) - (b.scopes?.length ?? 0))
  return ok({
    mode: config.mode,
    default: config.default,
    denyStyle: config.denyStyle,
    refusals: config.refusals,
    rules,
    denies: bySubject(live.filter(rule => rule.effect === 'deny')),
    trials: bySubject(rules.filter(rule => rule.shadow && rule.effect === 'deny')),
    allows: bySubject(allows),
    allowsByScopes: bySubject(fewestFirst, 'scope'),
    hasScopes: allows.some(rule => rule.scopes !== undefined),
    constrained: constrainedNames(rules.flatMap(rule => rule.args)),
    implicit: allowedBy('implicit', config.mode),
    allowedByDefault: config.default === 'allow' ? allowedBy('default', config.mode) : undefined,
  })
}

/** Words that stand in the place of a rule's id in audit lines and metrics. */
const RESERVED: ReadonlySet<string> = new Set(['default', 'implicit'])

function compileRule(
  rule: RuleConfig,
  index: number,
  mode: PolicyConfig['mode'],
  path: string,
  patterns: PatternEngine | undefined,
  problems: PolicyProblem[],
): CompiledRule {
  const list = <T>(
    texts: readonly string[] | undefined,
    at: string,
    make: (text: string, at: string) => T,
  ): T[] | undefined => {
    if (texts?.length === 0)
      problems.push({ path: `${path}.${at}`, message: 'the list is empty: leave it out for any' })
    return texts?.map((text, place) => {
      if (text === '') problems.push({ path: `${path}.${at}[${place}]`, message: 'an empty pattern matches nothing' })
      return make(text, `${path}.${at}[${place}]`)
    })
  }
  const resource = (text: string, at: string): Pattern => {
    const pattern = resourcePattern(text)
    if (pattern.ok) return pattern.value
    problems.push({ path: at, message: `no URI can match this: ${pattern.error}` })
    return wordPattern(text)
  }
  const { when } = rule
  return {
    id: rule.id,
    index,
    effect: rule.effect,
    shadow: rule.shadow,
    peers: list(when.peers, 'when.peers', peerPattern),
    users: list(when.users, 'when.users', wordPattern),
    orgs: list(when.orgs, 'when.orgs', wordPattern),
    roles: list(when.roles, 'when.roles', wordPattern),
    scopes: list(when.scopes, 'when.scopes', wordPattern),
    methods: list(rule.methods, 'methods', wordPattern),
    tools: list(rule.tools, 'tools', wordPattern),
    prompts: list(rule.prompts, 'prompts', wordPattern),
    resources: list(rule.resources, 'resources', resource),
    args: compileArguments(rule.args ?? {}, `${path}.args`, patterns, problems),
    allowed: allowedBy(rule.id, mode),
    source: rule,
  }
}

function peerPattern(text: string): PeerPattern {
  return text.includes('://')
    ? { pattern: segmentPattern(text, '/'), of: 'uri' }
    : { pattern: wordPattern(text), of: 'name' }
}

function allowedBy(rule: string, mode: Verdict['mode']): Verdict {
  return Object.freeze({ effect: 'allow', rule, mode, missingScopes: Object.freeze([]), denied: undefined })
}

/** Which rules can have a say about a tool, a prompt, a resource, or a method that names none of them. */
function bySubject(rules: readonly CompiledRule[], unusable?: Fact): BySubject {
  const speakingOf = (list: ObjectList) =>
    indexRules(
      rules.filter(rule => rule[list] !== undefined || (rule.effect === 'deny' && !namesObjects(rule))),
      list,
      unusable,
    )
  return {
    tool: speakingOf('tools'),
    prompt: speakingOf('prompts'),
    resource: speakingOf('resources'),
    method: indexRules(
      rules.filter(rule => !namesObjects(rule)),
      undefined,
      unusable,
    ),
  }
}

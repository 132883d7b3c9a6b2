import type { Pattern } from './pattern.ts'
import { applies, type CompiledRule, type PeerPattern, type Question } from './rule.ts'

/**
 * Rules arranged so that one question meets only those that could answer it. Each rule hangs on one of its conditions,
 * the one that tells it best from the others: a tool's name, a user, an organisation, a peer, a role, a scope, a method.
 * Rules that no condition tells apart (every pattern begins with a star) are asked every time.
 */
export interface RuleIndex {
  readonly size: number
  readonly always: readonly Candidate[]
  readonly byName: ByText | undefined
  readonly byUser: ByText | undefined
  readonly byOrg: ByText | undefined
  readonly byPeer: ByText | undefined
  readonly byMethod: ByText | undefined
  readonly byRole: ByText | undefined
  readonly byScope: ByText | undefined
  /** Deny rules that hang on a fact which may be missing, and then apply because it is. */
  readonly whenUserMissing: readonly Candidate[]
  readonly whenOrgMissing: readonly Candidate[]
}

/** A rule with its rank in this index; where several rules apply, the lowest rank is the one that is named. */
interface Candidate {
  readonly rank: number
  readonly rule: CompiledRule
}

/** Names without a star by themselves, patterns by the letters before their first star. */
interface ByText {
  readonly exact: ReadonlyMap<string, Candidate[]>
  readonly prefixes: PrefixNode | undefined
}

interface PrefixNode {
  readonly next: Map<number, PrefixNode>
  readonly here: Candidate[]
}

/**
 * The first rule that applies, by rank; undefined when none does.
 *
 * Cost: a handful of map look-ups, and one full evaluation for each rule that hangs on a fact of this very question.
 */
export function firstThatApplies(index: RuleIndex, question: Question): CompiledRule | undefined {
  if (index.size === 0) return undefined
  const { caller } = question
  let best = among(index.always, question, undefined)
  if (index.byName) best = amongText(index.byName, question.name, question, best)
  if (index.byMethod) best = amongText(index.byMethod, question.method, question, best)
  if (index.byPeer) best = amongText(index.byPeer, caller.peer.name, question, best)
  const user = caller.user
  if (user === undefined) return among(index.whenUserMissing, question, best)?.rule
  if (index.byUser) best = amongText(index.byUser, user.id, question, best)
  if (index.byOrg) {
    best =
      user.org === undefined
        ? among(index.whenOrgMissing, question, best)
        : amongText(index.byOrg, user.org, question, best)
  }
  if (index.byRole) for (const role of user.roles) best = amongText(index.byRole, role, question, best)
  if (index.byScope) for (const scope of user.scopes) best = amongText(index.byScope, scope, question, best)
  return best?.rule
}

/**
 * Arranges rules; their order in `rules` is their rank.
 *
 * @param nameOf    The list whose patterns describe the object; undefined when questions name none.
 * @param unusable  A condition that questions will disregard, so that no rule can be found by it.
 */
export function indexRules(rules: readonly CompiledRule[], nameOf: ObjectList | undefined, unusable?: Fact): RuleIndex {
  const hooks = rules.map((rule, rank) => ({
    rank,
    rule,
    choices: choicesOf(rule, nameOf).filter(choice => choice.fact !== unusable),
  }))
  const crowds = new Map<string, number>()
  for (const { choices } of hooks) {
    for (const { fact, patterns } of choices) {
      for (const pattern of patterns) {
        const key = crowdKey(fact, pattern)
        crowds.set(key, (crowds.get(key) ?? 0) + 1)
      }
    }
  }

  const always: Candidate[] = []
  const whenUserMissing: Candidate[] = []
  const whenOrgMissing: Candidate[] = []
  const byFact: { [F in Fact]?: MutableByText } = {}
  for (const { rank, rule, choices } of hooks) {
    const candidate = { rank, rule }
    const crowd = ({ fact, patterns }: Choice) => Math.max(...patterns.map(p => crowds.get(crowdKey(fact, p)) ?? 0))
    let chosen: Choice | undefined
    for (const choice of choices) if (chosen === undefined || crowd(choice) < crowd(chosen)) chosen = choice
    if (chosen === undefined) {
      always.push(candidate)
      continue
    }
    byFact[chosen.fact] ??= { exact: new Map(), prefixes: undefined }
    for (const pattern of chosen.patterns) hang(byFact[chosen.fact] as MutableByText, pattern, candidate)
    if (rule.effect !== 'deny' || !OF_USER.has(chosen.fact)) continue
    whenUserMissing.push(candidate)
    if (chosen.fact === 'org') whenOrgMissing.push(candidate)
  }
  return {
    size: rules.length,
    always,
    byName: byFact.name,
    byUser: byFact.user,
    byOrg: byFact.org,
    byPeer: byFact.peer,
    byMethod: byFact.method,
    byRole: byFact.role,
    byScope: byFact.scope,
    whenUserMissing,
    whenOrgMissing,
  }
}

function among(
  candidates: readonly Candidate[],
  question: Question,
  best: Candidate | undefined,
): Candidate | undefined {
  for (const candidate of candidates) {
    // Lists are in the order of rank, so nothing behind this one can be better.
    if (best !== undefined && candidate.rank >= best.rank) return best
    if (applies(candidate.rule, question)) return candidate
  }
  return best
}

function amongText(by: ByText, text: string, question: Question, found: Candidate | undefined): Candidate | undefined {
  let best = found
  const exact = by.exact.get(text)
  if (exact !== undefined) best = among(exact, question, best)
  let node = by.prefixes
  for (let at = 0; node !== undefined; at++) {
    if (node.here.length > 0) best = among(node.here, question, best)
    // Past the end the code is NaN, which no node has as a key.
    node = node.next.get(text.charCodeAt(at))
  }
  return best
}

export type ObjectList = 'tools' | 'prompts' | 'resources'

/** What a rule can be found by. */
export type Fact = 'name' | 'user' | 'org' | 'peer' | 'method' | 'role' | 'scope'
type MutableByText = { exact: Map<string, Candidate[]>; prefixes: PrefixNode | undefined }

const OF_USER: ReadonlySet<Fact> = new Set(['user', 'org', 'role', 'scope'])

/** A condition that a rule could hang on, with every pattern under which it would have to be found. */
interface Choice {
  readonly fact: Fact
  readonly patterns: readonly Pattern[]
}

function choicesOf(rule: CompiledRule, nameOf: ObjectList | undefined): Choice[] {
  const choices: Choice[] = []
  const add = (fact: Fact, patterns: readonly Pattern[] | undefined) => {
    if (patterns?.every(pattern => pattern.prefix !== '')) choices.push({ fact, patterns })
  }
  if (nameOf !== undefined) add('name', rule[nameOf])
  add('user', rule.users)
  add('org', rule.orgs)
  add('role', rule.roles)
  if (rule.peers?.every(isByName)) {
    add(
      'peer',
      rule.peers.map(peer => peer.pattern),
    )
  }
  // All scopes must be held, so any one of them is enough to find the rule by.
  for (const scope of rule.scopes ?? []) add('scope', [scope])
  add('method', rule.methods)
  return choices
}

function isByName(peer: PeerPattern): boolean {
  return peer.of === 'name'
}

function crowdKey(fact: Fact, pattern: Pattern): string {
  return `${fact} ${pattern.exact ? '=' : '^'} ${pattern.prefix}`
}

function hang(by: MutableByText, pattern: Pattern, candidate: Candidate): void {
  if (pattern.exact) {
    const list = by.exact.get(pattern.text)
    if (list === undefined) by.exact.set(pattern.text, [candidate])
    else if (list.at(-1) !== candidate) list.push(candidate)
    return
  }
  by.prefixes ??= { next: new Map(), here: [] }
  let node = by.prefixes
  for (let at = 0; at < pattern.prefix.length; at++) {
    const code = pattern.prefix.charCodeAt(at)
    let next = node.next.get(code)
    if (next === undefined) {
      next = { next: new Map(), here: [] }
      node.next.set(code, next)
    }
    node = next
  }
  if (node.here.at(-1) !== candidate) node.here.push(candidate)
}

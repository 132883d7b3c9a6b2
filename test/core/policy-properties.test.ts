import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { compilePolicy } from '../../src/core/policy/compile.ts'
import { decide, visible } from '../../src/core/policy/decide.ts'
import { openStream } from '../../src/core/policy/implicit.ts'
import { plainDecide, plainVisible } from '../support/plain-policy.ts'
import { callerOf, messageOf, object, policyOf, rule } from '../support/policy.ts'

// A small world, so that rules and calls often meet.
const words = ['a', 'b', 'ab', 'abc', 'b*', 'a*', '*b', 'a*c', '*', 'abcd']
const names = ['a', 'b', 'ab', 'abc', 'abcd', 'ba', 'x', '']
const uris = ['s://a/b', 's://a/b/c', 's://a', 's://b/c']
const uriPatterns = ['s://a/*', 's://a/**', 's://*/c', '**', 's://a/b', 's://b/c']
const methods = [
  'tools/call',
  'prompts/get',
  'resources/read',
  'subscriptions/listen',
  'ping',
  'vendor/x',
  'tools/list',
]
const methodPatterns = [...methods, 'tools/*', '*', '*/x', 'stream/open']

const some = <T>(from: readonly T[]) => fc.uniqueArray(fc.constantFrom(...from), { minLength: 1, maxLength: 3 })
const maybe = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: undefined, freq: 2 })
const scalar = fc.constantFrom<string | number | boolean | null>(
  'a',
  'b',
  1,
  5,
  20,
  true,
  null,
  '/srv/a',
  '/srv/../etc',
)

const constraint = fc.constantFrom(
  { equals: 'a' },
  { enum: [1, 'a'] },
  { max: 10 },
  { min: 2, required: true },
  { prefix: '/srv' },
  { maxLength: 1 },
  { required: true },
)

const when = fc
  .record({
    peers: maybe(some(['gateway', 'other', 'g*', 'spiffe://example.org/**'])),
    users: maybe(some(words)),
    orgs: maybe(some(words)),
    scopes: maybe(some(words)),
    roles: maybe(some(words)),
  })
  .map(withoutUndefined)

const ruleArb = fc
  .record({
    effect: fc.constantFrom<'allow' | 'deny'>('allow', 'allow', 'deny'),
    shadow: fc.boolean(),
    when: fc.oneof({ weight: 1, arbitrary: fc.constant({}) }, { weight: 2, arbitrary: when }),
    methods: maybe(some(methodPatterns)),
    tools: maybe(some(words)),
    prompts: maybe(some(words)),
    resources: maybe(some(uriPatterns)),
    args: maybe(fc.dictionary(fc.constantFrom('x', 'y', 'x.y'), constraint, { maxKeys: 2 })),
  })
  .map(withoutUndefined)

const policyArb = fc
  .record({
    mode: fc.constantFrom<'enforce' | 'shadow'>('enforce', 'enforce', 'shadow'),
    default: fc.constantFrom<'allow' | 'deny'>('deny', 'deny', 'allow'),
    rules: fc.array(ruleArb, { maxLength: 12 }),
  })
  .map(
    ({ rules, ...rest }): PolicyConfig => ({
      denyStyle: 'explain',
      refusals: 'in-band',
      ...rest,
      rules: rules.map((part, index) => rule({ ...(part as Partial<RuleConfig>), id: `r${index}` })),
    }),
  )

const callerArb: fc.Arbitrary<Caller> = fc
  .record({
    peer: fc.constantFrom('gateway', 'other'),
    uris: fc.constantFrom<string[][]>(['spiffe://example.org/a'], ['spiffe://elsewhere/a']).map(list => list),
    id: fc.constantFrom(...names),
    org: fc.constantFrom(undefined, ...names),
    scopes: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 }),
    roles: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 }),
    anonymous: fc.constantFrom(false, false, false, true),
  })
  .map(part => callerOf(part))

const argsArb = fc.option(
  fc.dictionary(
    fc.constantFrom('x', 'y', 'X', 'z'),
    fc.oneof(scalar, fc.dictionary(fc.constantFrom('y', 'Y', 'z'), scalar, { maxKeys: 2 })),
    { maxKeys: 3 },
  ),
  { nil: undefined },
)

const messageArb: fc.Arbitrary<Message> = fc
  .record({
    method: fc.constantFrom(...methods),
    objects: fc.array(
      fc.oneof(
        fc.constantFrom(...names).map(name => object('tool', name)),
        fc.constantFrom(...names).map(name => object('prompt', name)),
        fc.constantFrom(...uris).map(uri => object('resource', uri)),
      ),
      { maxLength: 2 },
    ),
    args: argsArb,
    special: fc.constantFrom('none', 'none', 'none', 'stream', 'response'),
  })
  .map(({ method, objects, args, special }) => {
    if (special === 'stream') return openStream('legacy')
    if (special === 'response') return messageOf('', { kind: 'response' })
    return messageOf(method, { objects, args })
  })

describe('whatever the policy, the caller and the call', () => {
  test('the index answers what a plain reading of every rule answers', () => {
    check((config, caller, message) => {
      const { effect, rule, mode, denied } = decide(compiled(config), caller, message)
      expect({ effect, rule, mode, denied }).toEqual(plainDecide(config, caller, message))
    })
  })

  test('lists show what a plain reading says may be used', () => {
    check((config, caller, message) => {
      for (const { kind, normalized } of message.objects) {
        expect(visible(compiled(config), caller, kind, normalized)).toBe(plainVisible(config, caller, kind, normalized))
      }
    })
  })

  test('what is allowed is visible, when it is used the usual way', () => {
    check((config, caller, message) => {
      const usual = { tool: 'tools/call', prompt: 'prompts/get', resource: 'resources/read' }
      for (const one of message.objects) {
        const call = messageOf(usual[one.kind], { objects: [one], args: message.args })
        if (decide(compiled(config), caller, call).effect === 'deny') continue
        expect(visible(compiled(config), caller, one.kind, one.normalized)).toBe(true)
      }
    })
  })

  test('the order of the rules never changes what happens', () => {
    check((config, caller, message) => {
      const forth = decide(compiled(config), caller, message)
      const back = decide(compiled({ ...config, rules: config.rules.toReversed() }), caller, message)
      expect([back.effect, back.mode]).toEqual([forth.effect, forth.mode])
      expect(back.missingScopes.length).toBe(forth.missingScopes.length)
    })
  })

  test('a deny by a rule stays, whatever allow is added', () => {
    let met = 0
    check((config, caller, message) => {
      const before = decide(compiled(config), caller, message)
      if (before.effect === 'allow' || before.mode === 'shadow' || before.rule === 'default') return
      met++
      const more = [...config.rules, rule({ id: 'm', methods: ['*'] }), everyObject]
      const after = decide(compiled({ ...config, default: 'allow', rules: more }), caller, message)
      expect(after.effect).toBe('deny')
      expect(after.mode).toBe('enforce')
    })
    expect(met).toBeGreaterThan(10)
  })

  test('a deny of everything denies, whatever else there is', () => {
    check((config, caller, message) => {
      const off = [...config.rules, rule({ id: 'off', effect: 'deny' })]
      expect(decide(compiled({ ...config, rules: off }), caller, message).effect).toBe('deny')
    })
  })

  test('a rule in shadow never changes what is served', () => {
    check((config, caller, message) => {
      const served = (rules: RuleConfig[]) => {
        const { effect, mode } = decide(compiled({ ...config, rules }), caller, message)
        return effect === 'allow' || mode === 'shadow'
      }
      expect(served(config.rules)).toBe(served(config.rules.filter(({ shadow }) => !shadow)))
    })
  })

  test('with the scopes that it names, and not without, the call is allowed', () => {
    let met = 0
    const asking = fc.record({
      effect: fc.constantFrom<'allow' | 'deny'>('allow', 'allow', 'allow', 'deny'),
      when: fc.record({ scopes: some(['a', 'b', 'ab', 'a*']) }),
      tools: some(['a', 'b', 'ab', 'a*']),
    })
    const rules = fc
      .array(asking, { minLength: 1, maxLength: 6 })
      .map(parts => parts.map((part, index) => rule({ ...part, id: `r${index}` })))
    const held = fc.uniqueArray(fc.constantFrom<string>('a', 'b', 'abc'), { maxLength: 2 })
    fc.assert(
      fc.property(rules, held, fc.constantFrom('a', 'b', 'ab'), (rules, scopes, tool) => {
        const policy = policyOf(rules)
        const call = messageOf('tools/call', { objects: [object('tool', tool)] })
        const { missingScopes } = decide(policy, callerOf({ scopes }), call)
        if (missingScopes.length === 0) return
        met++
        expect(missingScopes.some(scope => !scopes.includes(scope))).toBe(true)
        const all = [...new Set([...scopes, ...missingScopes])]
        expect(decide(policy, callerOf({ scopes: all }), call).effect).toBe('allow')
      }),
      { numRuns: 1500 },
    )
    expect(met).toBeGreaterThan(100)
  })
})

test('a thousand rules are one index: each tool still meets its own rules', () => {
  const rules = Array.from({ length: 1000 }, (_, n) =>
    rule({ id: `r${n}`, when: { users: [`u${n % 7}`] }, tools: [`tool_${n}`, `group_${n % 10}_*`] }),
  )
  const policy = policyOf(rules)
  for (let n = 0; n < 1000; n += 37) {
    const call = (id: string) =>
      decide(policy, callerOf({ id }), messageOf('tools/call', { objects: [object('tool', `tool_${n}`)] })).rule
    expect(call(`u${n % 7}`)).toBe(`r${n}`)
    expect(call(`u${(n + 1) % 7}`)).toBe('default')
  }
})

const everyObject = rule({ id: 'every', tools: ['*'], prompts: ['*'], resources: ['**'] })

function check(predicate: (config: PolicyConfig, caller: Caller, message: Message) => void): void {
  fc.assert(fc.property(policyArb, callerArb, messageArb, predicate), { numRuns: 1500 })
}

function compiled(config: PolicyConfig) {
  const result = compilePolicy(config)
  if (!result.ok) throw new Error(JSON.stringify(result.error))
  return result.value
}

function withoutUndefined<T extends object>(record: T): Partial<{ [K in keyof T]: Exclude<T[K], undefined> }> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<{
    [K in keyof T]: Exclude<T[K], undefined>
  }>
}

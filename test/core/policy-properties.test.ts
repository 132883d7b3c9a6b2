import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { compilePolicy } from '../../src/core/policy/compile.ts'
import { decide, visible } from '../../src/core/policy/decide.ts'
import { plainDecide, plainVisible } from '../support/plain-policy.ts'
import { callerOf, messageOf, object, policyOf, rule } from '../support/policy.ts'
import { callerArb, messageArb, policyArb, some } from '../support/policy-arbitraries.ts'

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

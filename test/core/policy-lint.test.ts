import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { JsonValue } from '../../src/core/json.ts'
import { covers } from '../../src/core/policy/cover.ts'
import { decide } from '../../src/core/policy/decide.ts'
import { lintPolicy, type Recorded } from '../../src/core/policy/lint.ts'
import { readRecorded } from '../../src/core/policy/recorded.ts'
import { policyOf, rule } from '../support/policy.ts'
import { callerArb, messageArb, policyArb } from '../support/policy-arbitraries.ts'

const open = rule({ id: 'open', tools: ['*'] })

describe('what is most likely not meant', () => {
  test.each<{ name: string; rules: RuleConfig[]; rest?: Partial<PolicyConfig>; recorded?: Recorded; want: string[] }>([
    {
      name: 'tools without tools/call',
      rules: [rule({ id: 'r', methods: ['tools/list'], tools: ['a'] })],
      want: ['policy.rules[0].tools', 'policy.rules[0].methods[0]'],
    },
    {
      name: 'prompts without a method of theirs',
      rules: [rule({ id: 'r', methods: ['tools/call'], tools: ['a'], prompts: ['b'] })],
      want: ['policy.rules[0].prompts'],
    },
    {
      name: "a vendor's method of the family may name a tool",
      rules: [rule({ id: 'r', methods: ['tools/run'], tools: ['a'] })],
      want: ['policy.rules[0].methods[0]'],
    },
    {
      name: 'a method that is spelt wrong',
      rules: [rule({ id: 'r', methods: ['tool/call'] })],
      want: ['policy.rules[0].methods[0]'],
    },
    {
      name: 'a method pattern that is spelt wrong',
      rules: [rule({ id: 'r', methods: ['loging/*'] })],
      want: ['policy.rules[0].methods[0]'],
    },
    {
      name: 'a method without objects in a rule with lists',
      rules: [rule({ id: 'r', methods: ['tools/call', 'logging/setLevel'], tools: ['a'] })],
      want: ['policy.rules[0].methods[1]'],
    },
    {
      name: 'an allow of what is always allowed',
      rules: [rule({ id: 'r', methods: ['initialize'] })],
      want: ['policy.rules[0].methods[0]'],
    },
    {
      name: 'an allow of calls without a list of tools',
      rules: [rule({ id: 'r', methods: ['tools/call'] })],
      want: ['policy.rules[0].methods[0]'],
    },
    {
      name: 'a deny of a method without lists is the switch it looks like',
      rules: [open, rule({ id: 'r', effect: 'deny', when: { users: ['m'] }, methods: ['tools/call'] })],
      want: [],
    },
    {
      name: 'arguments of nothing',
      rules: [rule({ id: 'r', resources: ['**'], args: { x: { max: 1 } } })],
      want: ['policy.rules[0].args'],
    },
    {
      name: 'a deny that a missing argument meets',
      rules: [
        open,
        rule({ id: 'r', effect: 'deny', tools: ['a'], args: { x: { max: 1 }, y: { max: 1, required: true } } }),
      ],
      want: ['policy.rules[1].args.x'],
    },
    {
      name: 'an allow in shadow',
      rules: [rule({ id: 'r', shadow: true, tools: ['a'] })],
      want: ['policy.rules[0].shadow'],
    },
    {
      name: 'an allow that a deny takes all of',
      rules: [rule({ id: 'r', tools: ['delete_*'] }), rule({ id: 'd', effect: 'deny', tools: ['del*'] })],
      want: ['policy.rules[0]'],
    },
    {
      name: 'not when the deny takes a part',
      rules: [rule({ id: 'r', tools: ['del*'] }), rule({ id: 'd', effect: 'deny', tools: ['delete_*'] })],
      want: [],
    },
    {
      name: 'not when the deny is on trial',
      rules: [rule({ id: 'r', tools: ['a'] }), rule({ id: 'd', effect: 'deny', shadow: true, tools: ['*'] })],
      want: [],
    },
    {
      name: 'an allow that another contains',
      rules: [rule({ id: 'r', when: { users: ['a'] }, tools: ['x'] }), open],
      want: ['policy.rules[0]'],
    },
    { name: 'of two of the same, the second', rules: [open, { ...open, id: 'again' }], want: ['policy.rules[1]'] },
    {
      name: 'not when the other has arguments',
      rules: [rule({ id: 'r', tools: ['x'] }), rule({ id: 's', tools: ['*'], args: { a: { max: 1 } } })],
      want: [],
    },
    {
      name: 'not when the other asks for more scopes',
      rules: [
        rule({ id: 'r', when: { scopes: ['a'] }, tools: ['x'] }),
        rule({ id: 's', when: { scopes: ['a', 'b'] }, tools: ['*'] }),
      ],
      want: [],
    },
    {
      name: 'a segment is less than what crosses',
      rules: [rule({ id: 'r', resources: ['x://a/**'] }), rule({ id: 's', resources: ['x://a/*'] })],
      want: ['policy.rules[1]'],
    },
    { name: 'an open door', rules: [], rest: { default: 'allow' }, want: ['policy.default'] },
    {
      name: 'a tool that is not there',
      rules: [rule({ id: 'r', tools: ['search', 'serach', 'get_*'] })],
      recorded: { tools: [{ name: 'search' }] },
      want: ['policy.rules[0].tools[1]', 'policy.rules[0].tools[2]'],
    },
    {
      name: 'a prompt that is not there',
      rules: [rule({ id: 'r', prompts: ['a'] })],
      recorded: { prompts: [] },
      want: ['policy.rules[0].prompts[0]'],
    },
    {
      name: 'an argument that no tool has',
      rules: [rule({ id: 'r', tools: ['s'], args: { limt: { max: 1 }, 'where.x': { max: 1 } } })],
      recorded: { tools: [{ name: 's', inputSchema: { properties: { limit: {}, where: {} } } }] },
      want: ['policy.rules[0].args.limt'],
    },
    {
      name: "the contract's example is clean",
      rules: [
        rule({
          id: 'readers',
          when: { scopes: ['mcp.read'] },
          methods: ['tools/call'],
          tools: ['search_*', 'get_user'],
          args: { limit: { max: 100 }, path: { prefix: '/srv/docs/' } },
        }),
      ],
      want: [],
    },
  ])('$name', ({ rules, rest, recorded, want }) => {
    expect(lintPolicy(policyOf(rules, rest), recorded).map(({ path }) => path)).toEqual(want)
  })
})

test('a rule that another covers never decides anything by itself', () => {
  let met = 0
  fc.assert(
    fc.property(policyArb, callerArb, messageArb, (config, caller, message) => {
      const live = { ...config, rules: config.rules.map(one => ({ ...one, shadow: false })) }
      const { rules } = policyOf(live.rules)
      for (const narrow of rules) {
        const wide = rules.find(one => one !== narrow && one.effect === narrow.effect && covers(one, narrow))
        if (wide === undefined) continue
        met++
        const without = live.rules.filter(({ id }) => id !== narrow.id)
        const [before, after] = [live.rules, without].map(list => decide(policyOf(list, config), caller, message))
        expect(after?.effect).toBe(before?.effect)
      }
    }),
    { numRuns: 1500 },
  )
  expect(met).toBeGreaterThan(100)
})

test.each<{ name: string; value: JsonValue; want: Recorded | undefined }>([
  {
    name: 'a whole answer',
    value: { jsonrpc: '2.0', id: 1, result: { tools: [{ name: 'a' }] } },
    want: { tools: [{ name: 'a' }] },
  },
  { name: 'its result', value: { tools: [{ name: 'a' }], nextCursor: 'x' }, want: { tools: [{ name: 'a' }] } },
  { name: 'the list alone', value: [{ name: 'a' }], want: { tools: [{ name: 'a' }] } },
  {
    name: 'several pages and kinds',
    value: [{ tools: [{ name: 'a' }] }, { result: { tools: [{ name: 'b' }] } }, { prompts: [{ name: 'p' }] }],
    want: { tools: [{ name: 'a' }, { name: 'b' }], prompts: [{ name: 'p' }] },
  },
  {
    name: 'arguments',
    value: { tools: [{ name: 'a', inputSchema: { type: 'object', properties: { x: {} } } }] },
    want: { tools: [{ name: 'a', inputSchema: { properties: { x: {} } } }] },
  },
  { name: 'something else', value: { resources: [] }, want: undefined },
])('a recorded list is read from $name', ({ value, want }) => {
  expect(readRecorded(value)).toEqual(want)
})

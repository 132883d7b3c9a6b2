import { beforeAll, describe, expect, test } from 'vitest'
import type { ArgumentConstraint } from '../../src/config/config.ts'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import { readHost } from '../../src/core/policy/argument-host.ts'
import { compilePolicy } from '../../src/core/policy/compile.ts'
import type { PatternEngine } from '../../src/core/policy/compile-arguments.ts'
import { decide } from '../../src/core/policy/decide.ts'
import { loadPatternEngine, patternEngineFor } from '../../src/edge/pattern-engine.ts'
import { callerOf, policyOf, rule, toolCall } from '../support/policy.ts'

let engine: PatternEngine
beforeAll(async () => {
  engine = await loadPatternEngine()
})

/** `holds`, `fails`, or `unknown`: what an allow and a deny with this constraint do, taken together. */
function judge(constraint: ArgumentConstraint, args: JsonObject | undefined, name = 'x'): string {
  const rules = (effect: 'allow' | 'deny') => [
    rule({ id: 'open', effect: effect === 'allow' ? 'deny' : 'allow', tools: ['nothing'] }),
    rule({ id: 'rule', effect, tools: ['t'], args: { [name]: constraint } }),
  ]
  const matched = (effect: 'allow' | 'deny') =>
    decide(policyOf(rules(effect), {}, engine), callerOf(), toolCall('t', args)).rule === 'rule'
  const [allows, denies] = [matched('allow'), matched('deny')]
  if (allows && denies) return 'holds'
  return denies ? 'unknown' : 'fails'
}

describe.each<{ of: string; constraint: ArgumentConstraint; table: [JsonValue, 'holds' | 'fails' | 'unknown'][] }>([
  {
    of: 'equals',
    constraint: { equals: 5 },
    table: [
      [5, 'holds'],
      [6, 'fails'],
      ['5', 'unknown'],
      [true, 'unknown'],
      [null, 'unknown'],
      [[5], 'unknown'],
    ],
  },
  {
    of: 'equals true',
    constraint: { equals: true },
    table: [
      [true, 'holds'],
      [false, 'fails'],
      ['true', 'unknown'],
      [1, 'unknown'],
    ],
  },
  {
    of: 'equals null',
    constraint: { equals: null },
    table: [
      [null, 'holds'],
      ['null', 'unknown'],
      [0, 'unknown'],
    ],
  },
  {
    of: 'enum',
    constraint: { enum: ['read', 'list'] },
    table: [
      ['read', 'holds'],
      ['Read', 'fails'],
      ['write', 'fails'],
      [1, 'unknown'],
      [['read'], 'unknown'],
    ],
  },
  {
    of: 'min and max',
    constraint: { min: 1, max: 100 },
    table: [
      [1, 'holds'],
      [100, 'holds'],
      [0.5, 'fails'],
      [101, 'fails'],
      [-0, 'fails'],
      [1e300, 'fails'],
      ['50', 'unknown'],
      [[50], 'unknown'],
    ],
  },
  {
    of: 'length',
    constraint: { minLength: 1, maxLength: 3 },
    table: [
      ['abc', 'holds'],
      ['', 'fails'],
      ['abcd', 'fails'],
      ['👍👍👍', 'holds'],
      ['👍👍👍👍', 'fails'],
      [[1, 2], 'holds'],
      [[], 'fails'],
      [12, 'unknown'],
      [{}, 'unknown'],
    ],
  },
  {
    of: 'prefix',
    constraint: { prefix: '/srv/docs/' },
    table: [
      ['/srv/docs/a.md', 'holds'],
      ['/srv/docs', 'holds'],
      ['/srv/docs/', 'holds'],
      ['/srv//docs/./a', 'holds'],
      ['/srv/docs/a/../b', 'holds'],
      ['/srv/docs/100%.txt', 'holds'],
      ['/srv/docs/ä/日本', 'holds'],
      ['/srv/docs-old/a', 'fails'],
      ['/srv/docs/../secret', 'fails'],
      ['/srv/docs/../../etc/passwd', 'fails'],
      ['/SRV/docs/a', 'fails'],
      ['/', 'fails'],
      ['/../srv/docs/a', 'unknown'],
      ['/srv/docs/a/../../../../etc', 'unknown'],
      ['/srv/docs/%2e%2e/secret', 'unknown'],
      ['/srv/docs/..%2fsecret', 'unknown'],
      ['/srv/docs/..\\secret', 'unknown'],
      ['/srv/docs/a\u0000.md', 'unknown'],
      ['/srv/docs/a\n', 'unknown'],
      ['/srv/docs/．．/secret', 'unknown'],
      ['/srv/docs/‥/secret', 'unknown'],
      ['/srv／docs/a', 'unknown'],
      ['/srv∕docs/a', 'unknown'],
      ['//srv/docs/a', 'unknown'],
      ['srv/docs/a', 'unknown'],
      ['~/docs', 'unknown'],
      ['file:///srv/docs/a', 'unknown'],
      ['C:/srv/docs/a', 'unknown'],
      ['', 'unknown'],
      [['/srv/docs/a'], 'unknown'],
      [7, 'unknown'],
    ],
  },
  {
    of: 'a relative prefix',
    constraint: { prefix: 'docs' },
    table: [
      ['docs/a', 'holds'],
      ['./docs/a', 'holds'],
      ['docs/../etc', 'fails'],
      ['../docs/a', 'unknown'],
      ['/docs/a', 'unknown'],
    ],
  },
  {
    of: 'hosts',
    constraint: { hosts: ['example.org', '*.example.org', '[::1]'] },
    table: [
      ['https://example.org/x', 'holds'],
      ['HTTPS://EXAMPLE.org', 'holds'],
      ['http://api.example.org:8080/x?y=http://evil.example', 'holds'],
      ['http://[::1]/', 'holds'],
      ['https://a.b.example.org/', 'fails'],
      ['https://evil.example/', 'fails'],
      ['https://example.org.evil.example/', 'fails'],
      ['https://xexample.org/', 'fails'],
      ['https://example.org@evil.example/', 'unknown'],
      ['https://evil.example\\@example.org/', 'unknown'],
      ['https://example.org\\.evil.example/', 'unknown'],
      ['https://example.org./', 'unknown'],
      ['https://example.org:99999/', 'unknown'],
      ['https://example%2eorg/', 'unknown'],
      ['https://ｅxample.org/', 'unknown'],
      ['http://2130706433/', 'unknown'],
      ['http://0x7f.1/', 'unknown'],
      [' https://example.org/', 'unknown'],
      ['https://example.org/\t', 'unknown'],
      ['https:example.org/', 'unknown'],
      ['https:///example.org/', 'unknown'],
      ['//example.org/', 'unknown'],
      ['example.org', 'unknown'],
      ['file://example.org/etc', 'unknown'],
      ['javascript://example.org/%0aalert(1)', 'unknown'],
      [null, 'unknown'],
    ],
  },
  {
    of: 'pattern',
    constraint: { pattern: '[a-z]+-[0-9]{1,4}|ab' },
    table: [
      ['abc-12', 'holds'],
      ['ab', 'holds'],
      ['abc-12345', 'fails'],
      ['abc-12\n', 'fails'],
      ['x abc-12', 'fails'],
      [12, 'unknown'],
      ['a'.repeat(16_385), 'unknown'],
    ],
  },
])('$of', ({ constraint, table }) => {
  test.each(table)('%j %s', (value, want) => {
    expect(judge(constraint, { x: value })).toBe(want)
  })
})

describe('where the argument is', () => {
  test.each<{ name: string; at: string; required?: boolean; args: JsonObject | undefined; want: string }>([
    { name: 'absent', at: 'x', args: {}, want: 'holds' },
    { name: 'no arguments at all', at: 'x', args: undefined, want: 'holds' },
    { name: 'absent and required', at: 'x', required: true, args: {}, want: 'fails' },
    { name: 'no arguments at all, and required', at: 'x', required: true, args: undefined, want: 'fails' },
    { name: 'null is there', at: 'x', args: { x: null }, want: 'unknown' },
    { name: 'another spelling of its name', at: 'x', args: { X: 1 }, want: 'unknown' },
    { name: 'another spelling beside the right one', at: 'x', args: { x: 1, X: 1 }, want: 'unknown' },
    { name: 'another spelling beside a wrong one', at: 'x', args: { x: 9, X: 1 }, want: 'unknown' },
    { name: 'the long s', at: 'is', args: { iſ: 1 }, want: 'unknown' },
    { name: 'fullwidth', at: 'x', args: { ｘ: 1 }, want: 'unknown' },
    { name: 'a NUL at the end', at: 'x', args: { 'x\u0000': 1 }, want: 'unknown' },
    { name: 'camel case for snake case', at: 'user_id', args: { userId: 1 }, want: 'unknown' },
    { name: 'a long name that folds to a short one', at: 'x', args: { [`${'_'.repeat(400)}x`]: 1 }, want: 'unknown' },
    { name: 'an unrelated name', at: 'x', args: { x: 1, xx: 9, y: 9 }, want: 'holds' },
    { name: 'a dotted path', at: 'a.b', args: { a: { b: 1 } }, want: 'holds' },
    { name: 'a dotted path to a wrong value', at: 'a.b', args: { a: { b: 9 } }, want: 'fails' },
    { name: 'a dotted path to nothing', at: 'a.b', args: { a: {} }, want: 'holds' },
    { name: 'a dotted path to nothing, required', at: 'a.b', required: true, args: { a: {} }, want: 'fails' },
    { name: 'a dotted path through a list', at: 'a.b', args: { a: [{ b: 1 }] }, want: 'unknown' },
    { name: 'a dotted path through a text', at: 'a.b', args: { a: '{"b":9}' }, want: 'unknown' },
    { name: 'a dotted path through null', at: 'a.b', args: { a: null }, want: 'unknown' },
    { name: 'another spelling on the way', at: 'a.b', args: { A: { b: 1 } }, want: 'unknown' },
    { name: 'another spelling at the end', at: 'a.b', args: { a: { b: 1, B: 9 } }, want: 'unknown' },
    { name: 'a name with a dot in it', at: 'a.b', args: { 'a.b': 1 }, want: 'holds' },
    { name: 'both readings of the dot', at: 'a.b', args: { 'a.b': 1, a: { b: 1 } }, want: 'unknown' },
    { name: 'a name of the prototype', at: 'toString', args: {}, want: 'holds' },
    { name: 'a name of the prototype, required', at: 'constructor', required: true, args: {}, want: 'fails' },
  ])('$name', ({ at, required, args, want }) => {
    expect(judge({ max: 5, ...(required === undefined ? {} : { required }) }, args, at)).toBe(want)
  })

  test('every constraint of every argument has to hold', () => {
    const policy = policyOf([
      rule({ id: 'r', tools: ['t'], args: { limit: { min: 1, max: 100 }, path: { prefix: '/srv/docs/' } } }),
    ])
    const effect = (args: JsonObject) => decide(policy, callerOf(), toolCall('t', args)).effect
    expect(effect({ limit: 5, path: '/srv/docs/a' })).toBe('allow')
    expect(effect({ limit: 5, path: '/etc' })).toBe('deny')
    expect(effect({ limit: 500, path: '/srv/docs/a' })).toBe('deny')
  })

  test('two rules may constrain two spellings, each its own', () => {
    const policy = policyOf([
      rule({ id: 'lower', tools: ['t'], args: { path: { equals: 'a', required: true } } }),
      rule({ id: 'upper', tools: ['t'], args: { Path: { equals: 'b', required: true } } }),
    ])
    expect(decide(policy, callerOf(), toolCall('t', { path: 'a' })).rule).toBe('lower')
    expect(decide(policy, callerOf(), toolCall('t', { Path: 'b' })).rule).toBe('upper')
    expect(decide(policy, callerOf(), toolCall('t', { path: 'a', Path: 'b' })).rule).toBe('default')
  })
})

describe('what cannot be compiled is told with its place', () => {
  test.each<{ args: Record<string, ArgumentConstraint>; want: string[] }>([
    { args: { x: {} }, want: ['policy.rules[0].args.x'] },
    { args: { x: { enum: [] } }, want: ['policy.rules[0].args.x.enum'] },
    { args: { x: { min: 2, max: 1 } }, want: ['policy.rules[0].args.x.max'] },
    { args: { x: { max: 2 ** 60 } }, want: ['policy.rules[0].args.x.max'] },
    { args: { x: { minLength: 2, maxLength: 1 } }, want: ['policy.rules[0].args.x.maxLength'] },
    { args: { x: { maxLength: -1 } }, want: ['policy.rules[0].args.x.maxLength'] },
    { args: { x: { prefix: '/a/%2e%2e' } }, want: ['policy.rules[0].args.x.prefix'] },
    { args: { x: { prefix: '' } }, want: ['policy.rules[0].args.x.prefix'] },
    { args: { x: { hosts: ['a', 'https://b'] } }, want: ['policy.rules[0].args.x.hosts[1]'] },
    { args: { path: { pattern: '(a' } }, want: ['policy.rules[0].args.path.pattern'] },
    { args: { x: { pattern: '(?=a)' } }, want: ['policy.rules[0].args.x.pattern'] },
    { args: { x: { pattern: '\\1' } }, want: ['policy.rules[0].args.x.pattern'] },
    { args: { 'a b': { min: 2, max: 1 } }, want: ['policy.rules[0].args["a b"].max'] },
    { args: { 'a..b': { max: 1 } }, want: ['policy.rules[0].args["a..b"]'] },
  ])('$args', ({ args, want }) => {
    const compiled = compilePolicy(
      { mode: 'enforce', default: 'deny', denyStyle: 'explain', refusals: 'in-band', rules: [rule({ id: 'r', args })] },
      engine,
    )
    expect(compiled.ok ? [] : compiled.error.map(({ path }) => path)).toEqual(want)
  })

  test('a pattern without an engine is a problem, never a rule that matches nothing or everything', () => {
    const config = policyWithPattern()
    const compiled = compilePolicy(config)
    expect(compiled.ok ? [] : compiled.error.map(({ path }) => path)).toEqual(['policy.rules[0].args.x.pattern'])
  })

  test('the engine is loaded only for a policy that has patterns', async () => {
    expect(await patternEngineFor({ ...policyWithPattern(), rules: [rule({ id: 'r', tools: ['*'] })] })).toBeUndefined()
    expect(await patternEngineFor(policyWithPattern())).toBeTypeOf('function')
  })
})

describe('an argument that wants to keep us busy', () => {
  const long = 'a'.repeat(16_000)
  test.each([
    { pattern: '(a+)+b', value: long },
    { pattern: '(a|aa)+', value: `${long}!` },
    { pattern: '(.*a){12}', value: long },
  ])('$pattern is answered', ({ pattern, value }) => {
    expect(judge({ pattern }, { x: value })).toMatch(/holds|fails/)
  })

  test('a host is read once, however long the text', () => {
    expect(readHost(`https://${'a.'.repeat(4_000_000)}`)).toBeUndefined()
  })
})

function policyWithPattern() {
  return {
    mode: 'enforce',
    default: 'deny',
    denyStyle: 'explain',
    refusals: 'in-band',
    rules: [rule({ id: 'r', tools: ['t'], args: { x: { pattern: 'a+' } } })],
  } as const satisfies Parameters<typeof compilePolicy>[0] as Parameters<typeof compilePolicy>[0]
}

test('arguments are not looked at for a policy that constrains none', () => {
  const message = toolCall('t')
  const unread = Object.defineProperty({ ...message }, 'args', { get: () => expect.unreachable('parsed for nobody') })
  expect(decide(policyOf([rule({ id: 'open', tools: ['t'] })]), callerOf(), unread).effect).toBe('allow')
})

test("of a server's own method nobody knows where its arguments are: no allow holds by them, and every deny does", () => {
  const own = { ...toolCall('t'), method: 'tools/rehearse', args: undefined }
  const constrained = { tools: ['t'], args: { x: { equals: 5 } } }
  const allow = policyOf([rule({ id: 'five', ...constrained })])
  expect(decide(allow, callerOf(), own)).toMatchObject({ effect: 'deny', rule: 'default' })
  const deny = policyOf([rule({ id: 'five', effect: 'deny', ...constrained })], { default: 'allow' })
  expect(decide(deny, callerOf(), own)).toMatchObject({ effect: 'deny', rule: 'five' })
})

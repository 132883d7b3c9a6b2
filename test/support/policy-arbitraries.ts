import fc from 'fast-check'
import type { PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { openStream } from '../../src/core/policy/implicit.ts'
import { callerOf, messageOf, object, rule } from './policy.ts'

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

export const some = <T>(from: readonly T[]) => fc.uniqueArray(fc.constantFrom(...from), { minLength: 1, maxLength: 3 })
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

export const policyArb = fc
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

export const callerArb: fc.Arbitrary<Caller> = fc
  .record({
    peer: fc.constantFrom('gateway', 'other'),
    uris: fc.constantFrom('spiffe://example.org/a', 'spiffe://elsewhere/a').map(uri => [uri]),
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

export const messageArb: fc.Arbitrary<Message> = fc
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

function withoutUndefined<T extends object>(record: T): Partial<{ [K in keyof T]: Exclude<T[K], undefined> }> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as Partial<{
    [K in keyof T]: Exclude<T[K], undefined>
  }>
}

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { QuotaKey } from '../../src/config/config.ts'
import { compileQuotas, quotaProblems } from '../../src/core/quota/compile.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { keyOf, MAX_KEY, pollKey, readKey } from '../../src/core/quota/key.ts'
import { caller, callTool, message, quota } from '../support/quotas.ts'

const WINDOWS = [{ limit: 100, perMs: 60_000 }]
const ana = caller('ana@acme')

describe('what a quota meters', () => {
  const cases = [
    { method: 'tools/call', byDefault: '1 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'resources/read', byDefault: '1 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'acme/unknown', byDefault: '1 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'tools/list', byDefault: 'nothing', named: '1 unit, 1 slot' },
    { method: 'initialize', byDefault: 'nothing', named: '1 unit, 1 slot' },
    { method: 'notifications/progress', byDefault: 'nothing', named: '1 unit, 1 slot' },
    { method: 'acme/list', byDefault: '1 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'stream/open', byDefault: '0 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'subscriptions/listen', byDefault: '0 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'tasks/get', byDefault: '1 unit, 1 slot', named: '1 unit, 1 slot' },
    { method: 'server/discover', byDefault: 'nothing', named: 'nothing' },
    { method: '', byDefault: 'nothing', named: 'nothing' },
  ]
  const drawn = (method: string, methods?: string[]): string => {
    const match = methods === undefined ? {} : { methods }
    const [demand] = demandsFor(
      compileQuotas([quota('q', { match, windows: WINDOWS, concurrent: 5 })]),
      ana,
      undefined,
      [message(method)],
    )
    return demand === undefined ? 'nothing' : `${demand.cost} unit, ${demand.slots} slot`
  }

  test.each(cases)('$method without match.methods: $byDefault', ({ method, byDefault }) => {
    expect(drawn(method)).toBe(byDefault)
  })
  test.each(cases)('$method with match.methods "*": $named', ({ method, named }) => {
    expect(drawn(method, ['*'])).toBe(named)
  })

  test('task polls draw from a bucket of their own, unless they are named', () => {
    const open = (methods?: string[]) =>
      demandsFor(
        compileQuotas([quota('q', { match: methods === undefined ? {} : { methods }, windows: WINDOWS })]),
        ana,
        undefined,
        [message('tasks/get')],
      )[0]?.key
    const calls = keyOf(['user'], ana, undefined, undefined)
    expect(open()).toBe(pollKey(calls))
    expect(open(['tasks/*'])).toBe(calls)
  })

  test.each([
    { name: 'a tool in the match', parts: { match: { tools: ['export_*'] } }, tool: 'export_all', want: 1 },
    { name: 'another tool', parts: { match: { tools: ['export_*'] } }, tool: 'search', want: 0 },
    { name: 'no tool, match by tool', parts: { match: { tools: ['*'] } }, tool: undefined, want: 0 },
    { name: 'no tool, key by tool', parts: { key: ['user', 'tool'] as QuotaKey[] }, tool: undefined, want: 0 },
    { name: 'a tool, key by tool', parts: { key: ['user', 'tool'] as QuotaKey[] }, tool: 'search', want: 1 },
  ])('$name', ({ parts, tool, want }) => {
    const posted = tool === undefined ? message('prompts/get') : callTool(tool)
    expect(
      demandsFor(compileQuotas([quota('q', { windows: WINDOWS, ...parts })]), ana, undefined, [posted]),
    ).toHaveLength(want)
  })

  test('the first matching cost counts, and a batch is the sum of its elements', () => {
    const compiled = compileQuotas([
      quota('q', {
        windows: WINDOWS,
        concurrent: 9,
        cost: [
          { tool: 'export_*', weight: 10 },
          { tool: '*_all', weight: 50 },
        ],
      }),
    ])
    const cost = (...tools: string[]) =>
      demandsFor(compiled, ana, undefined, tools.map(callTool)).map(({ cost, slots }) => [cost, slots])
    expect(cost('export_all')).toEqual([[10, 1]])
    expect(cost('drop_all')).toEqual([[50, 1]])
    expect(cost('search', 'export_all', 'search')).toEqual([[12, 3]])
  })
})

describe('keys', () => {
  test.each<{ parts: QuotaKey[]; who: string | undefined; tool?: string; session?: string; want: string }>([
    { parts: ['user'], who: 'ana@acme', want: 'u4:acme3:ana' },
    { parts: ['user'], who: 'ana', want: 'v3:ana' },
    { parts: ['user'], who: undefined, want: 'p32:uri:spiffe://example.org/gateway' },
    { parts: ['org'], who: 'ana', want: '-' },
    { parts: ['org', 'tool'], who: 'ana@acme', tool: 't', want: 'o4:acmet1:t' },
    { parts: ['session'], who: 'ana', session: 's1', want: 's2:s1' },
    { parts: ['session'], who: 'ana', want: 'v3:ana' },
    { parts: ['peer'], who: 'ana', want: 'p32:uri:spiffe://example.org/gateway' },
  ])('$parts of $who: $want', ({ parts, who, tool, session, want }) => {
    expect(keyOf(parts, caller(who), session, tool)).toBe(want)
  })

  test('no two combinations are written alike, whatever their characters', () => {
    const text = fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('1:a', 'u1:a1:b', ':', '', '#', '~', '-'))
    const combination = fc.record({ org: fc.option(text, { nil: undefined }), id: text, tool: text })
    fc.assert(
      fc.property(combination, combination, (a, b) => {
        const key = ({ org, id, tool }: typeof a) => {
          const base = caller('x')
          return keyOf(['user', 'tool'], { ...base, user: { ...base.user!, id, org } }, undefined, tool)
        }
        expect(key(a) === key(b)).toBe(a.org === b.org && a.id === b.id && a.tool === b.tool)
      }),
      { numRuns: 2000 },
    )
  })

  test('callers do not choose how much is stored', () => {
    const long = keyOf(['tool'], ana, undefined, 'x'.repeat(100_000))
    expect(long.length).toBeLessThanOrEqual(MAX_KEY)
    expect(long).not.toBe(keyOf(['tool'], ana, undefined, 'x'.repeat(100_001)))
    expect(readKey(long)).toBeUndefined()
    expect(readKey(pollKey(long))).toBeUndefined()
  })

  test('a key is read back as it was written', () => {
    expect(readKey(pollKey(keyOf(['user', 'tool'], ana, undefined, 'a:b')))).toEqual({
      isPoll: true,
      parts: [
        { kind: 'user', org: 'acme', value: 'ana' },
        { kind: 'tool', value: 'a:b' },
      ],
    })
  })
})

describe('shares', () => {
  test.each([
    { limit: 100, replicas: 3, want: 33 },
    { limit: 100, replicas: 1, want: 100 },
    { limit: 2, replicas: 5, want: 1 },
  ])('$limit among $replicas is $want', ({ limit, replicas, want }) => {
    const [compiled] = compileQuotas(
      [quota('q', { windows: [{ limit, perMs: 1000 }], concurrent: limit })],
      replicas,
    ).quotas
    expect([compiled?.windows[0]?.limit, compiled?.concurrent]).toEqual([want, want])
  })

  test('a call that weighs more than a share takes the whole share', () => {
    const compiled = compileQuotas(
      [quota('q', { windows: [{ limit: 12, perMs: 1000 }], cost: [{ tool: '*', weight: 10 }] })],
      4,
    )
    expect(demandsFor(compiled, ana, undefined, [callTool()])[0]?.cost).toBe(3)
  })
})

test('problems that only show together are told with their path', () => {
  const problems = quotaProblems([
    quota('a', { windows: [{ limit: 5, perMs: 1000 }], cost: [{ tool: 'x', weight: 6 }] }),
    quota('a', { match: { methods: ['server/discover'] } }),
    quota('b', {
      windows: [
        { limit: 1, perMs: 10 },
        { limit: 2, perMs: 10 },
      ],
      key: [],
    }),
  ])
  expect(problems.map(({ path }) => path)).toEqual([
    'quotas[0].cost.x',
    'quotas[1].name',
    'quotas[1]',
    'quotas[1].match.methods',
    'quotas[2].key',
    'quotas[2].windows[0].per',
    'quotas[2].windows[1].per',
    'quotas[2].windows[1].per',
  ])
})

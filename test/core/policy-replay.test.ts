import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/core/json.ts'
import { startReplay } from '../../src/core/policy/replay.ts'
import { policyOf, rule } from '../support/policy.ts'

function recorded(part: JsonObject = {}): string {
  return JSON.stringify({
    timestamp: '2026-11-21T10:00:00.000Z',
    kind: 'audit',
    event: 'mcp.call',
    peer: { name: 'gateway', uri: 'spiffe://example.org/gateway' },
    user: { id: 'alice', org: 'acme', scopes: ['mcp.read'], roles: [], source: 'headers' },
    mcp: { era: 'modern', method: 'tools/call', tool: 'search_web' },
    args: {},
    decision: { effect: 'allow', rule: 'readers', mode: 'enforce' },
    ...part,
  })
}

function replayed(rules: Parameters<typeof policyOf>[0], lines: readonly string[]) {
  const replay = startReplay(policyOf(rules))
  for (const line of lines) replay.line(line)
  return replay.report()
}

const readers = rule({ id: 'readers', when: { scopes: ['mcp.read'] }, tools: ['search_*'] })

test('verdicts that change are grouped, with who and when', () => {
  const narrower = rule({ ...readers, when: { scopes: ['mcp.search'] } })
  const report = replayed(
    [narrower],
    [
      recorded(),
      recorded({ timestamp: '2026-11-21T09:00:00.000Z', user: { id: 'bob', scopes: [], roles: ['dev'] } }),
      recorded({
        mcp: { method: 'tools/call', tool: 'x' },
        decision: { effect: 'deny', rule: 'default', mode: 'enforce' },
      }),
    ],
  )
  expect(report).toEqual({
    judged: 3,
    same: 1,
    sameByAnotherRule: 0,
    changes: [
      {
        call: 'tools/call search_web',
        before: 'allow by readers',
        after: 'deny by default',
        count: 2,
        callers: ['alice of acme through gateway, scopes mcp.read', 'bob through gateway, roles dev'],
        firstAt: '2026-11-21T09:00:00.000Z',
        lastAt: '2026-11-21T10:00:00.000Z',
        uncertain: 0,
      },
    ],
    uncertain: 0,
    withoutVerdict: 0,
    unreadable: 0,
  })
})

describe('lines and what they count as', () => {
  test.each<{ name: string; line: string; want: Partial<ReturnType<typeof replayed>> }>([
    { name: 'the same verdict', line: recorded(), want: { judged: 1, same: 1, changes: [] } },
    {
      name: 'the same by another rule',
      line: recorded({ decision: { effect: 'allow', rule: 'old', mode: 'enforce' } }),
      want: { judged: 1, sameByAnotherRule: 1, changes: [] },
    },
    { name: 'a coalesced line', line: recorded({ event: 'mcp.refused', count: 40 }), want: { judged: 40, same: 40 } },
    {
      name: 'an event stream',
      line: recorded({
        event: 'mcp.stream.open',
        mcp: { era: 'legacy' },
        decision: { effect: 'allow', rule: 'implicit', mode: 'enforce' },
      }),
      want: { judged: 1, same: 1 },
    },
    {
      name: 'the beginning of a streamed call, whose end is judged',
      line: recorded({ event: 'mcp.started' }),
      want: { judged: 0, withoutVerdict: 1 },
    },
    {
      name: 'a refusal before policy',
      line: recorded({ event: 'mcp.refused', decision: { effect: 'deny', reason: 'user_missing' } }),
      want: { judged: 0, withoutVerdict: 1 },
    },
    {
      name: 'a connection',
      line: JSON.stringify({ kind: 'audit', event: 'connection.refused' }),
      want: { judged: 0, withoutVerdict: 1 },
    },
    { name: 'a response', line: recorded({ mcp: { era: 'legacy' } }), want: { judged: 0, withoutVerdict: 1 } },
    { name: 'no JSON', line: '{"kind":"audi', want: { judged: 0, unreadable: 1 } },
    { name: 'no object', line: '[]', want: { judged: 0, unreadable: 1 } },
    {
      name: 'a call that the reader would refuse now',
      line: recorded({ mcp: { method: 'resources/read', resource: 'no uri' } }),
      want: { judged: 0, unreadable: 1 },
    },
    { name: 'an empty line', line: '', want: { judged: 0, unreadable: 0 } },
  ])('$name', ({ line, want }) => {
    expect(replayed([readers], [line])).toMatchObject(want)
  })
})

describe('arguments that were not recorded in full', () => {
  const limited = rule({ ...readers, args: { limit: { max: 10 } } })
  const uncertain = (rules: Parameters<typeof policyOf>[0], part: JsonObject) =>
    replayed(rules, [recorded(part)]).uncertain
  test('make a verdict uncertain where a rule looks at them', () => {
    expect(uncertain([limited], { args: { limit: 5 } })).toBe(0)
    expect(uncertain([limited], { args: { limit: '[redacted]' } })).toBe(1)
    expect(uncertain([limited], { args: {}, truncated: true })).toBe(1)
    expect(uncertain([limited], { args: {}, argsDigest: 'x' })).toBe(1)
    expect(uncertain([readers], { args: { limit: '[redacted]' } })).toBe(0)
    expect(uncertain([rule({ ...limited, tools: ['other'] })], { args: { limit: '[redacted]' } })).toBe(0)
  })
})

test('a would-deny is compared as one', () => {
  const line = recorded({ decision: { effect: 'deny', rule: 'trial', mode: 'shadow' } })
  const trial = rule({ id: 'trial', effect: 'deny', shadow: true, tools: ['search_*'] })
  expect(replayed([readers, trial], [line]).same).toBe(1)
  expect(replayed([readers, { ...trial, shadow: false }], [line]).changes).toMatchObject([
    { before: 'would deny by trial', after: 'deny by trial' },
  ])
})

test('names without end become one group, not memory without end', () => {
  const replay = startReplay(policyOf([]))
  for (let n = 0; n < 10_050; n++) replay.line(recorded({ mcp: { method: 'tools/call', tool: `t${n}` } }))
  const { changes } = replay.report()
  expect(changes.length).toBe(10_001)
  expect(changes[0]).toMatchObject({ call: 'others', count: 50 })
})

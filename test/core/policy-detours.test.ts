import { describe, expect, test } from 'vitest'
import { filterLists } from '../../src/core/mcp/list-filter.ts'
import { normalizeUri } from '../../src/core/mcp/uri.ts'
import { shownTo } from '../../src/journey/shown-objects.ts'
import type { Settings } from '../../src/live/settings.ts'
import { callerOf, policyOf, rule } from '../support/policy.ts'

const noEtc = rule({ id: 'no-etc', effect: 'deny', resources: ['file:///etc/**'] })
const nas = rule({ id: 'nas', resources: ['file://nas/**', 'https://me@docs.example/**'] })
const noDocs = rule({ id: 'no-docs', effect: 'deny', resources: ['https://docs.example/secret/**'] })
const LISTED = [
  'file://nas/etc/passwd',
  'file://nas/srv/a',
  'https://me@docs.example/secret/b',
  'https://me@docs.example/c',
]

describe('a list of resources shows', () => {
  test.each([
    { name: 'no detour to what is denied', rules: [nas, noEtc, noDocs], want: [LISTED[1], LISTED[3]] },
    { name: 'every one that is allowed, wherever it leads', rules: [nas], want: LISTED },
    { name: 'what a deny on trial would hide', rules: [nas, { ...noEtc, shadow: true }], want: LISTED },
  ])('$name', ({ rules, want }) => {
    const policy = policyOf(rules)
    const settings = { generation: 1, value: { policy } as Settings }
    const learnt: string[] = []
    const shows = shownTo(
      { caller: callerOf(), settings },
      () => false,
      (_, name) => learnt.push(name),
    )
    const answer = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { resources: LISTED.map(uri => ({ uri })) } })
    const shown = filterLists(Buffer.from(answer), { isPending: () => true, allows: shows })
    if (!shown.ok) throw new Error(shown.error.reason)
    expect(JSON.parse(shown.value.toString()).result.resources).toEqual(want.map(uri => ({ uri })))
    expect(learnt).toEqual(LISTED)
  })
})

test('a dot behind the host of a file is no way round a rule about that host', () => {
  expect(normalizeUri('file://nas./secret/a')).toMatchObject({ ok: false })
  expect(normalizeUri('file://nas/secret/a')).toEqual({ ok: true, value: 'file://nas/secret/a' })
})

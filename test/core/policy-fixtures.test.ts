import { expect, test } from 'vitest'
import { readFixtures, runCase } from '../../src/core/policy/fixtures.ts'
import { policyOf, rule } from '../support/policy.ts'

const policy = policyOf([
  rule({ id: 'readers', when: { scopes: ['mcp.read'] }, tools: ['search_*'] }),
  rule({ id: 'trial', effect: 'deny', shadow: true, tools: ['search_all'] }),
])
const reader = { user: 'alice', org: 'acme', scopes: ['mcp.read'] }

function run(part: object) {
  const read = readFixtures({ callers: { reader }, cases: [{ caller: 'reader', ...part }] })
  if (!read.ok) throw new Error(JSON.stringify(read.error))
  return runCase(policy, read.value.cases[0] as (typeof read.value.cases)[0])
}

test.each([
  { call: { tool: 'search_web' }, expect: 'allow', passed: true },
  { call: { tool: 'search_web' }, expect: 'allow by readers', passed: true },
  { call: { tool: 'search_web' }, expect: 'allow by others', passed: false },
  { call: { tool: 'search_web' }, expect: 'deny', passed: false },
  { call: { tool: 'search_all' }, expect: 'would deny by trial', passed: true },
  { call: { tool: 'search_all' }, expect: 'would deny', passed: true },
  { call: { tool: 'search_all' }, expect: 'deny', passed: false },
  { call: { tool: 'x' }, expect: 'would deny', passed: false },
  { call: { tool: 'x' }, expect: 'deny by default', passed: true },
  { caller: { user: 'bob' }, call: { tool: 'search_web' }, expect: 'deny for scopes mcp.read', passed: true },
  { caller: { user: 'bob' }, call: { tool: 'search_web' }, expect: 'deny for scopes mcp.write', passed: false },
  { call: { tool: 'search_web' }, visible: true, passed: true },
  { call: { tool: 'x' }, visible: true, passed: false },
  { call: { resource: 'file:///a' }, visible: false, passed: true },
])('$call $expect $visible', ({ passed, ...part }) => {
  expect(run(part).passed).toBe(passed)
})

test('what differs is shown with all that is needed to see why', () => {
  expect(
    run({ name: 'bob may search', caller: { user: 'bob' }, call: { tool: 'search_web' }, expect: 'allow' }),
  ).toEqual({
    name: 'bob may search',
    passed: false,
    caller: 'bob',
    call: 'tools/call search_web',
    differences: [{ expected: 'allow', actual: 'deny by default for scopes mcp.read' }],
    because: [
      'allow readers: does not match: when.scopes: "mcp.read" not held',
      'deny trial (in shadow): does not match: tools: "search_all" is not "search_web"',
    ],
  })
})

test.each([
  { name: 'no cases', value: { cases: [] }, want: ['cases'] },
  { name: 'an unknown key', value: { cases: [{ call: { tool: 'x' }, expects: 'allow' }] }, want: ['cases[0]'] },
  {
    name: 'an unknown caller',
    value: { cases: [{ caller: 'who', call: { tool: 'x' }, expect: 'allow' }] },
    want: ['cases[0].caller'],
  },
  { name: 'no call', value: { cases: [{ call: {}, expect: 'allow' }] }, want: ['cases[0].call'] },
  {
    name: 'two objects',
    value: { cases: [{ call: { tool: 'x', prompt: 'y' }, expect: 'allow' }] },
    want: ['cases[0].call'],
  },
  {
    name: 'a URI that the reader refuses',
    value: { cases: [{ call: { resource: 'file:///a/..%2fb' }, expect: 'allow' }] },
    want: ['cases[0].call'],
  },
  { name: 'nothing expected', value: { cases: [{ call: { tool: 'x' } }] }, want: ['cases[0]'] },
  {
    name: 'an expectation in other words',
    value: { cases: [{ call: { tool: 'x' }, expect: 'permitted' }] },
    want: ['cases[0].expect'],
  },
  {
    name: 'visible without an object',
    value: { cases: [{ call: { method: 'ping' }, visible: true }] },
    want: ['cases[0].visible'],
  },
  { name: 'no map at all', value: null, want: [''] },
])('$name is told with its place', ({ value, want }) => {
  const read = readFixtures(value)
  expect(read.ok ? [] : read.error.map(({ path }) => path)).toEqual(want)
})

import { expect, test } from 'vitest'
import { explain } from '../../src/core/policy/explain.ts'
import { callerOf, messageOf, policyOf, rule, toolCall } from '../support/policy.ts'

const policy = policyOf([
  rule({
    id: 'readers',
    when: { scopes: ['mcp.read'], orgs: ['acme'] },
    methods: ['tools/call'],
    tools: ['search_*'],
    args: { limit: { max: 100 } },
  }),
  rule({ id: 'no-delete', effect: 'deny', tools: ['delete_*'] }),
  rule({ id: 'kill', effect: 'deny', when: { users: ['mallory'] } }),
  rule({ id: 'docs', resources: ['file:///srv/**'] }),
])
const reader = callerOf({ scopes: ['mcp.read'] })

test.each([
  { caller: reader, message: toolCall('search_web'), want: 'allowed by rule readers' },
  { caller: reader, message: toolCall('delete_row'), want: 'denied (tool "delete_row"): rule no-delete' },
  {
    caller: callerOf(),
    message: toolCall('search_web'),
    want: 'denied (tool "search_web"): no rule allows it; the scopes mcp.read would do',
  },
  {
    caller: reader,
    message: messageOf('ping'),
    want: 'allowed: always is to an accepted caller, and no rule denies it',
  },
  { caller: reader, message: messageOf('vendor/x'), want: 'denied (method "vendor/x"): no rule allows it' },
])('$want', ({ caller, message, want }) => {
  expect(explain(policy, caller, message).summary).toBe(want)
})

test('which rule decides, and why each of the others does not', () => {
  const caller = callerOf({ org: 'evil', anonymous: false })
  const { judged } = explain(policy, caller, toolCall('search_web', { limit: '9' }))
  expect(judged).toEqual([
    {
      what: 'tool "search_web"',
      rules: [
        {
          rule: 'readers',
          effect: 'allow',
          shadow: false,
          matches: false,
          decides: false,
          because: [
            'when.orgs: "acme" is not "evil"',
            'when.scopes: "mcp.read" not held',
            'args.limit: cannot be judged (max)',
          ],
        },
        {
          rule: 'no-delete',
          effect: 'deny',
          shadow: false,
          matches: false,
          decides: false,
          because: ['tools: "delete_*" is not "search_web"'],
        },
        {
          rule: 'kill',
          effect: 'deny',
          shadow: false,
          matches: false,
          decides: false,
          because: ['when.users: "mallory" is not "alice"'],
        },
        {
          rule: 'docs',
          effect: 'allow',
          shadow: false,
          matches: false,
          decides: false,
          because: ['tools: the rule is about other kinds'],
        },
      ],
    },
  ])
})

test('a deny that applies because something is unknown says what', () => {
  const { judged, summary } = explain(policy, callerOf({ anonymous: true }), toolCall('search_web'))
  expect(summary).toBe('denied (tool "search_web"): rule kill')
  const kill = judged[0]?.rules.find(({ rule }) => rule === 'kill')
  expect(kill).toMatchObject({
    matches: true,
    decides: true,
    because: ['when.users: there is no user to compare with'],
  })
})

test('a name that wants to be read by a terminal is shown as JSON', () => {
  const { summary } = explain(policy, reader, toolCall('\u001b[2Jx'))
  expect(summary).toContain('"\\u001b[2Jx"')
})

import { describe, expect, test } from 'vitest'
import { decide, visible } from '../../src/core/policy/decide.ts'
import { endSession, openStream } from '../../src/core/policy/implicit.ts'
import {
  callerOf,
  messageOf,
  object,
  policyOf,
  promptGet,
  resourceRead,
  rule,
  told,
  toolCall,
} from '../support/policy.ts'

const readers = rule({
  id: 'readers',
  when: { scopes: ['mcp.read'] },
  methods: ['tools/call'],
  tools: ['search_*', 'get_user'],
})
const admins = rule({ id: 'admins', when: { roles: ['admin'] }, tools: ['*'] })
const noDelete = rule({ id: 'no-delete', effect: 'deny', tools: ['delete_*'] })
const docs = rule({ id: 'docs', methods: ['resources/read'], resources: ['file:///srv/docs/*'] })
const killMallory = rule({ id: 'kill-mallory', effect: 'deny', when: { users: ['mallory'] } })

const reader = callerOf({ scopes: ['mcp.read'] })
const admin = callerOf({ roles: ['admin'] })
const mallory = callerOf({ id: 'mallory', scopes: ['mcp.read'], roles: ['admin'] })

describe('what rules decide', () => {
  test.each([
    {
      name: 'a listed tool is permitted',
      rules: [readers],
      caller: reader,
      message: toolCall('search_web'),
      want: 'allow by readers',
    },
    {
      name: 'an exact name is permitted',
      rules: [readers],
      caller: reader,
      message: toolCall('get_user'),
      want: 'allow by readers',
    },
    {
      name: 'a name that only begins like an exact one is not',
      rules: [readers],
      caller: reader,
      message: toolCall('get_users'),
      want: 'deny by default',
    },
    {
      name: 'names are compared with their case',
      rules: [readers],
      caller: reader,
      message: toolCall('Search_web'),
      want: 'deny by default',
    },
    {
      name: 'no rules forbids everything',
      rules: [],
      caller: reader,
      message: toolCall('search_web'),
      want: 'deny by default',
    },
    {
      name: 'deny wins over an earlier allow',
      rules: [admins, noDelete],
      caller: admin,
      message: toolCall('delete_row'),
      want: 'deny by no-delete',
    },
    {
      name: 'deny wins over a later allow',
      rules: [noDelete, admins],
      caller: admin,
      message: toolCall('delete_row'),
      want: 'deny by no-delete',
    },
    {
      name: 'the first of two allows is named',
      rules: [readers, admins],
      caller: callerOf({ scopes: ['mcp.read'], roles: ['admin'] }),
      message: toolCall('search_web'),
      want: 'allow by readers',
    },
    {
      name: 'a rule about tools opens no prompt',
      rules: [admins],
      caller: admin,
      message: promptGet('summary'),
      want: 'deny by default',
    },
    {
      name: 'a rule about tools opens no method without an object',
      rules: [admins],
      caller: admin,
      message: messageOf('logging/setLevel'),
      want: 'deny by default',
    },
    {
      name: 'a rule without lists opens no tool',
      rules: [rule({ id: 'all', methods: ['*'] })],
      caller: admin,
      message: toolCall('search_web'),
      want: 'deny by default',
    },
    {
      name: 'a rule without lists opens a method',
      rules: [rule({ id: 'log', methods: ['logging/*'] })],
      caller: admin,
      message: messageOf('logging/setLevel'),
      want: 'allow by log',
    },
    {
      name: 'a deny of tools leaves prompts alone',
      rules: [rule({ id: 'p', prompts: ['*'] }), noDelete],
      caller: admin,
      message: promptGet('delete_all'),
      want: 'allow by p',
    },
    {
      name: 'a resource below the segment is not the segment',
      rules: [docs],
      caller: reader,
      message: resourceRead('file:///srv/docs/a/b'),
      want: 'deny by default',
    },
    {
      name: 'a resource in the segment is',
      rules: [docs],
      caller: reader,
      message: resourceRead('file:///srv/docs/a'),
      want: 'allow by docs',
    },
    {
      name: 'a resource is judged by how it is reached',
      rules: [docs],
      caller: reader,
      message: resourceRead('file:///srv/docs/a', 'resources/subscribe'),
      want: 'deny by default',
    },
    {
      name: 'an unknown method needs an allow',
      rules: [readers],
      caller: reader,
      message: messageOf('vendor/export'),
      want: 'deny by default',
    },
    {
      name: "a vendor's list needs an allow",
      rules: [readers],
      caller: reader,
      message: messageOf('vendor/list'),
      want: 'deny by default',
    },
    {
      name: 'a user of another organisation is another user',
      rules: [rule({ id: 'acme-alice', when: { users: ['alice'], orgs: ['acme'] }, tools: ['*'] })],
      caller: callerOf({ org: 'evil' }),
      message: toolCall('x'),
      want: 'deny by default',
    },
    {
      name: 'all scopes are needed',
      rules: [rule({ id: 'rw', when: { scopes: ['mcp.read', 'mcp.write'] }, tools: ['*'] })],
      caller: callerOf({ scopes: ['mcp.write'] }),
      message: toolCall('x'),
      want: 'deny by default',
    },
    {
      name: 'one role is enough',
      rules: [rule({ id: 'any', when: { roles: ['dev', 'ops'] }, tools: ['*'] })],
      caller: callerOf({ roles: ['x', 'ops'] }),
      message: toolCall('x'),
      want: 'allow by any',
    },
    {
      name: 'a peer by its name',
      rules: [rule({ id: 'gw', when: { peers: ['gate*'] }, tools: ['*'] })],
      caller: callerOf(),
      message: toolCall('x'),
      want: 'allow by gw',
    },
    {
      name: 'a peer by its URI',
      rules: [rule({ id: 'gw', when: { peers: ['spiffe://example.org/ns/*/sa/kong'] }, tools: ['*'] })],
      caller: callerOf(),
      message: toolCall('x'),
      want: 'allow by gw',
    },
    {
      name: 'a star in a peer URI stays within its segment',
      rules: [rule({ id: 'gw', when: { peers: ['spiffe://example.org/*/kong'] }, tools: ['*'] })],
      caller: callerOf(),
      message: toolCall('x'),
      want: 'deny by default',
    },
    {
      name: 'an upper-case scheme and host in a pattern',
      rules: [rule({ id: 'r', resources: ['HTTPS://Wiki.Example.org/Docs/*'] })],
      caller: reader,
      message: resourceRead('https://wiki.example.org/Docs/a'),
      want: 'allow by r',
    },
    {
      name: 'a tools/call that names no tool is never allowed',
      rules: [rule({ id: 'all', methods: ['*'] })],
      caller: admin,
      message: messageOf('tools/call'),
      want: 'deny by default',
    },
    {
      name: 'a task needs an allow of its method',
      rules: [rule({ id: 'tasks', methods: ['tasks/*'] })],
      caller: reader,
      message: messageOf('tasks/get', { taskIds: ['t1'] }),
      want: 'allow by tasks',
    },
  ])('$name', ({ rules, caller, message, want }) => {
    expect(told(decide(policyOf(rules), caller, message))).toBe(want)
  })
})

describe('what is always allowed, unless a deny rule names it', () => {
  const always = [
    'initialize',
    'notifications/initialized',
    'notifications/cancelled',
    'notifications/progress',
    'ping',
    'server/discover',
    'tools/list',
    'prompts/list',
    'resources/list',
    'resources/templates/list',
    'skills/list',
    'tasks/list',
    'subscriptions/listen',
  ].map(method => ({ method, message: messageOf(method) }))
  const streams = [
    { method: 'stream/open', message: openStream('legacy') },
    { method: 'session/end', message: endSession('legacy') },
    { method: 'response', message: messageOf('', { kind: 'response', id: 7 }) },
  ]

  test.each([...always, ...streams])('$method', ({ method, message }) => {
    const caller = callerOf()
    expect(told(decide(policyOf([]), caller, message))).toBe('allow by implicit')
    const named = rule({ id: 'named', effect: 'deny', methods: [method] })
    expect(told(decide(policyOf([named]), caller, message))).toBe('deny by named')
    expect(told(decide(policyOf([killMallory]), caller, message))).toBe('allow by implicit')
    expect(told(decide(policyOf([killMallory]), mallory, message))).toBe('deny by kill-mallory')
    const aboutTools = rule({ id: 'tools', effect: 'deny', methods: ['*'], tools: ['*'] })
    expect(told(decide(policyOf([aboutTools]), caller, message))).toBe('allow by implicit')
  })

  test.each(['stream/open', 'session/end', 'response'])('a posted request named %s is an unknown method', method => {
    expect(told(decide(policyOf([]), callerOf(), messageOf(method)))).toBe('deny by default')
  })

  test.each([
    { name: 'a resource', part: { objects: [object('resource', 'file:///srv/a')] } },
    { name: 'a task', part: { taskIds: ['t1'] } },
  ])('subscriptions/listen to $name needs an allow', ({ part }) => {
    expect(told(decide(policyOf([]), callerOf(), messageOf('subscriptions/listen', part)))).toBe('deny by default')
  })
})

describe('the switch that turns a caller off', () => {
  const everything = [
    rule({ id: 'tools', tools: ['*'] }),
    rule({ id: 'prompts', prompts: ['*'] }),
    rule({ id: 'resources', resources: ['**'] }),
    rule({ id: 'methods', methods: ['*'] }),
  ]
  const messages = [
    messageOf('initialize'),
    messageOf('tools/list'),
    toolCall('search_web'),
    promptGet('summary'),
    resourceRead('file:///srv/docs/a'),
    messageOf('vendor/x'),
    openStream('legacy'),
    endSession('legacy'),
  ]
  test.each([
    { name: 'a user', when: { users: ['mallory'] }, off: mallory },
    { name: 'an organisation', when: { orgs: ['evil'] }, off: callerOf({ org: 'evil' }) },
    { name: 'a peer', when: { peers: ['old-gateway'] }, off: callerOf({ peer: 'old-gateway' }) },
    { name: 'everyone', when: {}, off: reader },
  ])('turns off $name for everything there is', ({ when, off }) => {
    const policy = policyOf([...everything, rule({ id: 'off', effect: 'deny', when })])
    for (const message of messages) expect(told(decide(policy, off, message))).toBe('deny by off')
    expect(visible(policy, off, 'tool', 'search_web')).toBe(false)
  })

  test('with a method it turns off that method for every object', () => {
    const policy = policyOf([...everything, rule({ id: 'off', effect: 'deny', methods: ['tools/call'] })])
    expect(told(decide(policy, reader, toolCall('search_web')))).toBe('deny by off')
    expect(told(decide(policy, reader, promptGet('summary')))).toBe('allow by prompts')
  })
})

describe('a condition that cannot be evaluated', () => {
  const nobody = callerOf({ anonymous: true })
  const homeless = callerOf({ org: undefined })
  const open = rule({ id: 'open', tools: ['*'] })
  test.each([
    { name: 'users', when: { users: ['mallory'] }, caller: nobody },
    { name: 'orgs, no user', when: { orgs: ['evil'] }, caller: nobody },
    { name: 'orgs, no organisation', when: { orgs: ['evil'] }, caller: homeless },
    { name: 'roles', when: { roles: ['guest'] }, caller: nobody },
    { name: 'scopes', when: { scopes: ['mcp.read'] }, caller: nobody },
  ])('$name: an allow does not match, a deny does', ({ when, caller }) => {
    expect(told(decide(policyOf([rule({ id: 'r', when, tools: ['*'] })]), caller, toolCall('x')))).toBe(
      'deny by default',
    )
    const denies = policyOf([open, rule({ id: 'r', effect: 'deny', when, tools: ['*'] })])
    expect(told(decide(denies, caller, toolCall('x')))).toBe('deny by r')
  })

  test('something that surely does not hold settles it', () => {
    const other = rule({ id: 'r', effect: 'deny', when: { users: ['mallory'] }, tools: ['delete_*'] })
    expect(told(decide(policyOf([open, other]), nobody, toolCall('search')))).toBe('allow by open')
  })
})

describe('a message that names several objects', () => {
  const listen = (...uris: string[]) =>
    messageOf('subscriptions/listen', { objects: uris.map(uri => object('resource', uri)) })
  const rules = [
    rule({ id: 'a', resources: ['x://a/*'] }),
    rule({ id: 'b', resources: ['x://b/*'] }),
    rule({ id: 'no-secret', effect: 'deny', resources: ['x://*/secret'] }),
  ]
  test.each([
    { uris: ['x://a/1', 'x://b/1'], want: 'allow by a' },
    { uris: ['x://a/1', 'x://c/1'], want: 'deny by default' },
    { uris: ['x://a/1', 'x://b/secret'], want: 'deny by no-secret' },
  ])('$uris: $want', ({ uris, want }) => {
    const verdict = decide(policyOf(rules), callerOf(), listen(...uris))
    expect(told(verdict)).toBe(want)
    if (verdict.effect === 'deny') expect(verdict.denied).toEqual({ kind: 'resource', name: uris[1] })
  })
})

describe('shadow', () => {
  const open = rule({ id: 'open', tools: ['*'] })
  const trial = rule({ id: 'trial', effect: 'deny', shadow: true, tools: ['delete_*'] })
  test.each([
    {
      name: 'a deny on trial is recorded where the call would be served',
      rules: [open, trial],
      tool: 'delete_row',
      want: 'would deny by trial',
    },
    {
      name: 'it is not where another rule denies',
      rules: [open, noDelete, trial],
      tool: 'delete_row',
      want: 'deny by no-delete',
    },
    { name: 'nor where nothing allows', rules: [trial], tool: 'delete_row', want: 'deny by default' },
    {
      name: 'an allow on trial grants nothing',
      rules: [{ ...open, shadow: true }],
      tool: 'x',
      want: 'deny by default',
    },
  ])('$name', ({ rules, tool, want }) => {
    expect(told(decide(policyOf(rules), callerOf(), toolCall(tool)))).toBe(want)
  })

  test('a whole policy in shadow records and serves', () => {
    const policy = policyOf([noDelete], { mode: 'shadow' })
    expect(told(decide(policy, callerOf(), toolCall('delete_row')))).toBe('would deny by no-delete')
    expect(told(decide(policy, callerOf(), toolCall('x')))).toBe('would deny by default')
    expect(decide(policyOf([open], { mode: 'shadow' }), callerOf(), toolCall('x')).mode).toBe('shadow')
    expect(visible(policy, callerOf(), 'tool', 'delete_row')).toBe(true)
  })

  test('an enforced deny of one object is not outdone by a trial of another', () => {
    const policy = policyOf([
      rule({ id: 'all', resources: ['**'] }),
      rule({ id: 'trial', effect: 'deny', shadow: true, resources: ['x://a'] }),
      rule({ id: 'no', effect: 'deny', resources: ['x://b'] }),
    ])
    const message = messageOf('subscriptions/listen', {
      objects: [object('resource', 'x://a'), object('resource', 'x://b')],
    })
    expect(told(decide(policy, callerOf(), message))).toBe('deny by no')
  })
})

describe('scopes that would do', () => {
  const two = rule({ id: 'two', when: { scopes: ['mcp.read', 'mcp.write'] }, tools: ['save'] })
  const three = rule({ id: 'three', when: { scopes: ['a', 'b', 'c'] }, tools: ['save'] })
  const ours = rule({ id: 'ours', when: { scopes: ['mcp.write'], orgs: ['acme'] }, tools: ['save'] })
  test.each([
    {
      name: 'all that are needed, held ones too',
      rules: [two],
      user: { scopes: ['mcp.read'] },
      want: ['mcp.read', 'mcp.write'],
    },
    { name: 'of the rule that asks for the fewest', rules: [three, two], user: {}, want: ['mcp.read', 'mcp.write'] },
    {
      name: 'of a rule of which all else holds',
      rules: [two, ours],
      user: { org: 'evil' },
      want: ['mcp.read', 'mcp.write'],
    },
    { name: 'of the smaller one when both would do', rules: [two, ours], user: {}, want: ['mcp.write'] },
    { name: 'none when something else is missing too', rules: [ours], user: { org: 'evil' }, want: [] },
    {
      name: 'none when a rule denies',
      rules: [two, rule({ id: 'no', effect: 'deny', tools: ['save'] })],
      user: {},
      want: [],
    },
    {
      name: 'none when those scopes would be denied',
      rules: [two, rule({ id: 'no', effect: 'deny', when: { scopes: ['mcp.write'] }, tools: ['*'] })],
      user: {},
      want: [],
    },
    {
      name: 'a pattern that a held scope fills',
      rules: [rule({ id: 't', when: { scopes: ['tenant:*', 'mcp.write'] }, tools: ['save'] })],
      user: { scopes: ['tenant:1'] },
      want: ['tenant:1', 'mcp.write'],
    },
    {
      name: 'none for a pattern that none fills: nobody could ask for it',
      rules: [rule({ id: 't', when: { scopes: ['tenant:*'] }, tools: ['save'] })],
      user: {},
      want: [],
    },
  ])('$name', ({ rules, user, want }) => {
    expect(decide(policyOf(rules), callerOf(user), toolCall('save')).missingScopes).toEqual(want)
  })

  test('those of all objects together', () => {
    const policy = policyOf([
      rule({ id: 'a', when: { scopes: ['read.a'] }, resources: ['x://a'] }),
      rule({ id: 'b', when: { scopes: ['read.b'] }, resources: ['x://b'] }),
    ])
    const message = messageOf('subscriptions/listen', {
      objects: [object('resource', 'x://a'), object('resource', 'x://b')],
    })
    expect(decide(policy, callerOf({ scopes: ['read.a'] }), message).missingScopes).toEqual(['read.a', 'read.b'])
  })
})

describe('what lists show', () => {
  const limited = rule({ id: 'limited', tools: ['export'], args: { rows: { max: 10, required: true } } })
  const noSecret = rule({ id: 'no-secret', effect: 'deny', tools: ['export'], args: { table: { equals: 'secret' } } })
  test.each([
    { name: 'a tool that a rule permits', rules: [readers], kind: 'tool', object: 'search_web', want: true },
    { name: 'not one that no rule permits', rules: [readers], kind: 'tool', object: 'delete_row', want: false },
    {
      name: 'not one that a rule denies',
      rules: [rule({ id: 'o', tools: ['*'] }), noDelete],
      kind: 'tool',
      object: 'delete_row',
      want: false,
    },
    { name: 'one that is permitted with some arguments', rules: [limited], kind: 'tool', object: 'export', want: true },
    {
      name: 'one that is denied with some arguments',
      rules: [limited, noSecret],
      kind: 'tool',
      object: 'export',
      want: true,
    },
    { name: 'a resource that may be read', rules: [docs], kind: 'resource', object: 'file:///srv/docs/a', want: true },
    {
      name: 'not one that may only be subscribed to',
      rules: [rule({ id: 's', methods: ['resources/subscribe'], resources: ['**'] })],
      kind: 'resource',
      object: 'x://a',
      want: false,
    },
  ] as const)('$name', ({ rules, kind, object, want }) => {
    expect(visible(policyOf([...rules]), reader, kind, object)).toBe(want)
  })

  test('everything when the default is to allow', () => {
    expect(visible(policyOf([], { default: 'allow' }), reader, 'tool', 'x')).toBe(true)
    expect(visible(policyOf([noDelete], { default: 'allow' }), reader, 'tool', 'delete_row')).toBe(false)
  })
})

import { expect, test } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import type { Exchange } from '../../src/core/audit/exchange.ts'
import { auditLine } from '../../src/core/audit/schema.ts'
import type { FactBody } from '../../src/core/audit/sidecar-fact.ts'
import { connection, exchangeWith, lineOf, recorderWith, toolCall } from '../support/audit.ts'

test('a call says who called what, who decided and how it ended', () => {
  const { chain, ...line } = lineOf(exchangeWith())
  expect(chain).toEqual({ id: 'c', prev: '0'.repeat(64), hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
  expect(line).toEqual({
    timestamp: '2026-11-21T12:00:00.009Z',
    kind: 'audit',
    event: 'mcp.call',
    requestId: 'req-1',
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    client: { address: '10.1.2.3', forwardedFor: '192.0.2.7', userAgent: 'agent/1.0', name: 'agent', version: '1.0' },
    peer: {
      name: 'gateway',
      uri: 'spiffe://example.org/ns/gateway/sa/kong',
      subject: 'CN=gateway,O=Acme',
      issuer: 'CN=Acme CA',
      serial: '0a1b2c',
      fingerprint256: 'ab'.repeat(32),
      tls: 'TLSv1.3 X25519 TLS_AES_256_GCM_SHA384',
    },
    user: {
      id: 'jane',
      email: 'jane@acme.example',
      org: 'acme',
      scopes: ['mcp.read'],
      roles: ['developer'],
      source: 'headers',
    },
    mcp: { era: 'modern', version: '2026-07-28', method: 'tools/call', tool: 'search', rpcId: 7 },
    decision: { effect: 'allow', rule: 'readers', mode: 'enforce', policy: 'p0123456789' },
    quota: { name: 'per-user', limit: 120, remaining: 100, resetMs: 12345 },
    outcome: 'success',
    status: 200,
    durationMs: 4.125,
    upstreamMs: 2.75,
    bytesIn: 312,
    bytesOut: 1024,
    pod: { name: 'weather-7d9f', namespace: 'tools', node: 'node-1' },
    sidecar: { version: '0.1.0', config: 1, trust: 2 },
    args: { query: 'certificates', limit: 20 },
    seq: 1,
  })
})

test('what is not known is not there', () => {
  const line = lineOf(
    exchangeWith({
      peer: undefined,
      user: undefined,
      messages: [],
      verdict: undefined,
      quota: undefined,
      forwardedFor: undefined,
      userAgent: undefined,
      traceparent: undefined,
      upstreamStartedMono: undefined,
      upstreamEndedMono: undefined,
      outcome: undefined,
      status: 0,
      connection: { ...connection, certificate: undefined, tls: '' },
    }),
  )
  expect(Object.keys(line)).toEqual(
    'timestamp kind event requestId client outcome durationMs bytesIn bytesOut pod sidecar seq chain'.split(' '),
  )
  expect(line.outcome).toBe('aborted')
})

test.each<{ name: string; more: Partial<Exchange>; want: object }>([
  {
    name: 'policy said no',
    more: {
      verdict: { effect: 'deny', rule: 'no-delete', mode: 'enforce', missingScopes: [], denied: undefined },
      refusal: { reason: 'tool_not_permitted', name: 'search', rule: 'no-delete' },
    },
    want: { effect: 'deny', rule: 'no-delete', reason: 'tool_not_permitted', mode: 'enforce', policy: 'p0123456789' },
  },
  {
    name: 'policy said yes and a quota no',
    more: { refusal: { reason: 'quota_exhausted', quota: 'q', limit: 1, windowMs: 1000, retryAfterMs: 5 } },
    want: { effect: 'allow', rule: 'readers', reason: 'quota_exhausted', mode: 'enforce', policy: 'p0123456789' },
  },
  {
    name: 'it did not come to policy',
    more: { verdict: undefined, refusal: { reason: 'peer_not_listed', presented: 'uri:spiffe://x/y' } },
    want: { effect: 'deny', reason: 'peer_not_listed' },
  },
  {
    name: 'a deny in shadow mode was served',
    more: { verdict: { effect: 'deny', rule: 'strict', mode: 'shadow', missingScopes: [], denied: undefined } },
    want: { effect: 'deny', rule: 'strict', mode: 'shadow', policy: 'p0123456789' },
  },
])('the decision is told when $name', ({ more, want }) => {
  expect(lineOf(exchangeWith({ outcome: undefined, ...more })).decision).toEqual(want)
})

test('a cut of scopes is told', () => {
  const user = { ...(exchangeWith().user as NonNullable<Exchange['user']>), scopesCut: ['mcp.admin'] }
  expect(lineOf(exchangeWith({ user })).user).toMatchObject({ scopesCut: ['mcp.admin'] })
})

test('the same user with other scopes on the same connection is not mistaken for the one before', () => {
  const recorder = recorderWith()
  const { user } = exchangeWith()
  const scopesOf = (scopes: string[]) => {
    const exchange = exchangeWith({ user: { ...(user as NonNullable<Exchange['user']>), scopes } })
    return JSON.parse(`${recorder.exchange('mcp.call', exchange, undefined)}}`).user.scopes
  }
  expect([scopesOf(['a']), scopesOf(['a', 'b']), scopesOf(['b']), scopesOf([])]).toEqual([['a'], ['a', 'b'], ['b'], []])
})

const generation = { config: 3, trust: 4 }
const facts: FactBody[] = [
  {
    event: 'sidecar.started',
    details: { image: 'registry/x:1', node: '24.21.0', signingKey: undefined, checkpointEvery: undefined },
  },
  { event: 'sidecar.stopped', details: { reason: 'SIGTERM', records: 9, calls: 5, refused: 2, dropped: 0 } },
  { event: 'connection.refused', reason: 'CERT_HAS_EXPIRED', connection },
  { event: 'connection.closed', reason: 'certificate_revoked', connection, error: 'serial 0a1b2c is on the list' },
  { event: 'trust.reloaded' },
  { event: 'trust.kept', error: 'tls.key does not belong to tls.crt' },
  { event: 'config.reloaded' },
  { event: 'config.kept', error: 'policy.rules[2].tools: empty list' },
  { event: 'audit.gap', count: 12, firstAtMs: 1_795_000_000_000, lastAtMs: 1_795_000_001_000 },
  { event: 'audit.checkpoint', details: { seq: 3, hash: 'cd'.repeat(32), signature: 'a.b.c' } },
]

test.each(facts)('$event is a line of the schema', fact => {
  const line = JSON.parse(new Chain('c').seal(recorderWith().fact({ ...fact, generation }, 1_795_000_000_000)))
  expect(auditLine.parse(line)).toMatchObject({ event: fact.event, sidecar: { config: 3, trust: 4 } })
})

test('a reason to cut a connection is told', () => {
  const fact = facts[3] as FactBody
  const line = JSON.parse(new Chain('c').seal(recorderWith().fact({ ...fact, generation }, 0)))
  expect(line).toMatchObject({
    client: { address: '10.1.2.3' },
    peer: { subject: 'CN=gateway,O=Acme' },
    decision: { reason: 'certificate_revoked' },
    error: 'serial 0a1b2c is on the list',
  })
})

test('several that are told in one line have neither ids nor arguments', () => {
  const recorder = recorderWith()
  const exchange = exchangeWith({ refusal: { reason: 'draining', retryAfterMs: 1 }, outcome: 'refused' })
  const brief = recorder.exchange('mcp.refused', exchange, exchange.messages[0], true)
  const line = JSON.parse(new Chain('c').seal(recorder.coalesced(brief, 41, 1_795_000_000_000, 1_795_000_009_999)))
  expect(auditLine.parse(line)).toMatchObject({
    timestamp: '2026-11-18T11:06:49.999Z',
    event: 'mcp.refused',
    user: { id: 'jane' },
    decision: { reason: 'draining' },
    count: 41,
    firstAt: '2026-11-18T11:06:40.000Z',
    lastAt: '2026-11-18T11:06:49.999Z',
  })
  for (const absent of ['requestId', 'args', 'durationMs', 'traceparent']) expect(line).not.toHaveProperty(absent)
})

test.each([
  { args: 'none' as const, want: {} },
  { args: 'digest' as const, want: { argsDigest: expect.stringMatching(/^hmac-sha256:[0-9a-f]{64}$/) } },
  { args: 'redacted' as const, want: { args: { query: 'x', password: '[redacted]' } } },
])('arguments as audit.args is $args', ({ args, want }) => {
  const { args: shown, argsDigest } = lineOf(
    exchangeWith({ messages: [toolCall('search', { query: 'x', password: 'y' })] }),
    { args },
  )
  expect(JSON.parse(JSON.stringify({ args: shown, argsDigest }))).toEqual(want)
})

test('arguments that are allowed for a tool are written as they are, whatever audit.args says', () => {
  const messages = [toolCall('get_user', { id: 'jane@acme.example', note: 'joe@acme.example' })]
  const allow = [{ tool: 'get_*', args: ['id'] }]
  expect(lineOf(exchangeWith({ messages }), { allow, args: 'none' }).args).toEqual({ id: 'jane@acme.example' })
  expect(lineOf(exchangeWith({ messages }), { allow }).args).toEqual({
    id: 'jane@acme.example',
    note: '[redacted:email]',
  })
  const other = [toolCall('put_user', { id: 'jane@acme.example' })]
  expect(lineOf(exchangeWith({ messages: other }), { allow }).args).toEqual({ id: '[redacted:email]' })
})

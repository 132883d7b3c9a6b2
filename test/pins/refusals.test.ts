import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { answerFor, type Refusal, type RefusalReason } from '../../src/core/refusal.ts'

/**
 * What is sent for each reason: HTTP status, JSON-RPC code, and whether a request is answered in-band (HTTP 200 with the
 * error) unless `policy.refusals` says otherwise. Clients, dashboards and alerts rely on these.
 */
const TABLE: { readonly [R in RefusalReason]: Row<R> } = {
  peer_not_listed: [403, 403, 'by status', { presented: 'spiffe://example.org/x' }],
  peer_identity_ambiguous: [403, 403, 'by status', { detail: 'two URIs' }],
  peer_may_not_assert: [403, 403, 'by status', { field: 'org', value: 'globex' }],

  user_missing: [401, 401, 'by status', {}],
  user_header_ambiguous: [400, 400, 'by status', { header: 'X-User-ID' }],
  user_header_invalid: [400, 400, 'by status', { header: 'X-User-ID', detail: 'too long' }],
  user_token_missing: [401, 401, 'by status', {}],
  user_token_ambiguous: [400, 400, 'by status', { detail: 'Authorization is repeated' }],
  user_token_invalid: [401, 401, 'by status', { detail: 'signature' }],
  user_token_expired: [401, 401, 'by status', {}],
  user_token_unbound: [401, 401, 'by status', { detail: 'no cnf' }],
  user_token_unverifiable: [503, 503, 'by status', { detail: 'no keys' }],
  user_disagrees_with_token: [403, 403, 'by status', { field: 'user' }],
  user_scope_missing: [403, 403, 'by status', { requiredScopes: ['mcp.read', 'mcp.write'], rule: 'readers' }],

  request_host_not_accepted: [421, 421, 'by status', { host: 'evil.example' }],
  request_origin_not_accepted: [403, 403, 'by status', { origin: 'https://evil.example' }],
  request_path_unknown: [404, 404, 'by status', { path: '/admin' }],
  request_path_malformed: [400, 400, 'by status', { detail: 'a dot segment' }],
  request_method_not_allowed: [405, 405, 'by status', { method: 'PUT', allow: 'POST, GET, DELETE' }],
  request_upgrade_refused: [400, 400, 'by status', {}],
  request_token_in_query: [400, 400, 'by status', {}],
  request_malformed: [400, 400, 'by status', { detail: 'the body was cut off' }],
  request_headers_too_large: [431, 431, 'by status', {}],
  request_timeout: [408, 408, 'by status', { waitedMs: 30_000 }],

  message_too_large: [413, 413, 'by status', { limitBytes: 4_194_304 }],
  message_media_type: [415, 415, 'by status', { detail: 'text/plain' }],
  message_encoding: [415, 415, 'by status', { detail: 'gzip' }],
  message_unparseable: [400, -32700, 'by status', { detail: 'a comma' }],
  message_invalid: [400, -32600, 'by status', { detail: 'no method' }],
  message_ambiguous: [400, -32600, 'by status', { detail: 'a key is repeated' }],
  message_batch_refused: [400, -32600, 'by status', { detail: 'limits.batch' }],
  message_header_mismatch: [400, -32020, 'by status', { header: 'Mcp-Method', detail: 'tools/list' }],
  message_params_invalid: [400, -32602, 'by status', { detail: 'no name' }],
  message_method_removed: [404, -32601, 'by status', { method: 'initialize', version: '2026-07-28' }],
  message_response_unsolicited: [400, -32600, 'by status', {}],
  session_unknown: [404, -32001, 'by status', {}],
  task_unknown: [404, -32602, 'in-band', {}],

  tool_not_permitted: [403, 403, 'in-band', { name: 'drop_table', rule: 'no-drops' }],
  prompt_not_permitted: [403, 403, 'in-band', { name: 'secret', rule: 'default' }],
  resource_not_permitted: [403, 403, 'in-band', { name: 'file:///etc/passwd', rule: 'default' }],
  method_not_permitted: [403, 403, 'in-band', { name: 'logging/setLevel', rule: 'default' }],
  quota_exhausted: [429, 429, 'in-band', { quota: 'per-user', limit: 120, windowMs: 60_000, retryAfterMs: 37_500 }],
  quota_concurrency: [429, 429, 'in-band', { quota: 'in-flight', limit: 16, retryAfterMs: 1000 }],
  quota_store_down: [503, 503, 'by status', { retryAfterMs: 1000 }],
  streams_exhausted: [429, 429, 'by status', { limit: 32, retryAfterMs: 1000 }],

  upstream_unreachable: [502, 502, 'by status', { detail: 'ECONNREFUSED', retryAfterMs: 1000 }],
  upstream_broke: [502, 502, 'by status', { detail: 'ECONNRESET' }],
  upstream_answer_invalid: [502, 502, 'by status', { detail: 'an unreadable list' }],
  upstream_answer_encoded: [502, 502, 'by status', { encoding: 'gzip' }],
  upstream_event_too_large: [502, 502, 'by status', { limitBytes: 4_194_304 }],
  upstream_timeout: [504, 504, 'by status', { waitedMs: 300_000 }],
  upstream_breaker_open: [503, 503, 'by status', { retryAfterMs: 30_000 }],

  sidecar_overloaded: [503, 503, 'by status', { retryAfterMs: 1000 }],
  audit_blocked: [503, 503, 'by status', { retryAfterMs: 5000 }],
  draining: [503, 503, 'by status', { retryAfterMs: 1000 }],
  sidecar_fault: [500, 500, 'by status', {}],
}

type Row<R extends RefusalReason> = readonly [
  status: number,
  code: number,
  way: 'in-band' | 'by status',
  facts: Omit<Extract<Refusal, { reason: R }>, 'reason'>,
]

const rows = Object.entries(TABLE).map(([reason, [status, code, way, facts]]) => ({
  reason,
  status,
  code,
  way,
  refusal: { reason, ...facts } as Refusal,
}))

test.each(rows)('$reason is $status with code $code, told $way', ({ refusal, status, code, way }) => {
  const answer = answerFor(refusal)
  expect([answer.status, answer.code, answer.inBand ? 'in-band' : 'by status']).toEqual([status, code, way])
})

test('a refused caller is told when to come back, exactly where that is known', () => {
  const told = rows.filter(({ refusal }) => answerFor(refusal).retryAfterMs !== undefined).map(({ reason }) => reason)
  expect(told).toEqual([
    'user_token_unverifiable',
    'quota_exhausted',
    'quota_concurrency',
    'quota_store_down',
    'streams_exhausted',
    'upstream_unreachable',
    'upstream_breaker_open',
    'sidecar_overloaded',
    'audit_blocked',
    'draining',
  ])
})

test('every 401, and a scope that is missing, comes with a challenge', () => {
  const challenged = rows.flatMap(({ reason, refusal }) => {
    const { challenge } = answerFor(refusal)
    return challenge === undefined ? [] : [[reason, challenge.error, challenge.scopes?.join(' ')]]
  })
  expect(challenged).toEqual([
    ['user_missing', undefined, undefined],
    ['user_token_missing', undefined, undefined],
    ['user_token_ambiguous', 'invalid_request', undefined],
    ['user_token_invalid', 'invalid_token', undefined],
    ['user_token_expired', 'invalid_token', undefined],
    ['user_token_unbound', 'invalid_token', undefined],
    ['user_scope_missing', 'insufficient_scope', 'mcp.read mcp.write'],
  ])
})

test("no code is minted in the specification's range; only its HeaderMismatch is used", () => {
  const codes = rows.map(({ refusal }) => answerFor(refusal).code)
  expect([...new Set(codes.filter(code => code <= -32020 && code >= -32099))]).toEqual([-32020])
})

test('names that callers chose are bounded and quoted', () => {
  const name = `a\r\n${'x'.repeat(5000)}`
  for (const reason of ['tool_not_permitted', 'prompt_not_permitted', 'resource_not_permitted'] as const) {
    const { message } = answerFor({ reason, name, rule: 'default' })
    expect(message).toContain('"a\\r\\nxxx')
    expect(message.length).toBeLessThan(200)
  }
})

describe('docs/refusals.md', () => {
  const documented = readFileSync('docs/refusals.md', 'utf8')
    .split('\n')
    .flatMap(line => {
      const [, reason, status, code] = /^\| `([a-z_]+)` \| (\d{3}) \| (-?\d+) \|/.exec(line) ?? []
      return reason === undefined ? [] : [`${reason} ${status} ${code}`]
    })

  test('has a line for every reason, with what is sent for it', () => {
    expect(documented.sort()).toEqual(rows.map(({ reason, status, code }) => `${reason} ${status} ${code}`).sort())
  })
})

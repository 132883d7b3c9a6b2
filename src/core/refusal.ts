import type { JsonObject } from './json.ts'

/**
 * Every reason for which the sidecar answers by itself instead of the upstream. `reason` is at once the audit field,
 * the metric label and the key of the test table: one word for one fact. The first part of a name says whose it is.
 */
export type Refusal =
  // The peer, known by its certificate.
  | { reason: 'peer_not_listed'; presented: string }
  | { reason: 'peer_identity_ambiguous'; detail: string }
  | { reason: 'peer_may_not_assert'; field: 'user' | 'org' | 'email' | 'role'; value: string }
  // The user, known by headers or a token.
  | { reason: 'user_missing' }
  | { reason: 'user_header_ambiguous'; header: string }
  | { reason: 'user_header_invalid'; header: string; detail: string }
  | { reason: 'user_token_missing' }
  | { reason: 'user_token_ambiguous'; detail: string }
  | { reason: 'user_token_invalid'; detail: string }
  | { reason: 'user_token_expired' }
  | { reason: 'user_token_unbound'; detail: string }
  | { reason: 'user_token_unverifiable'; detail: string }
  | { reason: 'user_disagrees_with_token'; field: 'user' | 'org' | 'scopes' | 'roles' }
  | { reason: 'user_scope_missing'; requiredScopes: readonly string[]; rule?: string }
  // The HTTP request around the message.
  | { reason: 'request_host_not_accepted'; host: string }
  | { reason: 'request_origin_not_accepted'; origin: string }
  | { reason: 'request_path_unknown'; path: string }
  | { reason: 'request_path_malformed'; detail: string }
  | { reason: 'request_method_not_allowed'; method: string; allow: string }
  | { reason: 'request_upgrade_refused' }
  | { reason: 'request_token_in_query' }
  | { reason: 'request_malformed'; detail: string }
  | { reason: 'request_headers_too_large' }
  | { reason: 'request_timeout'; waitedMs: number }
  // The MCP message.
  | { reason: 'message_too_large'; limitBytes: number }
  | { reason: 'message_media_type'; detail: string }
  | { reason: 'message_encoding'; detail: string }
  | { reason: 'message_unparseable'; detail: string }
  | { reason: 'message_invalid'; detail: string }
  | { reason: 'message_ambiguous'; detail: string }
  | { reason: 'message_batch_refused'; detail: string }
  | { reason: 'message_header_mismatch'; header: string; detail: string }
  | { reason: 'message_params_invalid'; detail: string }
  | { reason: 'message_method_removed'; method: string; version: string }
  | { reason: 'message_response_unsolicited' }
  | { reason: 'session_unknown' }
  | { reason: 'task_unknown' }
  // What policy and quota decide.
  | { reason: 'tool_not_permitted'; name: string; rule: string; detail?: string }
  | { reason: 'prompt_not_permitted'; name: string; rule: string; detail?: string }
  | { reason: 'resource_not_permitted'; name: string; rule: string; detail?: string }
  | { reason: 'method_not_permitted'; name: string; rule: string; detail?: string }
  | { reason: 'quota_exhausted'; quota: string; limit: number; windowMs: number; retryAfterMs: number }
  | { reason: 'quota_concurrency'; quota: string; limit: number; retryAfterMs: number }
  | { reason: 'quota_store_down'; retryAfterMs: number }
  | { reason: 'streams_exhausted'; limit: number; retryAfterMs: number }
  // The upstream.
  | { reason: 'upstream_unreachable'; detail: string; retryAfterMs: number }
  | { reason: 'upstream_broke'; detail: string }
  | { reason: 'upstream_answer_invalid'; detail: string }
  | { reason: 'upstream_answer_encoded'; encoding: string }
  | { reason: 'upstream_event_too_large'; limitBytes: number }
  | { reason: 'upstream_timeout'; waitedMs: number }
  | { reason: 'upstream_breaker_open'; retryAfterMs: number }
  // The sidecar itself.
  | { reason: 'sidecar_overloaded'; retryAfterMs: number }
  | { reason: 'audit_blocked'; retryAfterMs: number }
  | { reason: 'draining'; retryAfterMs: number }
  | { reason: 'sidecar_fault' }

export type RefusalReason = Refusal['reason']

/** What the caller may learn of a refusal. */
export interface RefusalAnswer {
  /** HTTP status when the refusal is told by status. */
  readonly status: number
  /** JSON-RPC error code; never in the specification's own range -32020…-32099 but for its HeaderMismatch. */
  readonly code: number
  readonly message: string
  /** A POST with an id is answered with HTTP 200 and a JSON-RPC error, unless `policy.refusals` is `http`. */
  readonly inBand: boolean
  /** Added to `error.data`. */
  readonly data?: JsonObject
  readonly retryAfterMs?: number
  /** Value of `Allow`. */
  readonly allow?: string
  /** Parameters of the `WWW-Authenticate: Bearer` challenge; `resource_metadata` and `scope` are added by the caller. */
  readonly challenge?: {
    readonly error?: 'invalid_token' | 'insufficient_scope' | 'invalid_request'
    readonly scopes?: readonly string[]
  }
}

/**
 * What the caller may learn. A new reason does not compile until this switch answers for it.
 *
 * @source contract section 6; JSON-RPC 2.0 §5.1; MCP 2026-07-28 basic (codes), RFC 6750 §3.1 (challenges).
 */
export function answerFor(refusal: Refusal): RefusalAnswer {
  switch (refusal.reason) {
    case 'peer_not_listed':
      return by(403, 'the client certificate is not on the list of peers')
    case 'peer_identity_ambiguous':
      return by(403, `the client certificate does not name one workload: ${refusal.detail}`)
    case 'peer_may_not_assert':
      return {
        ...by(403, `this client certificate may not assert this ${refusal.field}`),
        data: { field: refusal.field },
      }

    case 'user_missing':
      return { ...by(401, 'no user: the gateway forwarded none'), challenge: {} }
    case 'user_header_ambiguous':
      return by(400, `identity header ${refusal.header} is repeated or spelt in a way that folds onto another`)
    case 'user_header_invalid':
      return by(400, `identity header ${refusal.header} is not acceptable: ${refusal.detail}`)
    case 'user_token_missing':
      return { ...by(401, 'no access token in Authorization'), challenge: {} }
    case 'user_token_ambiguous':
      return { ...by(400, `more than one credential: ${refusal.detail}`), challenge: { error: 'invalid_request' } }
    case 'user_token_invalid':
      return { ...by(401, `the access token is not valid: ${refusal.detail}`), challenge: { error: 'invalid_token' } }
    case 'user_token_expired':
      return { ...by(401, 'the access token has expired'), challenge: { error: 'invalid_token' } }
    case 'user_token_unbound':
      return {
        ...by(401, `the access token is not bound to this certificate: ${refusal.detail}`),
        challenge: { error: 'invalid_token' },
      }
    case 'user_token_unverifiable':
      return { ...by(503, 'the keys to verify access tokens cannot be had now'), retryAfterMs: 5000 }
    case 'user_disagrees_with_token':
      return by(403, `the forwarded ${refusal.field} and the access token disagree`)
    case 'user_scope_missing':
      return {
        ...by(403, `scope missing: ${refusal.requiredScopes.join(' ')}`),
        data: {
          requiredScopes: [...refusal.requiredScopes],
          ...(refusal.rule === undefined ? {} : { rule: refusal.rule }),
        },
        challenge: { error: 'insufficient_scope', scopes: refusal.requiredScopes },
      }

    case 'request_host_not_accepted':
      return by(421, `Host ${quote(refusal.host)} is not served here; add it to listen.hosts if it should be`)
    case 'request_origin_not_accepted':
      return by(403, `Origin ${quote(refusal.origin)} is not accepted; add it to listen.origins if it should be`)
    case 'request_path_unknown':
      return by(404, 'this path is not proxied (upstream.paths)')
    case 'request_path_malformed':
      return by(400, `malformed path: ${refusal.detail}`)
    case 'request_method_not_allowed':
      return { ...by(405, `${refusal.method} is not allowed here`), allow: refusal.allow }
    case 'request_upgrade_refused':
      return by(400, 'protocol upgrades and CONNECT are refused')
    case 'request_token_in_query':
      return by(400, 'access tokens belong in Authorization, never in the query')
    case 'request_malformed':
      return by(400, `malformed request: ${refusal.detail}`)
    case 'request_headers_too_large':
      return by(431, 'request headers are too large (limits.headers)')
    case 'request_timeout':
      return by(408, `the request was not complete after ${refusal.waitedMs} ms`)

    case 'message_too_large':
      return by(413, `the body is larger than ${refusal.limitBytes} bytes (limits.body)`)
    case 'message_media_type':
      return by(415, `Content-Type must be application/json in UTF-8: ${refusal.detail}`)
    case 'message_encoding':
      return by(415, `Content-Encoding must be absent or identity: ${refusal.detail}`)
    case 'message_unparseable':
      return rpc(400, -32700, `not JSON as MCP needs it: ${refusal.detail}`)
    case 'message_invalid':
      return rpc(400, -32600, `not a valid MCP message: ${refusal.detail}`)
    case 'message_ambiguous':
      return rpc(400, -32600, `the message can be read in more than one way: ${refusal.detail}`)
    case 'message_batch_refused':
      return rpc(400, -32600, `batch refused: ${refusal.detail}`)
    case 'message_header_mismatch':
      return rpc(400, -32020, `header ${refusal.header} and body disagree: ${refusal.detail}`)
    case 'message_params_invalid':
      return rpc(400, -32602, `invalid params: ${refusal.detail}`)
    case 'message_method_removed':
      return rpc(404, -32601, `Method not found: ${refusal.version} has no ${refusal.method}`)
    case 'message_response_unsolicited':
      return rpc(400, -32600, 'no request of the server waits for this response')
    case 'session_unknown':
      return rpc(404, -32001, 'Session not found')
    case 'task_unknown':
      // In-band: to a client with a session, 404 means that the session is gone. @source SEP-2663, MCP 2025-11-25 tasks
      return { status: 404, code: -32602, message: 'Task not found', inBand: true }

    case 'tool_not_permitted':
      return { ...inBand(403, `Permission denied: tool ${quote(refusal.name)}`), data: { rule: refusal.rule } }
    case 'prompt_not_permitted':
      return { ...inBand(403, `Permission denied: prompt ${quote(refusal.name)}`), data: { rule: refusal.rule } }
    case 'resource_not_permitted':
      return { ...inBand(403, `Permission denied: resource ${quote(refusal.name)}`), data: { rule: refusal.rule } }
    case 'method_not_permitted':
      return { ...inBand(403, `Permission denied: method ${quote(refusal.name)}`), data: { rule: refusal.rule } }
    case 'quota_exhausted':
      return {
        ...inBand(429, `Quota ${quote(refusal.quota)} is used up: ${refusal.limit} in ${words(refusal.windowMs)}`),
        data: { quota: refusal.quota, limit: refusal.limit, windowMs: refusal.windowMs },
        retryAfterMs: refusal.retryAfterMs,
      }
    case 'quota_concurrency':
      return {
        ...inBand(429, `Quota ${quote(refusal.quota)} is used up: ${refusal.limit} at a time`),
        data: { quota: refusal.quota, limit: refusal.limit },
        retryAfterMs: refusal.retryAfterMs,
      }
    case 'quota_store_down':
      return { ...by(503, 'quotas cannot be decided now'), retryAfterMs: refusal.retryAfterMs }
    case 'streams_exhausted':
      return {
        ...by(429, `too many open streams: ${refusal.limit} for one caller (limits.streamsPerUser)`),
        retryAfterMs: refusal.retryAfterMs,
      }

    case 'upstream_unreachable':
      return { ...by(502, 'the MCP server cannot be reached'), retryAfterMs: refusal.retryAfterMs }
    case 'upstream_broke':
      return by(502, 'the MCP server broke off its answer')
    case 'upstream_answer_invalid':
      return by(502, 'the MCP server sent an answer that cannot be passed on')
    case 'upstream_answer_encoded':
      return by(502, `the MCP server sent Content-Encoding ${quote(refusal.encoding)}; only identity is passed on`)
    case 'upstream_event_too_large':
      return by(502, `the MCP server sent an event larger than ${refusal.limitBytes} bytes (limits.event)`)
    case 'upstream_timeout':
      return by(504, `the MCP server did not answer within ${refusal.waitedMs} ms`)
    case 'upstream_breaker_open':
      return { ...by(503, 'the MCP server has been failing; calls are held back'), retryAfterMs: refusal.retryAfterMs }

    case 'sidecar_overloaded':
      return { ...by(503, 'the sidecar is overloaded'), retryAfterMs: refusal.retryAfterMs }
    case 'audit_blocked':
      return { ...by(503, 'audit lines cannot be written now'), retryAfterMs: refusal.retryAfterMs }
    case 'draining':
      return { ...by(503, 'the sidecar is shutting down'), retryAfterMs: refusal.retryAfterMs }
    case 'sidecar_fault':
      return by(500, 'internal fault of the sidecar')
  }
}

function by(status: number, message: string): RefusalAnswer {
  return { status, code: status, message, inBand: false }
}

function inBand(status: number, message: string): RefusalAnswer {
  return { status, code: status, message, inBand: true }
}

function rpc(status: number, code: number, message: string): RefusalAnswer {
  return { status, code, message, inBand: false }
}

/** Names come from callers: bounded, and quoted as JSON so that no control character gets out. */
function quote(name: string): string {
  return JSON.stringify(name.length > 128 ? `${name.slice(0, 128)}…` : name)
}

function words(ms: number): string {
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`
  if (ms % 60_000 === 0) return `${ms / 60_000} min`
  if (ms % 1000 === 0) return `${ms / 1000} s`
  return `${ms} ms`
}

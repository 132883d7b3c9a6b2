import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import { foldName, trimBlank } from './fold.ts'
import { HeaderKind, type HeaderRules } from './header-rules.ts'

/** What one pass over the header lines of a request found. Nothing in it has been believed yet. */
export interface ArrivalHeaders {
  /** Lines that may go through, `[name, value, …]` as they came: neither identity, nor credentials, nor the hop's own. */
  readonly passing: readonly string[]
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly userAgent: string | undefined
  /** There is a `Last-Event-ID`: what comes back may be of earlier requests. */
  readonly resumes: boolean
  /** Set only when there is exactly one and it is of `[A-Za-z0-9._-]{1,128}`. */
  readonly requestId: string | undefined
  /** All lines joined; undefined when the whole is not a plausible list of addresses. */
  readonly forwardedFor: string | undefined
  /** Set only when there is exactly one and it is well-formed. */
  readonly traceparent: string | undefined
  readonly authorization: string | undefined
  readonly proxyAuthorization: string | undefined
  readonly dpop: string | undefined
  readonly cookie: string | undefined
  /** As asserted by the peer, trimmed; undefined when absent or empty. */
  readonly user: string | undefined
  readonly email: string | undefined
  readonly org: string | undefined
  readonly scopes: string | undefined
  readonly roles: string | undefined
}

/**
 * Reads every header that the journey needs in one pass. What means something to the MCP message (`Mcp-*`,
 * `Content-Type`, `Last-Event-ID`) is handed through here and read by `readPostedHeaders`.
 *
 * @param raw  `[name, value, …]` in the order and spelling of the wire.
 * @refuses    `user_header_ambiguous` for a repeated or aliased identity line, `user_token_ambiguous` for a repeated
 *             Authorization, `request_malformed` for a repeated Host or Origin, and for names and values that HTTP does not allow.
 */
export function readArrivalHeaders(raw: readonly string[], rules: HeaderRules): Result<ArrivalHeaders, Refusal> {
  const passing: string[] = []
  let connection: string | undefined
  let host: string | undefined
  let origin: string | undefined
  let userAgent: string | undefined
  let resumes = false
  let requestId: string | undefined
  let requestIds = 0
  let forwardedFor: string | undefined
  let traceparent: string | undefined
  let traceparents = 0
  let authorization: string | undefined
  let proxyAuthorization: string | undefined
  let dpop: string | undefined
  let cookie: string | undefined
  let user: string | undefined
  let email: string | undefined
  let org: string | undefined
  let scopes: string | undefined
  let roles: string | undefined

  for (let at = 0; at < raw.length; at += 2) {
    const name = raw[at] as string
    const value = raw[at + 1] as string
    const found = rules.classOf(name)
    // A token that goes no further is long, and is held against its own alphabet when it is verified.
    const isPassed = found.kind !== HeaderKind.authorization || rules.pass.authorization
    if (isPassed && NOT_IN_A_VALUE.test(value)) return malformed('a header value has control characters')
    switch (found.kind) {
      case HeaderKind.other:
      case HeaderKind.endToEnd:
        passing.push(name, value)
        break
      case HeaderKind.dropped:
        break
      case HeaderKind.malformed:
        return malformed('a header name has characters that HTTP does not allow')
      case HeaderKind.connection:
        connection = connection === undefined ? value : `${connection},${value}`
        break
      case HeaderKind.host:
        if (host !== undefined) return malformed('Host is repeated')
        host = value
        break
      case HeaderKind.origin:
        if (origin !== undefined) return malformed('Origin is repeated')
        origin = value
        break
      case HeaderKind.userAgent:
        userAgent ??= value
        passing.push(name, value)
        break
      case HeaderKind.lastEventId:
        resumes = true
        passing.push(name, value)
        break
      case HeaderKind.requestId:
        requestId = value
        requestIds++
        break
      case HeaderKind.forwardedFor:
        forwardedFor = forwardedFor === undefined ? value : `${forwardedFor}, ${value}`
        break
      case HeaderKind.traceparent:
        traceparent = value
        traceparents++
        break
      case HeaderKind.authorization:
        if (authorization !== undefined) {
          return err({ reason: 'user_token_ambiguous', detail: 'Authorization is repeated' })
        }
        authorization = value
        break
      case HeaderKind.proxyAuthorization:
        if (proxyAuthorization !== undefined) return malformed('Proxy-Authorization is repeated')
        proxyAuthorization = value
        break
      case HeaderKind.dpop:
        if (dpop !== undefined) return malformed('DPoP is repeated')
        dpop = value
        break
      case HeaderKind.cookie:
        // HTTP/2 may send a cookie for each line; behind HTTP/1.1 they are one (RFC 9113 §8.2.3).
        cookie = cookie === undefined ? value : `${cookie}; ${value}`
        break
      case HeaderKind.identityUser:
        if (found.isAlias || user !== undefined) return ambiguous(found.name)
        user = value
        break
      case HeaderKind.identityEmail:
        if (found.isAlias || email !== undefined) return ambiguous(found.name)
        email = value
        break
      case HeaderKind.identityOrg:
        if (found.isAlias || org !== undefined) return ambiguous(found.name)
        org = value
        break
      case HeaderKind.identityScopes:
        if (found.isAlias || scopes !== undefined) return ambiguous(found.name)
        scopes = value
        break
      case HeaderKind.identityRoles:
        if (found.isAlias || roles !== undefined) return ambiguous(found.name)
        roles = value
        break
    }
  }

  const hasNames = connection !== undefined && connection !== 'keep-alive' && connection !== 'close'
  return ok({
    passing: hasNames ? withoutNamed(passing, connection as string, rules) : passing,
    host,
    origin,
    userAgent,
    resumes,
    requestId: acceptable(requestId, requestIds),
    forwardedFor: forwardedFor !== undefined && FORWARDED_FOR.test(forwardedFor) ? forwardedFor : undefined,
    traceparent: traceparents === 1 && TRACEPARENT.test(traceparent as string) ? traceparent : undefined,
    authorization,
    proxyAuthorization,
    dpop,
    cookie,
    user: presence(user),
    email: presence(email),
    org: presence(org),
    scopes: presence(scopes),
    roles: presence(roles),
  })
}

/** The request id alone, by the same rule, of a head that is not accepted. */
export function readRequestId(raw: readonly string[], rules: HeaderRules): string | undefined {
  let requestId: string | undefined
  let requestIds = 0
  for (let at = 0; at < raw.length; at += 2) {
    if (rules.classOf(raw[at] as string).kind !== HeaderKind.requestId) continue
    requestId = raw[at + 1]
    requestIds++
  }
  return acceptable(requestId, requestIds)
}

function acceptable(requestId: string | undefined, requestIds: number): string | undefined {
  return requestIds === 1 && REQUEST_ID.test(requestId as string) ? requestId : undefined
}

/** Nothing that ends a line, and nothing beyond a byte. The reader of HTTP/1.1 refuses most of it before; HTTP/2 does not go that way. */
// oxlint-disable-next-line no-control-regex -- these are what is looked for
const NOT_IN_A_VALUE = /[\0-\x08\x0a-\x1f\x7f\u0100-\uffff]/
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/
const FORWARDED_FOR = /^[0-9A-Za-z:.,_[\]%\- ]{1,1024}$/
/** @source W3C Trace Context §3.2: version 00 exactly, later ones may have more after it; all zeros is invalid. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[0-9a-z-]{1,64})?$/

/**
 * Takes out what `Connection` names (RFC 9110 §7.6.1). A header that has a meaning here keeps it: naming it must not
 * make it go away after it was checked, which is how identity headers have been stripped off behind other proxies.
 */
function withoutNamed(passing: readonly string[], connection: string, rules: HeaderRules): string[] {
  const named = new Set<string>()
  for (const option of connection.split(',')) {
    const name = option.trim()
    if (name !== '' && rules.classOf(name).kind === HeaderKind.other) named.add(foldName(name))
  }
  if (named.size === 0) return passing as string[]
  const kept: string[] = []
  for (let at = 0; at < passing.length; at += 2) {
    const name = passing[at] as string
    if (!(named.has(foldName(name)) && rules.classOf(name).kind === HeaderKind.other)) {
      kept.push(name, passing[at + 1] as string)
    }
  }
  return kept
}

/** Gateways that map a claim which is not there send an empty line. */
function presence(value: string | undefined): string | undefined {
  if (value === undefined) return undefined
  const trimmed = trimBlank(value)
  return trimmed === '' ? undefined : trimmed
}

function malformed(detail: string): Result<never, Refusal> {
  return err({ reason: 'request_malformed', detail })
}

function ambiguous(header: string): Result<never, Refusal> {
  return err({ reason: 'user_header_ambiguous', header })
}

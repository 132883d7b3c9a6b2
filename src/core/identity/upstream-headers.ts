import type { ArrivalHeaders } from './arrival-headers.ts'
import type { Caller, Peer } from './caller.ts'
import type { CompiledIdentity } from './identify.ts'
import { encodeForHeader } from './user.ts'

export type { ArrivalHeaders }

/** What the upstream is told besides the caller. */
export interface UpstreamFacts {
  /** The peer's own, when it sent an acceptable one, else a new one. */
  readonly requestId: string
  readonly remoteAddress: string
  /** Of the body as it was checked; undefined for a request without one. */
  readonly contentLength: number | undefined
  /** Replaces the caller's, when the sidecar takes part in the trace. */
  readonly traceparent?: string
}

/**
 * The header lines that the upstream gets, `[name, value, …]`: what may go through, then what the sidecar has verified,
 * and the identity last, so that nothing before it can be taken for it.
 *
 * @source contract section 5
 */
export function buildUpstreamHeaders(
  identity: CompiledIdentity,
  headers: ArrivalHeaders,
  caller: Caller,
  facts: UpstreamFacts,
): string[] {
  const { rules } = identity
  const host = rules.preserveHost && headers.host !== undefined ? headers.host : rules.upstreamHost
  const out = ['Host', host]
  const { passing } = headers
  for (let at = 0; at < passing.length; at++) out.push(passing[at] as string)
  out.push('Accept-Encoding', 'identity')
  if (facts.contentLength !== undefined) out.push('Content-Length', String(facts.contentLength))

  const { pass } = rules
  if (pass.authorization && headers.authorization !== undefined) out.push('Authorization', headers.authorization)
  if (pass.proxyAuthorization && headers.proxyAuthorization !== undefined)
    out.push('Proxy-Authorization', headers.proxyAuthorization)
  if (pass.dpop && headers.dpop !== undefined) out.push('DPoP', headers.dpop)
  if (pass.cookie && headers.cookie !== undefined) out.push('Cookie', headers.cookie)

  const traceparent = facts.traceparent ?? headers.traceparent
  if (traceparent !== undefined) out.push('traceparent', traceparent)
  const address = plainAddress(facts.remoteAddress)
  const before = believedForwardedFor(identity, headers, caller.peer)
  out.push('X-Request-ID', facts.requestId)
  out.push('X-Forwarded-For', before === undefined ? address : `${before}, ${address}`)
  out.push('X-Forwarded-Proto', 'https')
  if (headers.host !== undefined) out.push('X-Forwarded-Host', headers.host)

  const certificate = rules.clientCertificate(caller.peer.certificate)
  for (let at = 0; at < certificate.length; at++) out.push(certificate[at] as string)

  const { user } = caller
  if (user === undefined) return out
  const { names } = rules
  // Forwarded values are printable and are passed on as they came; a token's may hold anything.
  const isToken = user.source !== 'headers'
  out.push(names.user, isToken ? encodeForHeader(user.id) : user.id)
  if (user.email !== undefined) out.push(names.email, isToken ? encodeForHeader(user.email) : user.email)
  if (user.org !== undefined) out.push(names.org, isToken ? encodeForHeader(user.org) : user.org)
  if (user.scopes.length > 0) out.push(names.scopes, spaced(user.scopes, isToken))
  if (user.roles.length > 0) out.push(names.roles, spaced(user.roles, isToken))
  return out
}

/** What the peer says about whom it speaks for, when it may: for the upstream and for the audit line. */
export function believedForwardedFor(
  identity: CompiledIdentity,
  headers: ArrivalHeaders,
  peer: Peer,
): string | undefined {
  if (headers.forwardedFor === undefined) return undefined
  return identity.assertions.get(peer.name)?.forwardedFor === true ? headers.forwardedFor : undefined
}

function spaced(items: readonly string[], isToken: boolean): string {
  return isToken ? items.map(encodeForHeader).join(' ') : items.join(' ')
}

/** A dual-stack socket shows IPv4 as `::ffff:10.0.0.1`. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address
}

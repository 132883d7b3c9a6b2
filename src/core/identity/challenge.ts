import type { IdentityConfig } from '../../config/config.ts'
import type { RefusalAnswer } from '../refusal.ts'

/** Writes the value of `WWW-Authenticate` for a refusal that has a challenge. */
export type ChallengeText = (challenge: NonNullable<RefusalAnswer['challenge']>) => string

/**
 * `Bearer` with `error`, `scope` and `resource_metadata`. Without scopes of its own a challenge names those that every
 * token needs, so that a client asks for them at once; `offline_access` is never asked for.
 *
 * @source RFC 6750 §3, RFC 9728 §5.1, MCP 2026-07-28 authorization.
 */
export function compileChallenge(identity: Pick<IdentityConfig, 'resource' | 'jwt'>): ChallengeText {
  const required = identity.jwt?.requiredScopes ?? []
  const metadata =
    identity.resource === undefined ? '' : `resource_metadata=${quoted(resourceMetadataUrl(identity.resource))}`
  return challenge => {
    const parameters: string[] = []
    if (challenge.error !== undefined) parameters.push(`error="${challenge.error}"`)
    const asked = scopesToAskFor(required, challenge.scopes)
    if (asked.length > 0) parameters.push(`scope="${asked.join(' ')}"`)
    if (metadata !== '') parameters.push(metadata)
    return parameters.length === 0 ? 'Bearer' : `Bearer ${parameters.join(', ')}`
  }
}

/**
 * All scopes that a client is told to ask for: those that every token needs, and those that this call does.
 *
 * @source RFC 6749 §3.3 (scope-token), RFC 6750 §3.1 (insufficient_scope).
 */
export function scopesToAskFor(required: readonly string[], scopes: readonly string[] = []): string[] {
  return [...new Set([...required, ...scopes])].filter(scope => SCOPE.test(scope) && scope !== 'offline_access')
}

/**
 * Where the metadata of a protected resource is: the well-known path goes between host and path.
 * `https://mcp.example.org/mcp` → `https://mcp.example.org/.well-known/oauth-protected-resource/mcp`
 *
 * @source RFC 9728 §3.1
 */
export function resourceMetadataUrl(resource: string): string {
  const url = new URL(resource)
  return `${url.origin}${WELL_KNOWN}${url.pathname === '/' ? '' : url.pathname}${url.search}`
}

export const WELL_KNOWN = '/.well-known/oauth-protected-resource'

/** A scope-token, which needs no quoting. @source RFC 6749 §3.3 */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`
}

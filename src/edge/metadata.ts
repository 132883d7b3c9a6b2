import type { IdentityConfig } from '../config/config.ts'
import { WELL_KNOWN } from '../core/identity/challenge.ts'

/** The metadata document of the protected resource, made once for each generation of the configuration. */
export interface ResourceMetadata {
  /** Whether a path (without query) is one of the two at which the document is. */
  serves(path: string): boolean
  readonly headers: readonly string[]
  readonly body: Buffer
}

/**
 * Makes the document for `identity.resource`; undefined when that is not set. It is served at the well-known path that
 * belongs to the resource's own path and at the root, in which order clients look.
 *
 * @param scopes  Scopes that the policy knows, beside those that every token needs.
 * @source RFC 9728 §2, §3; MCP 2026-07-28 authorization server discovery.
 */
export function compileResourceMetadata(
  identity: IdentityConfig,
  scopes: readonly string[] = [],
): ResourceMetadata | undefined {
  const { resource, jwt } = identity
  if (resource === undefined) return undefined
  const { pathname } = new URL(resource)
  const paths = new Set([WELL_KNOWN, pathname === '/' ? WELL_KNOWN : `${WELL_KNOWN}${pathname}`])
  const supported = [...new Set([...(jwt?.requiredScopes ?? []), ...scopes])].filter(
    scope => scope !== 'offline_access' && !scope.includes('*'),
  )
  const document = {
    resource,
    ...(jwt === undefined ? {} : { authorization_servers: [jwt.issuer] }),
    ...(supported.length === 0 ? {} : { scopes_supported: supported }),
    bearer_methods_supported: ['header'],
    ...(jwt?.certificateBound === true ? { tls_client_certificate_bound_access_tokens: true } : {}),
  }
  const body = Buffer.from(JSON.stringify(document))
  return {
    serves: path => paths.has(path),
    headers: [
      'Content-Type',
      'application/json',
      'Cache-Control',
      'public, max-age=300',
      'X-Content-Type-Options',
      'nosniff',
      'Content-Length',
      String(body.length),
    ],
    body,
  }
}

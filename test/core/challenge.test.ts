import { describe, expect, test } from 'vitest'
import { compileChallenge, resourceMetadataUrl } from '../../src/core/identity/challenge.ts'
import { answerFor, type Refusal } from '../../src/core/refusal.ts'
import { compileResourceMetadata } from '../../src/edge/metadata.ts'
import { identityConfig, jwtConfig } from '../support/identity.ts'

const RESOURCE = 'https://mcp.example.org/mcp'
const METADATA = 'resource_metadata="https://mcp.example.org/.well-known/oauth-protected-resource/mcp"'

describe('WWW-Authenticate', () => {
  const plain = { resource: undefined, jwt: undefined }
  const whole = { resource: RESOURCE, jwt: jwtConfig({ requiredScopes: ['mcp.read', 'offline_access'] }) }
  test.each<{ on: typeof whole | typeof plain; refusal: Refusal; want: string }>([
    { on: plain, refusal: { reason: 'user_token_missing' }, want: 'Bearer' },
    { on: plain, refusal: { reason: 'user_token_expired' }, want: 'Bearer error="invalid_token"' },
    { on: whole, refusal: { reason: 'user_token_missing' }, want: `Bearer scope="mcp.read", ${METADATA}` },
    {
      on: whole,
      refusal: { reason: 'user_token_invalid', detail: '' },
      want: `Bearer error="invalid_token", scope="mcp.read", ${METADATA}`,
    },
    {
      on: whole,
      refusal: { reason: 'user_scope_missing', requiredScopes: ['mcp.write', 'mcp.read'] },
      want: `Bearer error="insufficient_scope", scope="mcp.read mcp.write", ${METADATA}`,
    },
    {
      on: whole,
      refusal: { reason: 'user_scope_missing', requiredScopes: ['a"b', 'c\nd', 'e'] },
      want: `Bearer error="insufficient_scope", scope="mcp.read e", ${METADATA}`,
    },
    {
      on: whole,
      refusal: { reason: 'user_token_ambiguous', detail: '' },
      want: `Bearer error="invalid_request", scope="mcp.read", ${METADATA}`,
    },
  ])('$refusal.reason: $want', ({ on, refusal, want }) => {
    const { challenge } = answerFor(refusal)
    if (challenge === undefined) throw new Error('this refusal has a challenge')
    expect(compileChallenge(on)(challenge)).toBe(want)
  })

  test.each([
    ['https://mcp.example.org/mcp', 'https://mcp.example.org/.well-known/oauth-protected-resource/mcp'],
    ['https://mcp.example.org/', 'https://mcp.example.org/.well-known/oauth-protected-resource'],
    ['https://mcp.example.org', 'https://mcp.example.org/.well-known/oauth-protected-resource'],
    [
      'HTTPS://MCP.example.org:8443/a/b?t=1',
      'https://mcp.example.org:8443/.well-known/oauth-protected-resource/a/b?t=1',
    ],
  ])('the metadata of %s is at %s', (resource, want) => {
    expect(resourceMetadataUrl(resource)).toBe(want)
  })
})

describe('metadata of the resource', () => {
  test('names the issuer, the scopes and how tokens are sent', () => {
    const identity = identityConfig({
      resource: RESOURCE,
      jwt: jwtConfig({ requiredScopes: ['mcp.read'], certificateBound: true }),
    })
    const metadata = compileResourceMetadata(identity, ['mcp.read', 'mcp.write', 'team.*', 'offline_access'])
    expect(JSON.parse(metadata?.body.toString() ?? '')).toEqual({
      resource: 'https://mcp.example.org/mcp',
      authorization_servers: ['https://login.example.org/tenant/v2.0'],
      scopes_supported: ['mcp.read', 'mcp.write'],
      bearer_methods_supported: ['header'],
      tls_client_certificate_bound_access_tokens: true,
    })
    expect(metadata?.headers).toContain('application/json')
  })

  test.each([
    ['/.well-known/oauth-protected-resource', true],
    ['/.well-known/oauth-protected-resource/mcp', true],
    ['/.well-known/oauth-protected-resource/other', false],
    ['/.well-known/oauth-protected-resource/mcp/', false],
    ['/mcp', false],
  ])('%s serves it: %s', (path, serves) => {
    expect(compileResourceMetadata(identityConfig({ resource: RESOURCE }))?.serves(path)).toBe(serves)
  })

  test('there is none without a resource', () => {
    expect(compileResourceMetadata(identityConfig())).toBeUndefined()
  })
})

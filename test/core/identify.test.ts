import { describe, expect, test } from 'vitest'
import type { IdentityConfig, MayAssert } from '../../src/config/config.ts'
import { readArrivalHeaders } from '../../src/core/identity/arrival-headers.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import {
  bearerToken,
  type CompiledIdentity,
  compileIdentity,
  identify,
  identifyAgain,
} from '../../src/core/identity/identify.ts'
import type { TokenOutcome, TokenVerifier } from '../../src/core/identity/token.ts'
import { buildUpstreamHeaders } from '../../src/core/identity/upstream-headers.ts'
import { type ClaimedUser, encodeForHeader, userFromClaims } from '../../src/core/identity/user.ts'
import type { Refusal } from '../../src/core/refusal.ts'
import type { Result } from '../../src/core/result.ts'
import {
  ANYTHING,
  entry,
  FACTS,
  identityConfig,
  jwtConfig,
  peerWith,
  sendOn,
  upstreamConfig,
  valuesOf,
} from '../support/identity.ts'

function compiled(identity: Partial<IdentityConfig>, mayAssert: Partial<MayAssert> = ANYTHING): CompiledIdentity {
  return compileIdentity({
    identity: identityConfig({ jwt: jwtConfig(), ...identity }),
    upstream: upstreamConfig(),
    peers: [entry(mayAssert)],
  })
}

const aliceToken: ClaimedUser = {
  id: 'alice',
  org: 'acme',
  email: 'alice@acme.example',
  scopes: ['mcp.read', 'mcp.write'],
  roles: ['developer', 'admin'],
}

/** Answers for the tokens it is told of, and for nothing else. */
function verifierOf(tokens: Record<string, ClaimedUser>, expiresAtMs = 1_000_000): TokenVerifier {
  const outcomes = new Map<string, TokenOutcome>(
    Object.entries(tokens).map(([token, user]) => [
      token,
      { ok: true, value: { user, expiresAtMs, boundTo: undefined } },
    ]),
  )
  return {
    verify: token => outcomes.get(token) ?? { ok: false, error: { reason: 'user_token_invalid', detail: 'unknown' } },
  }
}

function call(
  identity: CompiledIdentity,
  lines: string[],
  verifier: TokenVerifier | undefined = verifierOf({ good: aliceToken }),
): Result<Caller, Refusal> {
  const headers = readArrivalHeaders(lines, identity.rules)
  if (!headers.ok) return headers
  const caller = identify(identity, headers.value, peerWith(), verifier)
  if (caller instanceof Promise) throw new Error('a known token does not wait')
  return caller
}

/** The caller in one line: `alice@acme [scopes] [roles] email source`, or the refusal. */
function shown(result: Result<Caller, Refusal>): string {
  if (!result.ok) {
    const { error } = result
    return 'field' in error ? `${error.reason} ${error.field}` : error.reason
  }
  const { user } = result.value
  if (user === undefined) return 'nobody'
  return `${user.id}@${user.org ?? '-'} [${user.scopes.join(' ')}] [${user.roles.join(' ')}] ${user.email ?? '-'} ${user.source}`
}

describe('what a peer may assert', () => {
  const bots: Partial<MayAssert> = { users: ['bot-*'], scopes: ['mcp.read'] }
  test.each([
    { say: ['X-User-ID', 'bot-1'], want: 'bot-1@- [] [] - headers' },
    { say: ['X-User-ID', 'bot-1', 'X-User-Scopes', 'mcp.read mcp.admin'], want: 'bot-1@- [mcp.read] [] - headers' },
    { say: ['X-User-ID', 'bot-1', 'X-User-Scopes', 'mcp.admin,mcp.read'], want: 'bot-1@- [mcp.read] [] - headers' },
    { say: ['X-User-ID', 'alice'], want: 'peer_may_not_assert user' },
    { say: ['X-User-ID', 'BOT-1'], want: 'peer_may_not_assert user' },
    { say: ['X-User-ID', 'xbot-1'], want: 'peer_may_not_assert user' },
    { say: ['X-User-ID', 'bot-1,alice'], want: 'user_header_invalid' },
    { say: ['X-User-ID', 'bot-1', 'X-User-Roles', 'admin'], want: 'peer_may_not_assert role' },
    { say: ['x-user-id', 'bot-1', 'x-user-roles', 'admin'], want: 'peer_may_not_assert role' },
    { say: ['X-USER-ID', 'bot-1', 'X-USER-ROLES', ' admin '], want: 'peer_may_not_assert role' },
    { say: ['X-User-ID', 'bot-1', 'X-User-Roles', ',admin'], want: 'peer_may_not_assert role' },
    { say: ['X-User-ID', 'bot-1', 'X_User_Roles', 'admin'], want: 'user_header_ambiguous' },
    { say: ['X-User-ID', 'bot-1', 'X-Org-ID', 'acme'], want: 'peer_may_not_assert org' },
    { say: ['X-User-ID', 'bot-1', 'x.org.id', 'acme'], want: 'user_header_ambiguous' },
    { say: ['X-User-ID', 'bot-1', 'X-User-Email', 'a@acme.example'], want: 'peer_may_not_assert email' },
    { say: ['X-User-ID', 'bot-1', 'x-user_email', 'a@acme.example'], want: 'user_header_ambiguous' },
    { say: ['X-User-Roles', 'admin'], want: 'user_missing' },
    { say: [], want: 'user_missing' },
  ])('a peer of bots that sends $say: $want', ({ say, want }) => {
    expect(shown(call(compiled({}, bots), say))).toBe(want)
  })

  test('a peer with an empty mayAssert may name nobody', () => {
    expect(shown(call(compiled({}, {}), ['X-User-ID', 'alice']))).toBe('peer_may_not_assert user')
  })

  test('it holds for tokens as well', () => {
    const jwt = compiled({ source: 'jwt' }, { ...ANYTHING, users: ['bot-*'] })
    expect(shown(call(jwt, ['Authorization', 'Bearer good']))).toBe('peer_may_not_assert user')
  })

  test('scopes beyond the ceiling are cut and remembered as cut', () => {
    const result = call(compiled({}, bots), ['X-User-ID', 'bot-1', 'X-User-Scopes', 'mcp.read mcp.admin mcp.read'])
    expect(result.ok && result.value.user?.scopesCut).toEqual(['mcp.admin'])
  })

  test('an entry that is gone from the list is no peer any more', () => {
    const identity = compiled({})
    const headers = readArrivalHeaders(['X-User-ID', 'alice'], identity.rules)
    if (!headers.ok) throw new Error(headers.error.reason)
    const caller = identify(identity, headers.value, peerWith({ name: 'retired' }), undefined)
    expect(caller).toMatchObject({ ok: false, error: { reason: 'peer_not_listed' } })
  })
})

describe('users from tokens', () => {
  const jwt = compiled({ source: 'jwt' })
  const open = compiled({ source: 'jwt', required: false })
  test.each([
    {
      on: jwt,
      say: ['Authorization', 'Bearer good'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example jwt',
    },
    {
      on: jwt,
      say: ['authorization', 'bearer good'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example jwt',
    },
    {
      on: jwt,
      say: ['Authorization', 'BEARER   good'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example jwt',
    },
    { on: jwt, say: ['Authorization', 'Bearer bad'], want: 'user_token_invalid' },
    { on: jwt, say: ['Authorization', 'Bearer '], want: 'user_token_missing' },
    { on: jwt, say: ['Authorization', 'Basic good'], want: 'user_token_missing' },
    { on: jwt, say: ['Authorization', 'DPoP good'], want: 'user_token_missing' },
    { on: jwt, say: ['Authorization', 'Bearer good, Bearer good'], want: 'user_token_invalid' },
    { on: jwt, say: ['Authorization', 'Bearer good', 'Authorization', 'Bearer good'], want: 'user_token_ambiguous' },
    { on: jwt, say: ['X-User-ID', 'alice'], want: 'user_token_missing' },
    { on: jwt, say: ['Cookie', 'access_token=good'], want: 'user_token_missing' },
    {
      on: jwt,
      say: ['Authorization', 'Bearer good', 'X-User-ID', 'mallory'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example jwt',
    },
    { on: open, say: [], want: 'nobody' },
    { on: open, say: ['Authorization', 'Bearer bad'], want: 'user_token_invalid' },
  ])('$say: $want', ({ on, say, want }) => {
    expect(shown(call(on, say))).toBe(want)
  })

  test('a token is held against an entry once', () => {
    const lines = ['Authorization', 'Bearer good']
    const verifier = verifierOf({ good: aliceToken })
    const first = call(jwt, lines, verifier)
    const second = call(jwt, lines, verifier)
    expect(first.ok && second.ok && first.value.user === second.value.user).toBe(true)
  })

  test('one that is not known yet is waited for', async () => {
    const headers = readArrivalHeaders(['Authorization', 'Bearer slow'], jwt.rules)
    if (!headers.ok) throw new Error(headers.error.reason)
    const verifier: TokenVerifier = {
      verify: () => Promise.resolve({ ok: true, value: { user: aliceToken, expiresAtMs: 5, boundTo: undefined } }),
    }
    const caller = identify(jwt, headers.value, peerWith(), verifier)
    expect(caller).toBeInstanceOf(Promise)
    expect(shown(await caller)).toContain('alice@acme')
  })
})

describe('headers and token together', () => {
  const both = compiled({ source: 'both' })
  const open = compiled({ source: 'both', required: false })
  const good = ['Authorization', 'Bearer good']
  test.each([
    {
      on: both,
      say: [...good, 'X-User-ID', 'alice'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example both',
    },
    {
      on: both,
      say: [...good, 'X-User-ID', 'alice', 'X-User-Scopes', 'mcp.read'],
      want: 'alice@acme [mcp.read] [developer admin] alice@acme.example both',
    },
    {
      on: both,
      say: [...good, 'X-User-ID', 'alice', 'X-User-Roles', 'developer'],
      want: 'alice@acme [mcp.read mcp.write] [developer] alice@acme.example both',
    },
    {
      on: both,
      say: [...good, 'X-User-ID', 'alice', 'X-Org-ID', 'acme'],
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example both',
    },
    { on: both, say: [...good, 'X-User-ID', 'bob'], want: 'user_disagrees_with_token user' },
    { on: both, say: [...good, 'X-User-ID', 'Alice'], want: 'user_disagrees_with_token user' },
    { on: both, say: [...good, 'X-User-ID', 'alice', 'X-Org-ID', 'other'], want: 'user_disagrees_with_token org' },
    {
      on: both,
      say: [...good, 'X-User-ID', 'alice', 'X-User-Scopes', 'mcp.admin'],
      want: 'user_disagrees_with_token scopes',
    },
    { on: both, say: [...good, 'X-User-ID', 'alice', 'X-User-Roles', 'root'], want: 'user_disagrees_with_token roles' },
    { on: both, say: good, want: 'user_missing' },
    { on: both, say: ['X-User-ID', 'alice'], want: 'user_token_missing' },
    { on: both, say: [], want: 'user_token_missing' },
    { on: open, say: [], want: 'nobody' },
    { on: open, say: good, want: 'user_missing' },
    { on: open, say: ['X-User-ID', 'alice'], want: 'user_token_missing' },
  ])('$say: $want', ({ on, say, want }) => {
    expect(shown(call(on, say))).toBe(want)
  })
})

test.each([
  ['Bearer abc', 'abc'],
  ['bEaReR abc', 'abc'],
  ['Bearer    abc', 'abc'],
  ['Bearer', undefined],
  ['Bearerabc', undefined],
  ['Negotiate abc', undefined],
])('Authorization: %s holds %s', (value, want) => {
  expect(bearerToken(value)).toBe(want)
})

describe('a caller whose stream is open is judged again', () => {
  const narrow: Partial<MayAssert> = { ...ANYTHING, scopes: ['mcp.read'] }
  const first = call(compiled({}, narrow), ['X-User-ID', 'alice', 'X-User-Scopes', 'mcp.read mcp.write'])
  const token = call(compiled({ source: 'jwt' }), ['Authorization', 'Bearer good'])
  if (!first.ok || !token.ok) throw new Error('both are good callers')

  test.each([
    {
      name: 'nothing has changed',
      on: compiled({}, narrow),
      caller: first.value,
      atMs: 0,
      want: 'alice@- [mcp.read] [] - headers',
    },
    {
      name: 'the ceiling was lifted',
      on: compiled({}),
      caller: first.value,
      atMs: 0,
      want: 'alice@- [mcp.read mcp.write] [] - headers',
    },
    {
      name: 'the user may not be asserted any more',
      on: compiled({}, { ...narrow, users: ['bob'] }),
      caller: first.value,
      atMs: 0,
      want: 'peer_may_not_assert user',
    },
    {
      name: 'tokens are asked for now',
      on: compiled({ source: 'jwt' }),
      caller: first.value,
      atMs: 0,
      want: 'user_token_missing',
    },
    {
      name: 'the token still runs',
      on: compiled({ source: 'jwt' }),
      caller: token.value,
      atMs: 999_999,
      want: 'alice@acme [mcp.read mcp.write] [developer admin] alice@acme.example jwt',
    },
    {
      name: 'the token has ended',
      on: compiled({ source: 'jwt' }),
      caller: token.value,
      atMs: 1_000_000,
      want: 'user_token_expired',
    },
    {
      name: 'a user is required now',
      on: compiled({}),
      caller: { peer: peerWith(), user: undefined },
      atMs: 0,
      want: 'user_missing',
    },
  ])('$name', ({ on, caller, atMs, want }) => {
    expect(shown(identifyAgain(on, caller, caller.peer, atMs))).toBe(want)
  })
})

describe('claims', () => {
  const mapping = jwtConfig().claims
  // Shaped as the published samples of Microsoft Entra ID.
  const entraV1 = {
    aud: 'api://mcp',
    iss: 'https://sts.windows.net/fa15d692-e9c7-4460-a743-29f29522229d/',
    appid: '75dbe77f-10a3-4e59-85fd-8c127544f17c',
    ver: '1.0',
    oid: '1f6b7c8d-7ab2-4c3d-9b1e-2f3a4b5c6d7e',
    sub: 'ZyX_per-app',
    tid: 'fa15d692-e9c7-4460-a743-29f29522229d',
    upn: 'alice@contoso.example',
    unique_name: 'alice@contoso.example',
    scp: 'mcp.read mcp.write',
  }
  const entraV2 = {
    aud: '6e74172b-be56-4843-9ff4-e66a39bb12e3',
    iss: 'https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0',
    azp: '6e74172b-be56-4843-9ff4-e66a39bb12e3',
    ver: '2.0',
    oid: '690222be-ff1a-4d56-abd1-7e4f7d38e474',
    sub: 'HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ',
    tid: '72f988bf-86f1-41af-91ab-2d7cd011db47',
    preferred_username: 'abeli@contoso.example',
    name: 'Abe Lincoln',
    scp: 'access_as_user',
    roles: ['Mcp.Admin'],
  }
  const entraApp = { oid: 'sp-1', sub: 'sp-1', tid: 't', azp: 'a', idtyp: 'app', roles: ['Mcp.Read.All'], ver: '2.0' }

  test.each([
    {
      name: 'Entra v1',
      claims: entraV1,
      want: {
        id: '1f6b7c8d-7ab2-4c3d-9b1e-2f3a4b5c6d7e',
        org: 'fa15d692-e9c7-4460-a743-29f29522229d',
        scopes: ['mcp.read', 'mcp.write'],
        roles: [],
      },
    },
    {
      name: 'Entra v2',
      claims: entraV2,
      want: {
        id: '690222be-ff1a-4d56-abd1-7e4f7d38e474',
        org: '72f988bf-86f1-41af-91ab-2d7cd011db47',
        scopes: ['access_as_user'],
        roles: ['Mcp.Admin'],
      },
    },
    {
      name: 'Entra, an application of its own',
      claims: entraApp,
      want: { id: 'sp-1', org: 't', scopes: [], roles: ['Mcp.Read.All'] },
    },
    { name: 'sub where there is no oid', claims: { sub: 'alice' }, want: { id: 'alice', org: undefined } },
    { name: 'scope as a list', claims: { sub: 'a', scope: ['x', 'y', 'x'] }, want: { scopes: ['x', 'y'] } },
    { name: 'scp before scope', claims: { sub: 'a', scp: 'x', scope: 'y' }, want: { scopes: ['x'] } },
    { name: 'an empty oid falls back', claims: { oid: '', sub: 'alice' }, want: { id: 'alice' } },
    { name: 'a role with a space', claims: { sub: 'a', roles: ['Domain Admins'] }, want: { roles: ['Domain Admins'] } },
  ])('$name', ({ claims, want }) => {
    const user = userFromClaims(claims, mapping)
    if (!user.ok) throw new Error(user.error)
    expect(user.value).toMatchObject(want)
  })

  test('a dotted name is a path, unless there is such a claim', () => {
    const paths = { ...mapping, roles: ['realm_access.roles'], org: ['https://example.org/org'] }
    const user = userFromClaims({ sub: 'a', realm_access: { roles: ['x'] }, 'https://example.org/org': 'acme' }, paths)
    expect(user).toMatchObject({ ok: true, value: { roles: ['x'], org: 'acme' } })
  })

  test.each([
    { name: 'no user at all', claims: {} },
    { name: 'a number for a user', claims: { sub: 17 } },
    { name: 'a line feed in the user', claims: { sub: 'a\nb' } },
    { name: 'a NUL in the user', claims: { sub: 'a\0' } },
    { name: 'half a surrogate pair', claims: { sub: 'a\ud800' } },
    { name: 'a user of 257 characters', claims: { sub: 'a'.repeat(257) } },
    { name: 'an object for roles', claims: { sub: 'a', roles: { admin: true } } },
    { name: 'a number among roles', claims: { sub: 'a', roles: ['x', 1] } },
    { name: '257 roles', claims: { sub: 'a', roles: Array.from({ length: 257 }, (_, n) => `r${n}`) } },
    { name: 'a claim of the prototype', claims: JSON.parse('{"__proto__":{"sub":"a"}}') },
  ])('$name is no user', ({ claims }) => {
    expect(userFromClaims(claims, mapping).ok).toBe(false)
  })
})

describe('values of a token on the way to the upstream', () => {
  test.each([
    ['alice', 'alice'],
    ['a/b+c@d:e', 'a/b+c@d:e'],
    ['jürgen', 'j%C3%BCrgen'],
    ['Domain Admins', 'Domain%20Admins'],
    ['a,b', 'a%2Cb'],
    ['100%', '100%25'],
    ['\u{1F600}', '%F0%9F%98%80'],
  ])('%s is written %s', (value, want) => {
    expect(encodeForHeader(value)).toBe(want)
    expect(decodeURIComponent(encodeForHeader(value))).toBe(value)
  })

  test('a role with a space does not become two', () => {
    const identity = compiled({ source: 'jwt' })
    const headers = readArrivalHeaders(['Host', 'a', 'Authorization', 'Bearer good'], identity.rules)
    if (!headers.ok) throw new Error(headers.error.reason)
    const user = { ...aliceToken, id: 'jürgen', roles: ['reader admin', 'x'], scopes: ['a,b'] }
    const caller = identify(identity, headers.value, peerWith(), verifierOf({ good: user }))
    if (caller instanceof Promise || !caller.ok) throw new Error('a good caller')
    const lines = buildUpstreamHeaders(identity, headers.value, caller.value, FACTS)
    expect(valuesOf(lines, 'x-user-roles')).toEqual(['reader%20admin x'])
    expect(valuesOf(lines, 'x-user-scopes')).toEqual(['a%2Cb'])
    expect(valuesOf(lines, 'x-user-id')).toEqual(['j%C3%BCrgen'])
    expect(valuesOf(lines, 'authorization')).toEqual([])
  })

  test('forwarded values are passed on as they came', () => {
    const sent = sendOn(['X-User-ID', 'CN=alice/50% "x"', 'X-User-Roles', 'a,b  c'])
    if (!sent.ok) throw new Error(sent.error.reason)
    expect(valuesOf(sent.value.lines, 'x-user-id')).toEqual(['CN=alice/50% "x"'])
    expect(valuesOf(sent.value.lines, 'x-user-roles')).toEqual(['a b c'])
  })
})

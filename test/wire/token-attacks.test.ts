import { createHmac, X509Certificate } from 'node:crypto'
import { exportSPKI, importJWK } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JwtConfig } from '../../src/config/config.ts'
import type { TokenOutcome } from '../../src/core/identity/token.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { JwtVerifier } from '../../src/edge/tokens.ts'
import { jwtConfig } from '../support/identity.ts'
import { Issuer, type SigningKey, signingKey, tokenFor } from '../support/issuer.ts'

const SILENT = { loaded: () => {}, kept: () => {} }
const FINGERPRINT = 'ab'.repeat(32)

const keys: Record<string, SigningKey> = {}
let issuer: Issuer
let stranger: SigningKey

beforeAll(async () => {
  for (const alg of ['RS256', 'ES256', 'PS256', 'EdDSA', 'ES384']) keys[alg] = await signingKey(`key-${alg}`, alg)
  stranger = await signingKey('key-RS256')
  issuer = await Issuer.start(Object.values(keys).map(key => key.jwk))
})
afterAll(() => issuer.stop())

function verifier(changes: Partial<JwtConfig> = {}): JwtVerifier {
  return new JwtVerifier(jwtConfig({ jwks: issuer.url, ...changes }), { report: SILENT })
}

function key(alg = 'RS256'): SigningKey {
  return keys[alg] as SigningKey
}

function shown(outcome: TokenOutcome): string {
  if (outcome.ok) return 'good'
  const { error } = outcome
  return 'detail' in error ? `${error.reason}: ${error.detail}` : error.reason
}

const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const soon = (): number => Math.floor(Date.now() / 1000) + 3600
const claims = (): object => ({
  iss: 'https://login.example.org/tenant/v2.0',
  aud: 'api://mcp',
  sub: 'alice',
  exp: soon(),
})

describe('algorithms', () => {
  test.each(['RS256', 'ES256', 'PS256', 'EdDSA'])('%s is good', async alg => {
    expect(shown(await verifier().verify(await tokenFor(key(alg)), FINGERPRINT))).toBe('good')
  })

  test('one that is not on the list is refused, though the key is published', async () => {
    expect(shown(await verifier().verify(await tokenFor(key('ES384')), FINGERPRINT))).toBe(
      'user_token_invalid: its algorithm is not accepted',
    )
  })

  test('HMAC is refused even where the configuration names it', async () => {
    const secret = await exportSPKI((await importJWK(key().jwk, 'RS256')) as never)
    const head = `${base64url({ alg: 'HS256', kid: 'key-RS256', typ: 'JWT' })}.${base64url(claims())}`
    const token = `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`
    const open = verifier({ algorithms: ['RS256', 'HS256'] })
    expect(shown(await open.verify(token, FINGERPRINT))).toBe('user_token_invalid: its algorithm is not accepted')
  })

  test.each(['none', 'None', 'NONE', 'nOnE'])('alg %s is refused', async alg => {
    const token = `${base64url({ alg, typ: 'JWT' })}.${base64url(claims())}.`
    expect(shown(await verifier({ algorithms: ['RS256', 'none'] }).verify(token, FINGERPRINT))).toMatch(
      /^user_token_invalid/,
    )
  })

  test('a key in the token itself is not looked at', async () => {
    const token = await tokenFor(stranger, {}, { jwk: stranger.jwk, jku: 'http://127.0.0.1:9/keys', kid: 'key-RS256' })
    expect(shown(await verifier().verify(token, FINGERPRINT))).toBe('user_token_invalid: its signature is wrong')
  })

  test('a critical header that is not understood is refused', async () => {
    const good = await tokenFor(key())
    const [, payload, signature] = good.split('.')
    const token = `${base64url({ alg: 'RS256', kid: 'key-RS256', crit: ['x'], x: 1 })}.${payload}.${signature}`
    expect(shown(await verifier().verify(token, FINGERPRINT))).toMatch(/^user_token_invalid/)
  })
})

describe('claims', () => {
  test.each([
    {
      name: 'another issuer',
      change: { iss: 'https://evil.example.org' },
      want: 'user_token_invalid: its issuer is another',
    },
    {
      name: 'the issuer with a slash more',
      change: { iss: 'https://login.example.org/tenant/v2.0/' },
      want: 'user_token_invalid: its issuer is another',
    },
    { name: 'no issuer', change: { iss: null }, want: 'user_token_invalid: its issuer is another' },
    { name: 'another audience', change: { aud: 'api://other' }, want: 'user_token_invalid: its audience is another' },
    { name: 'no audience', change: { aud: null }, want: 'user_token_invalid: its audience is another' },
    {
      name: 'a list of other audiences',
      change: { aud: ['api://a', 'api://b'] },
      want: 'user_token_invalid: its audience is another',
    },
    { name: 'ours among several', change: { aud: ['api://a', 'api://mcp'] }, want: 'good' },
    {
      name: 'an audience that begins like ours',
      change: { aud: 'api://mcp2' },
      want: 'user_token_invalid: its audience is another',
    },
    { name: 'expired', change: { exp: 1_000_000_000 }, want: 'user_token_expired' },
    { name: 'expired within the skew', change: { exp: Math.floor(Date.now() / 1000) - 10 }, want: 'good' },
    { name: 'no expiry', change: { exp: null }, want: 'user_token_invalid: it has no expiry' },
    { name: 'expiry as text', change: { exp: '9999999999' }, want: 'user_token_invalid: it has no expiry' },
    { name: 'not before tomorrow', change: { nbf: soon() + 86_400 }, want: 'user_token_invalid: it is not valid yet' },
    {
      name: 'issued tomorrow',
      change: { iat: soon() + 86_400 },
      want: 'user_token_invalid: it is issued in the future',
    },
    { name: 'nobody', change: { sub: null }, want: 'user_token_invalid: no claim oid or sub names a user' },
    {
      name: 'a user with a line feed',
      change: { sub: 'a\r\nX-Org-ID: b' },
      want: 'user_token_invalid: claim sub is too long or has control characters',
    },
  ])('$name: $want', async ({ change, want }) => {
    expect(shown(await verifier().verify(await tokenFor(key(), change), FINGERPRINT))).toBe(want)
  })

  test.each([
    ['JWT', 'good'],
    ['jwt', 'good'],
    ['at+jwt', 'good'],
    ['application/at+jwt', 'good'],
    ['oauth-id-jag+jwt', 'user_token_invalid: its type is not that of an access token'],
    ['application/oauth-id-jag+jwt', 'user_token_invalid: its type is not that of an access token'],
    ['dpop+jwt', 'user_token_invalid: its type is not that of an access token'],
    ['logout+jwt', 'user_token_invalid: its type is not that of an access token'],
    ['secevent+jwt', 'user_token_invalid: its type is not that of an access token'],
  ])('typ %s: %s', async (typ, want) => {
    expect(shown(await verifier().verify(await tokenFor(key(), {}, { typ }), FINGERPRINT))).toBe(want)
  })

  test('scopes that every token needs', async () => {
    const strict = verifier({ requiredScopes: ['mcp.read', 'mcp.write'] })
    expect(await strict.verify(await tokenFor(key()), FINGERPRINT)).toEqual({
      ok: false,
      error: { reason: 'user_scope_missing', requiredScopes: ['mcp.read', 'mcp.write'] },
    })
    expect(shown(await strict.verify(await tokenFor(key(), { scp: 'mcp.write mcp.read' }), FINGERPRINT))).toBe('good')
  })

  test('Entra: v1 and v2 of one tenant, each by its own issuer and audience', async () => {
    const v1 = verifier({ issuer: 'https://sts.windows.net/t1/', audience: ['api://mcp'] })
    const v2 = verifier({
      issuer: 'https://login.microsoftonline.com/t1/v2.0',
      audience: ['6e74172b-be56-4843-9ff4-e66a39bb12e3'],
    })
    const one = await tokenFor(key(), {
      iss: 'https://sts.windows.net/t1/',
      oid: 'o1',
      tid: 't1',
      ver: '1.0',
      appid: 'a',
      scp: 'mcp.read',
    })
    const two = await tokenFor(key(), {
      iss: 'https://login.microsoftonline.com/t1/v2.0',
      aud: '6e74172b-be56-4843-9ff4-e66a39bb12e3',
      oid: 'o1',
      tid: 't1',
      ver: '2.0',
      azp: 'a',
      roles: ['Mcp.Admin'],
    })
    expect(await v1.verify(one, FINGERPRINT)).toMatchObject({
      ok: true,
      value: { user: { id: 'o1', org: 't1', scopes: ['mcp.read'] } },
    })
    expect(await v2.verify(two, FINGERPRINT)).toMatchObject({
      ok: true,
      value: { user: { id: 'o1', org: 't1', roles: ['Mcp.Admin'] } },
    })
    expect(shown(await v1.verify(two, FINGERPRINT))).toMatch(/issuer|audience/)
    expect(shown(await v2.verify(one, FINGERPRINT))).toMatch(/issuer|audience/)
  })
})

describe('the text of a token', () => {
  test.each([
    { name: 'empty', token: '' },
    { name: 'one part', token: 'abc' },
    { name: 'two parts', token: 'a.b' },
    { name: 'five parts, encrypted', token: 'a.b.c.d.e' },
    { name: 'white space in it', token: 'a.b .c' },
    { name: 'two tokens', token: 'a.b.c, a.b.c' },
    { name: 'a header that is no JSON', token: `${Buffer.from('{').toString('base64url')}.e30.AAAA` },
    { name: 'a header that is a list', token: `${base64url([])}.e30.AAAA` },
    { name: 'longer than any token', token: `a.${'b'.repeat(16_384)}.c` },
  ])('$name is refused', async ({ token }) => {
    expect(shown(await verifier().verify(token, FINGERPRINT))).toMatch(/^user_token_invalid/)
  })

  test('every part counts: a changed character anywhere is refused', async () => {
    const good = await tokenFor(key())
    const check = verifier()
    for (const at of [2, good.indexOf('.') + 20, good.lastIndexOf('.') + 10]) {
      const token = `${good.slice(0, at)}${good[at] === 'A' ? 'B' : 'A'}${good.slice(at + 1)}`
      expect(shown(await check.verify(token, FINGERPRINT))).toMatch(/^user_token_invalid/)
    }
  })
})

describe('the key id', () => {
  test('may be missing when one key only fits', async () => {
    expect(shown(await verifier().verify(await tokenFor(key(), {}, { kid: undefined as never }), FINGERPRINT))).toBe(
      'good',
    )
  })

  test('must be there when several fit', async () => {
    const other = await signingKey('key-other')
    const many = await Issuer.start([key().jwk, other.jwk])
    const check = verifier({ jwks: many.url })
    const token = await tokenFor(key(), {}, { kid: undefined as never })
    expect(shown(await check.verify(token, FINGERPRINT))).toBe('user_token_invalid: it names no key, and several fit')
    await many.stop()
  })

  test.each(['../../etc/passwd', "x' OR 1=1", '__proto__', 'constructor'])('%s names no key', async kid => {
    expect(shown(await verifier().verify(await tokenFor(key(), {}, { kid }), FINGERPRINT))).toMatch(
      /^user_token_invalid: its key/,
    )
  })
})

describe('a token that is bound to a certificate', () => {
  const leaf = new X509Certificate(mintLeaf(mintCa({ name: 'test ca' }), { cn: 'kong' }).cert)
  const fingerprint = leaf.fingerprint256.replaceAll(':', '').toLowerCase()
  const thumbprint = Buffer.from(fingerprint, 'hex').toString('base64url')

  test('is good behind this certificate only, remembered or not', async () => {
    const bound = verifier({ certificateBound: true })
    const token = await tokenFor(key(), { cnf: { 'x5t#S256': thumbprint } })
    expect(shown(await bound.verify(token, FINGERPRINT))).toBe('user_token_unbound: it names another certificate')
    expect(shown(await bound.verify(token, fingerprint))).toBe('good')
    expect(bound.verify(token, fingerprint)).not.toBeInstanceOf(Promise)
    expect(shown(await bound.verify(token, FINGERPRINT))).toBe('user_token_unbound: it names another certificate')
  })

  test.each([{}, { cnf: {} }, { cnf: 'x' }, { cnf: { 'x5t#S256': '' } }, { cnf: { jkt: 'x' } }])(
    '%j is not bound',
    async cnf => {
      const bound = verifier({ certificateBound: true })
      expect(shown(await bound.verify(await tokenFor(key(), cnf), fingerprint))).toMatch(/^user_token_unbound/)
    },
  )
})

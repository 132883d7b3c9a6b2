import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { foldName } from '../../src/core/identity/fold.ts'
import { compileIdentity } from '../../src/core/identity/identify.ts'
import { HEADER_TRICKS, HONEST, HONEST_IDENTITY, linesOf } from '../support/header-tricks.ts'
import {
  entry,
  FACTS,
  FORWARD,
  identityConfig,
  peerWith,
  read,
  sendOn,
  upstreamConfig,
  valuesOf,
} from '../support/identity.ts'

const honest = [...HONEST, ...HONEST_IDENTITY].flat()

function identityWith(changes: Parameters<typeof identityConfig>[0], mayAssert = entry().mayAssert) {
  return compileIdentity({ identity: identityConfig(changes), upstream: upstreamConfig(), peers: [entry(mayAssert)] })
}

test('the table has at least 150 tricks', () => {
  expect(HEADER_TRICKS.length).toBeGreaterThanOrEqual(150)
  expect(new Set(HEADER_TRICKS.map(trick => trick.name)).size).toBe(HEADER_TRICKS.length)
})

test.each(HEADER_TRICKS)('$name', trick => {
  const sent = sendOn(linesOf(trick))
  if (trick.want !== 'gone') {
    expect(sent.ok ? 'served' : sent.error.reason).toBe(trick.want.refused)
    return
  }
  if (!sent.ok) throw new Error(sent.error.reason)
  const { lines } = sent.value
  expect(lines.filter(text => text.toLowerCase().includes('evil'))).toEqual([])
  expect(valuesOf(lines, 'x-user-id')).toEqual(['alice'])
  expect(valuesOf(lines, 'x-org-id')).toEqual(['acme'])
  expect(valuesOf(lines, 'x-user-scopes')).toEqual(['mcp.read mcp.write'])
  expect(valuesOf(lines, 'content-type')).toEqual(['application/json'])
  expect(valuesOf(lines, 'host')).toEqual(['127.0.0.1:3000'])
})

test('an honest request of alice gets to the upstream like this', () => {
  const sent = sendOn([
    ...honest,
    'Mcp-Method',
    'tools/call',
    'traceparent',
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    'Origin',
    'https://chat.example.org',
    'X-Custom',
    'kept',
    'Connection',
    'keep-alive',
    'Content-Length',
    '42',
  ])
  if (!sent.ok) throw new Error(sent.error.reason)
  expect(sent.value.lines).toEqual(
    [
      ['Host', '127.0.0.1:3000'],
      ['Content-Type', 'application/json'],
      ['Accept', 'application/json, text/event-stream'],
      ['Mcp-Method', 'tools/call'],
      ['X-Custom', 'kept'],
      ['Accept-Encoding', 'identity'],
      ['Content-Length', '42'],
      ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
      ['X-Request-ID', 'req-1'],
      ['X-Forwarded-For', '10.1.2.3'],
      ['X-Forwarded-Proto', 'https'],
      ['X-Forwarded-Host', 'mcp.example.org'],
      [
        'X-Forwarded-Client-Cert',
        `Hash=${'ab'.repeat(32)};Subject="CN=kong";URI=spiffe://example.org/ns/gateway/sa/kong`,
      ],
      ['X-User-ID', 'alice'],
      ['X-User-Email', 'alice@acme.example'],
      ['X-Org-ID', 'acme'],
      ['X-User-Scopes', 'mcp.read mcp.write'],
      ['X-User-Roles', 'developer'],
    ].flat(),
  )
})

describe('what depends on the configuration', () => {
  test('the default names are stripped where others are configured', () => {
    const identity = identityWith({ forward: { ...FORWARD, user: 'X-Forwarded-User' } })
    const sent = sendOn(['Host', 'a', 'X-Forwarded-User', 'alice', 'X-User-ID', 'evil', 'x_user_id', 'evil'], {
      identity,
    })
    if (!sent.ok) throw new Error(sent.error.reason)
    expect(sent.value.lines.join()).not.toContain('evil')
    expect(valuesOf(sent.value.lines, 'X-Forwarded-User')).toEqual(['alice'])
  })

  test('a configured name with an underscore is itself, and its usual spelling an alias', () => {
    const identity = identityWith({ forward: { ...FORWARD, user: 'X_User_ID' } })
    const sent = sendOn(['Host', 'a', 'x_user_id', 'alice'], { identity })
    const alias = sendOn(['Host', 'a', 'X-User-ID', 'evil'], { identity })
    expect(sent.ok && valuesOf(sent.value.lines, 'X_User_ID')).toEqual(['alice'])
    expect(!alias.ok && alias.error.reason).toBe('user_header_ambiguous')
  })

  test('a request without a user has no identity lines, whatever else was asserted', () => {
    const identity = identityWith({ required: false })
    const sent = sendOn(['Host', 'a', 'X-User-Roles', 'admin', 'X-Org-ID', 'acme'], { identity })
    if (!sent.ok) throw new Error(sent.error.reason)
    expect(sent.value.caller.user).toBeUndefined()
    expect(sent.value.lines.join()).not.toMatch(/admin|acme/)
  })

  test('credentials pass when they are listed, cookies as one line', () => {
    const identity = identityWith({ pass: ['authorization', 'Cookie', 'Proxy-Authorization', 'DPoP'] })
    const sent = sendOn(
      [
        ...honest,
        'Authorization',
        'Bearer t',
        'cookie',
        'a=1',
        'cookie',
        'b=2',
        'DPoP',
        'p',
        'Proxy-Authorization',
        'x',
      ],
      { identity },
    )
    if (!sent.ok) throw new Error(sent.error.reason)
    expect(valuesOf(sent.value.lines, 'authorization')).toEqual(['Bearer t'])
    expect(valuesOf(sent.value.lines, 'cookie')).toEqual(['a=1; b=2'])
    expect(valuesOf(sent.value.lines, 'dpop')).toEqual(['p'])
    expect(valuesOf(sent.value.lines, 'proxy-authorization')).toEqual(['x'])
  })

  test('X-Forwarded-For is continued for a peer that may, and only then', () => {
    const lines = [...honest, 'X-Forwarded-For', '203.0.113.7', 'x-forwarded-for', '198.51.100.1, 2001:db8::1']
    const trusted = identityWith({}, { ...entry().mayAssert, forwardedFor: true })
    const continued = sendOn(lines, { identity: trusted })
    const anew = sendOn(lines)
    expect(continued.ok && valuesOf(continued.value.lines, 'x-forwarded-for')).toEqual([
      '203.0.113.7, 198.51.100.1, 2001:db8::1, 10.1.2.3',
    ])
    expect(anew.ok && valuesOf(anew.value.lines, 'x-forwarded-for')).toEqual(['10.1.2.3'])
  })

  test('what is no list of addresses is not continued', () => {
    const trusted = identityWith({}, { ...entry().mayAssert, forwardedFor: true })
    const sent = sendOn([...honest, 'X-Forwarded-For', '<script>'], { identity: trusted })
    expect(sent.ok && valuesOf(sent.value.lines, 'x-forwarded-for')).toEqual(['10.1.2.3'])
  })

  test('a dual-stack address is written as IPv4', () => {
    const sent = sendOn(honest, { facts: { ...FACTS, remoteAddress: '::ffff:10.1.2.3' } })
    expect(sent.ok && valuesOf(sent.value.lines, 'x-forwarded-for')).toEqual(['10.1.2.3'])
  })

  test.each([
    { target: { kind: 'tcp', host: '127.0.0.1', port: 80 } as const, want: '127.0.0.1' },
    { target: { kind: 'tcp', host: '::1', port: 3000 } as const, want: '[::1]:3000' },
    { target: { kind: 'unix', path: '/run/mcp.sock' } as const, want: 'localhost' },
  ])('the upstream is called $want', ({ target, want }) => {
    const identity = compileIdentity({
      identity: identityConfig(),
      upstream: upstreamConfig({ target }),
      peers: [entry()],
    })
    const sent = sendOn(honest, { identity })
    expect(sent.ok && valuesOf(sent.value.lines, 'host')).toEqual([want])
  })

  test('Host is kept when it is to be preserved', () => {
    const identity = compileIdentity({
      identity: identityConfig(),
      upstream: upstreamConfig({ host: 'preserve' }),
      peers: [entry()],
    })
    const sent = sendOn(honest, { identity })
    expect(sent.ok && valuesOf(sent.value.lines, 'host')).toEqual(['mcp.example.org'])
  })

  test('a request without a body has no Content-Length', () => {
    const sent = sendOn(honest, { facts: { ...FACTS, contentLength: undefined } })
    expect(sent.ok && valuesOf(sent.value.lines, 'content-length')).toEqual([])
  })
})

describe('what one pass over the lines finds', () => {
  test.each([
    ['abc.DEF_1-2', 'abc.DEF_1-2'],
    ['a'.repeat(128), 'a'.repeat(128)],
    ['a'.repeat(129), undefined],
    ['a b', undefined],
    ['a"b', undefined],
    ['', undefined],
  ])('X-Request-ID %j is kept as %j', (sent, want) => {
    const headers = read(['X-Request-ID', sent])
    expect(headers.ok && headers.value.requestId).toBe(want)
  })

  test('of two X-Request-ID none is kept', () => {
    const headers = read(['X-Request-ID', 'a', 'x-request-id', 'b'])
    expect(headers.ok && headers.value.requestId).toBeUndefined()
  })

  test.each([
    ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', true],
    ['01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more', true],
    ['ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', false],
    ['00-00000000000000000000000000000000-b7ad6b7169203331-01', false],
    ['00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01', false],
    ['00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01', false],
    ['evil', false],
  ])('traceparent %s is believed: %s', (sent, believed) => {
    const headers = read(['traceparent', sent])
    expect(headers.ok && headers.value.traceparent).toBe(believed ? sent : undefined)
  })

  test('every line of a tricky request is looked at once, however many there are', () => {
    const lines = Array.from({ length: 2000 }, (_, n) => [`x-made-up-${n}`, 'v']).flat()
    const headers = read(lines)
    expect(headers.ok && headers.value.passing.length).toBe(4000)
  })
})

/** A name that the least careful backend sees as one of those that only the sidecar may set. */
const TOKEN_CHARS = [..."!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]

test('property: no spelling of any name brings a value onto an identity line', () => {
  const separators = TOKEN_CHARS.filter(char => !/[a-z0-9]/i.test(char))
  const spelling = fc.constantFrom(...Object.values(FORWARD)).chain(name =>
    fc
      .array(fc.tuple(fc.boolean(), fc.constantFrom(...separators)), { minLength: name.length, maxLength: name.length })
      .map(choices =>
        [...name]
          .map((char, at) => {
            const [upper, separator] = choices[at] as [boolean, string]
            return char === '-' ? separator : upper ? char.toUpperCase() : char.toLowerCase()
          })
          .join(''),
      ),
  )
  const anyName = fc.string({ unit: fc.constantFrom(...TOKEN_CHARS), minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(fc.array(fc.oneof(spelling, anyName), { maxLength: 6 }), fc.boolean(), (names, first) => {
      const tricks = names.flatMap(name => [name, 'evil'])
      const sent = sendOn(first ? [...tricks, ...honest] : [...honest, ...tricks])
      if (!sent.ok) return
      const { lines } = sent.value
      for (const name of Object.values(FORWARD)) {
        const seen: string[] = []
        for (let at = 0; at < lines.length; at += 2) {
          if (foldName(lines[at] as string) === foldName(name)) seen.push(lines[at + 1] as string)
        }
        expect(seen).toHaveLength(1)
        expect(seen[0]).not.toContain('evil')
      }
    }),
    { numRuns: 500 },
  )
})

test('the lines about a certificate are made once', () => {
  const identity = identityWith({ clientCert: ['xfcc', 'rfc9440'] })
  const peer = peerWith()
  expect(identity.rules.clientCertificate(peer.certificate)).toBe(identity.rules.clientCertificate(peer.certificate))
})

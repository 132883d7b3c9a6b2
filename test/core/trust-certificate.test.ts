import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readCertificate, readClientCertificate } from '../../src/core/trust/certificate.ts'
import { childrenOf, isDer, readElement, readOnly, timeMs, unsignedHex } from '../../src/core/trust/der.ts'
import { type LeafOptions, mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { isInstalled } from '../support/programs.ts'

const ca = mintCa({ name: 'test CA' })
const read = (options: LeafOptions) => readClientCertificate(mintLeaf(ca, options).der, [ca.der])
const fault = (options: LeafOptions) => {
  const result = read(options)
  return result.ok ? `accepted: ${result.value.uris.join(' ')}` : `${result.error.reason}: ${result.error.detail}`
}

test('names are read by type, and the rest as the certificate has it', () => {
  const leaf = mintLeaf(ca, {
    cn: 'kong',
    uris: ['spiffe://example.org/ns/gateway/sa/kong', 'https://kong.example.org/'],
    dns: ['kong.gateway.svc', '*.gateway.svc'],
    ips: ['10.0.0.7', '2001:db8::7', '::', '::ffff:10.0.0.7', '1:0:0:2:0:0:0:3'],
    notBefore: new Date('2026-01-01T00:00:00Z'),
    notAfter: new Date('2050-02-28T23:59:59Z'),
    serial: '00c0ffee',
  })
  expect(readClientCertificate(leaf.der, [ca.der])).toEqual({
    ok: true,
    value: {
      subject: 'CN=kong',
      issuer: 'CN=test CA',
      serial: 'C0FFEE',
      fingerprint256: leaf.x509.fingerprint256.replaceAll(':', '').toLowerCase(),
      commonName: 'kong',
      uris: ['spiffe://example.org/ns/gateway/sa/kong', 'https://kong.example.org/'],
      dnsNames: ['kong.gateway.svc', '*.gateway.svc'],
      ips: ['10.0.0.7', '2001:db8::7', '::', '::ffff:a00:7', '1:0:0:2::3'],
      notBeforeMs: Date.parse('2026-01-01T00:00:00Z'),
      notAfterMs: Date.parse('2050-02-28T23:59:59Z'),
      der: leaf.der,
      chain: [ca.der],
    },
  })
})

describe('a certificate that could be read in two ways is refused', () => {
  test.each<{ name: string; options: LeafOptions; want: string }>([
    {
      name: 'a URI that prints as two',
      options: { uris: ['spiffe://td/ns/a, URI:spiffe://td/admin'] },
      want: 'a name of type URI holds a control character, a space or non-ASCII',
    },
    {
      name: 'a URI that prints as two, without the space',
      options: { uris: ['spiffe://td/ns/a,URI:spiffe://td/admin'] },
      want: 'the path of a SPIFFE ID is malformed',
    },
    {
      name: 'two SPIFFE IDs',
      options: { uris: ['spiffe://td/a', 'spiffe://td/b'] },
      want: 'the certificate holds several SPIFFE IDs',
    },
    {
      name: 'two SPIFFE IDs, one of them shouting',
      options: { uris: ['spiffe://td/a', 'SPIFFE://td/b'] },
      want: 'the certificate holds several SPIFFE IDs',
    },
    {
      name: 'a scheme in capitals',
      options: { uris: ['Spiffe://td/a'] },
      want: 'the scheme of a SPIFFE ID is not written in lower case',
    },
    { name: 'no path', options: { uris: ['spiffe://td'] }, want: 'a SPIFFE ID has no path' },
    { name: 'an empty path', options: { uris: ['spiffe://td/'] }, want: 'the path of a SPIFFE ID is malformed' },
    { name: 'a trailing slash', options: { uris: ['spiffe://td/a/'] }, want: 'the path of a SPIFFE ID is malformed' },
    { name: 'dot segments', options: { uris: ['spiffe://td/a/../b'] }, want: 'the path of a SPIFFE ID is malformed' },
    { name: 'escapes', options: { uris: ['spiffe://td/a%2fb'] }, want: 'the path of a SPIFFE ID is malformed' },
    { name: 'a query', options: { uris: ['spiffe://td/a?b'] }, want: 'the path of a SPIFFE ID is malformed' },
    { name: 'a port', options: { uris: ['spiffe://td:1/a'] }, want: 'the trust domain of a SPIFFE ID is malformed' },
    { name: 'a user', options: { uris: ['spiffe://u@td/a'] }, want: 'the trust domain of a SPIFFE ID is malformed' },
    { name: 'no domain', options: { uris: ['spiffe:///a'] }, want: 'the trust domain of a SPIFFE ID is malformed' },
    {
      name: 'a SPIFFE ID beyond 2048 bytes',
      options: { uris: [`spiffe://td/${'a'.repeat(2048)}`] },
      want: 'a SPIFFE ID is longer than 2048 bytes',
    },
    {
      name: 'NUL in a DNS name',
      options: { dns: ['kong.gateway.svc\0.evil.example'] },
      want: 'a name of type DNS holds a control character, a space or non-ASCII',
    },
    {
      name: 'a line break in a URI',
      options: { uris: ['https://a/\r\nX-User-ID: admin'] },
      want: 'a name of type URI holds a control character, a space or non-ASCII',
    },
    {
      name: 'letters beyond ASCII',
      options: { uris: ['spiffe://td/kông'] },
      want: 'a name of type URI holds a control character, a space or non-ASCII',
    },
    {
      name: 'NUL in an e-mail name',
      options: { extraSanRaw: [Buffer.from('8103610062', 'hex')] },
      want: 'a name of type e-mail holds a control character, a space or non-ASCII',
    },
    {
      name: 'an IP address of 5 bytes',
      options: { extraSanRaw: [Buffer.from('87050a00000001', 'hex')] },
      want: 'an IP address has neither 4 nor 16 bytes',
    },
    {
      name: 'a name of an unknown type',
      options: { extraSanRaw: [Buffer.from('890161', 'hex')] },
      want: 'a subject alternative name is of no known type',
    },
    {
      name: 'a constructed URI',
      options: { extraSanRaw: [Buffer.from('a603160161', 'hex')] },
      want: 'a subject alternative name is of no known type',
    },
    {
      name: 'NUL in the common name',
      options: { cn: 'kong\0evil' },
      want: 'the subject has a common name that is not plain text',
    },
  ])('$name', ({ options, want }) => {
    expect(fault(options)).toBe(`peer_identity_ambiguous: ${want}`)
  })

  test('a second SAN extension', () => {
    const { der } = mintLeaf(ca, { uris: ['spiffe://td/a'] })
    // The subject key identifier becomes another SAN extension: only the object identifier differs by one byte.
    const at = der.indexOf(Buffer.from('0603551d0e', 'hex'))
    const twice = Buffer.from(der)
    twice[at + 4] = 0x11
    expect(readCertificate(twice)).toEqual({ ok: false, error: 'the extension 2.5.29.17 is there twice' })
  })
})

test('names that are not about identity do no harm', () => {
  // id-ms-san-upn, as Windows CAs add it.
  const otherName = Buffer.from('a013060a2b060104018237140203a0050c03614062', 'hex')
  const registered = Buffer.from('88022a03', 'hex')
  const email = Buffer.from('8103614062', 'hex')
  expect(fault({ uris: ['spiffe://td/a'], extraSanRaw: [otherName, registered, email] })).toBe(
    'accepted: spiffe://td/a',
  )
})

test('with several common names none of them counts', () => {
  const subject = [
    ['CN', 'kong'],
    ['CN', 'admin'],
  ] as const
  const result = read({ subject, uris: ['spiffe://td/a'] })
  expect(result.ok && [result.value.commonName, result.value.subject]).toEqual([undefined, 'CN=admin,CN=kong'])
})

describe.skipIf(!isInstalled('openssl'))(
  'the subject is written as OpenSSL writes it by RFC 2253, in printable ASCII',
  () => {
    test.each<{ subject: NonNullable<LeafOptions['subject']> }>([
      {
        subject: [
          ['C', 'DE'],
          ['O', 'Acme, Inc.'],
          ['CN', 'kong'],
        ],
      },
      { subject: [['CN', 'ev,OU=admin']] },
      { subject: [['CN', 'a+b"c\\d<e>f;g=h']] },
      { subject: [['CN', ' leading and trailing ']] },
      { subject: [['CN', '#hash']] },
      { subject: [['CN', ' ']] },
      {
        subject: [
          ['O', 'Žluťoučký kůň €'],
          ['CN', 'käng'],
        ],
      },
      {
        subject: [
          ['O', 'line\nbreak'],
          ['OU', 'tab\tand\u007f'],
        ],
      },
      {
        subject: [
          ['DC', 'org'],
          ['DC', 'example'],
          ['emailAddress', 'a@b.c'],
          ['SERIALNUMBER', '42'],
        ],
      },
      { subject: [['O', '']] },
    ])('$subject', ({ subject }) => {
      const leaf = mintLeaf(ca, { subject })
      const shown = execFileSync('openssl', ['x509', '-noout', '-subject', '-nameopt', 'RFC2253'], {
        input: leaf.cert,
        encoding: 'utf8',
      })
      const result = readClientCertificate(leaf.der, [])
      expect(result.ok && result.value.subject).toBe(shown.slice('subject='.length, -1))
      expect(result.ok && result.value.subject).toMatch(/^[\x20-\x7e]*$/)
    })
  },
)

describe('DER is read strictly', () => {
  test.each([
    { name: 'empty', hex: '' },
    { name: 'a tag alone', hex: '30' },
    { name: 'longer than the input', hex: '300201' },
    { name: 'indefinite length', hex: '30800000' },
    { name: 'a length in more bytes than it needs', hex: '30810100' },
    { name: 'a length with a leading zero', hex: `3082007f${'00'.repeat(127)}` },
    { name: 'a length of five bytes', hex: '30850000000100' },
    { name: 'a tag of several bytes', hex: '1f8101' },
    { name: 'a primitive sequence', hex: '1000' },
    { name: 'a constructed string', hex: '2c030c0161' },
    { name: 'something behind the end', hex: '30000500' },
    { name: 'TRUE that is not ff', hex: '010101' },
    { name: 'an integer with a needless zero', hex: '02020001' },
    { name: 'an integer with a needless ff', hex: '0202ff80' },
    { name: 'an empty integer', hex: '0200' },
    { name: 'an empty bit string with unused bits', hex: '030103' },
    { name: 'an object identifier that does not end', hex: '06022a83' },
    { name: 'an object identifier with a needless 80', hex: '06032a8003' },
    { name: 'a fault deep inside', hex: '300430020101' },
  ])('$name', ({ hex }) => {
    expect(isDer(Buffer.from(hex, 'hex'))).toBe(false)
  })

  test.each([
    { name: 'an empty sequence', hex: '3000' },
    { name: 'a long form that is needed', hex: `308180${'0500'.repeat(64)}` },
    { name: 'nested', hex: '300730053003020101' },
  ])('$name is accepted', ({ hex }) => {
    expect(isDer(Buffer.from(hex, 'hex'))).toBe(true)
  })

  test('a tower of sequences is not climbed', () => {
    let tower = Buffer.from('0500', 'hex')
    for (let floor = 0; floor < 60; floor++) tower = Buffer.concat([Buffer.from([0x30, tower.length]), tower])
    expect(isDer(tower)).toBe(false)
  })

  test.each([
    { hex: '170d3236303131353130313530305a', want: '2026-01-15T10:15:00.000Z' },
    { hex: '170d3530303130313030303030305a', want: '1950-01-01T00:00:00.000Z' },
    { hex: '180f39393939313233313233353935395a', want: '9999-12-31T23:59:59.000Z' },
    { hex: '170d3236303233303130313530305a', want: undefined },
    { hex: '170b323630313135313031355a', want: undefined },
    { hex: '17113236303131353130313530302b30313030', want: undefined },
  ])('time $hex is $want', ({ hex, want }) => {
    const ms = timeMs(readOnly(Buffer.from(hex, 'hex')))
    expect(ms === undefined ? undefined : new Date(ms).toISOString()).toBe(want)
  })

  test.each([
    { hex: '020100', want: '00' },
    { hex: '02020080', want: '80' },
    { hex: '0201ff', want: undefined },
    { hex: '0500', want: undefined },
  ])('serial $hex is $want', ({ hex, want }) => {
    expect(unsignedHex(readOnly(Buffer.from(hex, 'hex')))).toBe(want)
  })
})

describe('hostile bytes', () => {
  const leaf = mintLeaf(ca, {
    cn: 'kong',
    uris: ['spiffe://td/a'],
    dns: ['a.b'],
    ips: ['10.0.0.7', '2001:db8::7'],
  })

  test('a certificate with any bytes changed is read or refused, and its names stay plain', () => {
    const change = fc.tuple(fc.nat(leaf.der.length - 1), fc.nat(255))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), changes => {
        const der = Buffer.from(leaf.der)
        for (const [at, byte] of changes) der[at] = byte
        const result = readClientCertificate(der, [])
        if (result.ok) {
          const { subject, issuer, uris, dnsNames, ips } = result.value
          for (const text of [subject, issuer, ...uris, ...dnsNames, ...ips]) expect(text).toMatch(/^[\x20-\x7e]*$/)
        } else {
          expect(result.error.reason).toBe('peer_identity_ambiguous')
        }
      }),
      { numRuns: 4000 },
    )
  })

  test('a certificate cut short or with something added is refused', () => {
    fc.assert(
      fc.property(fc.nat(leaf.der.length - 1), fc.uint8Array({ minLength: 1, maxLength: 9 }), (length, more) => {
        expect(readCertificate(leaf.der.subarray(0, length)).ok).toBe(false)
        expect(readCertificate(Buffer.concat([leaf.der, more])).ok).toBe(false)
      }),
      { numRuns: 500 },
    )
  })

  test('any bytes at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        const der = Buffer.from(bytes)
        expect(readCertificate(der).ok).toBe(false)
        const element = readElement(der)
        // What is read of an element is within the input, and its children fill it.
        if (element !== undefined) expect(element.whole.length).toBeLessThanOrEqual(der.length)
        const children = childrenOf(element)
        if (children)
          expect(Buffer.concat(children.map(child => child.whole)).equals(element?.content ?? der)).toBe(true)
      }),
      { numRuns: 3000 },
    )
  })
})

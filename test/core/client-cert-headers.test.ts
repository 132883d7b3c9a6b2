import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { compileClientCertificateHeaders, xfcc } from '../../src/core/identity/client-cert-headers.ts'
import { readClientCertificate } from '../../src/core/trust/certificate.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { certificateWith, valuesOf } from '../support/identity.ts'
import { isInstalled } from '../support/programs.ts'

const HASH = 'ab'.repeat(32)

describe('one element of X-Forwarded-Client-Cert', () => {
  test.each([
    {
      name: 'as in the documentation of Envoy: a URI only',
      certificate: { subject: '', uris: ['http://testclient.example.com'] },
      want: `Hash=${HASH};Subject="";URI=http://testclient.example.com`,
    },
    {
      name: 'a subject, a URI and two DNS names',
      certificate: {
        subject: 'CN=Test Client,OU=Lyft,L=San Francisco,ST=CA,C=US',
        uris: ['http://a.example.com'],
        dnsNames: ['a.example.com', 'www.a.example.com'],
      },
      want: `Hash=${HASH};Subject="CN=Test Client,OU=Lyft,L=San Francisco,ST=CA,C=US";URI=http://a.example.com;DNS=a.example.com;DNS=www.a.example.com`,
    },
    {
      name: 'no URI leaves the key there',
      certificate: { uris: [], dnsNames: ['a'] },
      want: `Hash=${HASH};Subject="CN=kong";URI=;DNS=a`,
    },
    {
      name: 'a comma in a name',
      certificate: { subject: 'O=Acme\\, Inc.' },
      want: `Hash=${HASH};Subject="O=Acme\\, Inc.";URI=spiffe://example.org/ns/gateway/sa/kong`,
    },
    {
      name: 'a quote in a name',
      certificate: { subject: 'CN=a\\"b', uris: ['u'] },
      want: `Hash=${HASH};Subject="CN=a\\"b";URI=u`,
    },
    {
      name: 'a backslash before the closing quote',
      certificate: { subject: 'CN=a\\\\', uris: ['u'] },
      want: `Hash=${HASH};Subject="CN=a\\5C";URI=u`,
    },
    {
      name: 'a quote that nobody has escaped',
      certificate: { subject: 'CN=a";URI=evil', uris: ['u'] },
      want: `Hash=${HASH};Subject="CN=a\\22;URI=evil";URI=u`,
    },
    {
      name: 'UTF-8',
      certificate: { subject: 'CN=jürgen', uris: ['u'] },
      want: `Hash=${HASH};Subject="CN=j\\C3\\BCrgen";URI=u`,
    },
    {
      name: 'a line feed',
      certificate: { subject: 'CN=a\r\nX-User-ID: evil', uris: ['u'] },
      want: `Hash=${HASH};Subject="CN=a\\0D\\0AX-User-ID: evil";URI=u`,
    },
    {
      name: 'a URI with what separates keys',
      certificate: { uris: ['spiffe://td/a;URI=b,c'] },
      want: `Hash=${HASH};Subject="CN=kong";URI="spiffe://td/a;URI=b,c"`,
    },
    {
      name: 'a URI with a quote',
      certificate: { uris: ['spiffe://td/a"b\\'] },
      want: `Hash=${HASH};Subject="CN=kong";URI="spiffe://td/a\\"b%5C"`,
    },
  ])('$name', ({ certificate, want }) => {
    expect(xfcc(certificateWith(certificate), false)).toBe(want)
  })

  const NAMES = [
    'plain',
    'Acme, Inc.',
    'a"b',
    'a+b=c;d<e>f#g',
    ' leading and trailing ',
    '#hash',
    'jürgen straße',
    '漢字',
    'tail\\',
    'a\\"b',
    '"quoted"',
  ]

  test.skipIf(!isInstalled('openssl')).each(NAMES)('real certificate of %j: Subject is what OpenSSL prints', cn => {
    const ca = mintCa({ name: 'test ca' })
    const leaf = mintLeaf(ca, { cn, uris: ['spiffe://example.org/a'] })
    const { raw } = new X509Certificate(leaf.cert)
    const read = readClientCertificate(raw, [])
    if (!read.ok) throw new Error(read.error.detail)
    const printed = execFileSync('openssl', ['x509', '-noout', '-subject', '-nameopt', 'RFC2253'], { input: leaf.cert })
      .toString()
      .replace(/^subject=|\n$/g, '')
    // OpenSSL doubles a backslash; here it is written in hexadecimal (see client-cert-headers.ts).
    const expected = printed.replace(/\\\\/g, '\\5C')
    const value = xfcc(read.value, false)
    expect(value).toMatch(/^[\x20-\x7e]+$/)
    expect(value).toBe(`Hash=${read.value.fingerprint256};Subject="${expected}";URI=spiffe://example.org/a`)
    // A reader who takes any escaped character and one who only knows \" find the same end.
    for (const pattern of [/Subject="((?:\\.|[^"\\])*)";URI=/, /Subject="((?:\\"|[^"])*)";URI=/]) {
      expect(pattern.exec(value)?.[1]).toBe(expected)
    }
  })
})

describe('certificates as bytes', () => {
  const ca = mintCa({ name: 'test ca' })
  const leaf = new X509Certificate(mintLeaf(ca, { cn: 'kong' }).cert)
  const root = new X509Certificate(ca.cert)
  const certificate = certificateWith({ der: leaf.raw, chain: [root.raw] })

  test('RFC 9440: a byte sequence, and the issuers as a list of them', () => {
    const lines = compileClientCertificateHeaders(['rfc9440'])(certificate)
    const base64 = (der: Buffer): string => `:${der.toString('base64')}:`
    expect(lines).toEqual(['Client-Cert', base64(leaf.raw), 'Client-Cert-Chain', base64(root.raw)])
    expect(lines[1]).toMatch(/^:[A-Za-z0-9+/]+={0,2}:$/)
  })

  test('xfcc-cert: the PEM, URL-encoded, is the certificate', () => {
    const [value] = valuesOf(compileClientCertificateHeaders(['xfcc-cert'])(certificate), 'X-Forwarded-Client-Cert')
    const encoded = /^Hash=[0-9a-f]{64};Cert="([^"]+)";Subject=/.exec(value ?? '')?.[1]
    expect(new X509Certificate(decodeURIComponent(encoded ?? '')).fingerprint256).toBe(leaf.fingerprint256)
  })

  test('nothing is told when nothing is asked for', () => {
    expect(compileClientCertificateHeaders([])(certificate)).toEqual([])
  })
})

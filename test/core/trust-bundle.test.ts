import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readTrustBundle, type TrustFiles } from '../../src/core/trust/bundle.ts'
import { explainTrust, mountPoints } from '../../src/core/trust/explain.ts'
import { readPem } from '../../src/core/trust/pem.ts'
import { isSignedBy, readRevocationList } from '../../src/core/trust/revocation-list.ts'
import { mintCa, mintCrl, mintIntermediate, mintLeaf } from '../../src/edge/pki.ts'
import { tlsConfig } from '../support/trust.ts'

const DAY = 86_400_000
const now = Date.parse('2026-06-01T12:00:00Z')
const at = (days: number) => new Date(now + days * DAY)
const ca = mintCa({ name: 'CA one', notBefore: at(-300), notAfter: at(300) })
const caTwo = mintCa({ name: 'CA two', notBefore: at(-300), notAfter: at(300) })
const oldCa = mintCa({ name: 'old CA', notBefore: at(-300), notAfter: at(-3) })
const intermediate = mintIntermediate(ca, { name: 'intermediate', notBefore: at(-300), notAfter: at(20) })
const leaf = mintLeaf(intermediate, {
  cn: 'mcp-server',
  dns: ['localhost', 'mcp-server.default.svc'],
  ips: ['127.0.0.1'],
  notBefore: at(-10),
  notAfter: at(80),
})
const crlOf = (issuer: typeof ca, revoked: string[] = [], from = -1, to = 1) =>
  mintCrl(issuer, { revoked, thisUpdate: at(from), nextUpdate: at(to) })

interface Texts {
  cert?: string
  key?: string | undefined
  clientCa?: string
  crl?: string
}

function read(texts: Texts, more: Partial<ReturnType<typeof tlsConfig>> = {}) {
  const { cert = leaf.chain, clientCa = ca.cert, crl } = texts
  const key = 'key' in texts ? texts.key : leaf.key
  const files: TrustFiles = {
    cert: Buffer.from(cert),
    key: key === undefined ? undefined : Buffer.from(key),
    clientCa: Buffer.from(clientCa),
    crl: crl === undefined ? undefined : Buffer.from(crl),
  }
  const tls = tlsConfig({ caDir: '/ca' }, { crl: crl === undefined ? undefined : '/ca/ca.crl', ...more })
  return { bundle: readTrustBundle(files, tls, now), tls }
}

function good(texts: Texts = {}, more = {}) {
  const { bundle } = read(texts, more)
  if (!bundle.ok) throw new Error(JSON.stringify(bundle.error))
  return bundle.value
}

test('a good set of files becomes one value', () => {
  const bundle = good({
    clientCa: `comment\n${ca.cert}\n${caTwo.cert}${ca.cert}`,
    crl: crlOf(ca) + crlOf(caTwo, ['0A']),
  })
  expect(bundle.pem.cert).toBe(leaf.cert + intermediate.cert)
  expect(bundle.pem.ca).toEqual([ca.cert, caTwo.cert])
  expect(bundle.pem.crl).toHaveLength(2)
  expect(bundle.leaf.names).toEqual({ dnsNames: ['localhost', 'mcp-server.default.svc'], ips: ['127.0.0.1'], uris: [] })
  expect(new Date(bundle.notAfterMs)).toEqual(at(20))
  expect(bundle.lists.map(({ issuer, revoked }) => [issuer.text, [...revoked]])).toEqual([
    ['CN=CA one', []],
    ['CN=CA two', ['0A']],
  ])
  expect(bundle.partialChain).toBe(false)
  expect(bundle.warnings).toEqual([])
})

test('the digest tells whether two readings are the same', () => {
  expect(good({ clientCa: `# another comment\n${ca.cert}` }).digest).toBe(good().digest)
  expect(good({ clientCa: ca.cert + caTwo.cert }).digest).not.toBe(good().digest)
})

test.each([
  { name: 'key first', cert: leaf.key + leaf.chain },
  { name: 'key last', cert: leaf.chain + leaf.key },
])('certificate and key in one file, $name', ({ cert }) => {
  const bundle = good({ cert, key: undefined }, { key: undefined })
  expect(bundle.pem).toMatchObject({ cert: leaf.chain, key: leaf.key })
})

test('a file with Windows line ends is read like any other', () => {
  expect(good({ cert: leaf.chain.replaceAll('\n', '\r\n') }).digest).toBe(good().digest)
})

test('all that is wrong is told at once, in the order of the settings', () => {
  const { bundle } = read({ cert: '', key: 'x', clientCa: leaf.cert, crl: 'x' })
  expect(!bundle.ok && bundle.error.map(({ setting, code }) => `${setting} ${code}`)).toEqual([
    'tls.cert file_empty',
    'tls.key key_missing',
    'tls.clientCa ca_not_authority',
    'tls.crl crl_malformed',
  ])
})

describe('warnings', () => {
  const late = mintLeaf(ca, { cn: 'late', dns: ['a'], notBefore: at(-80), notAfter: at(20) })
  const nameless = mintLeaf(ca, { cn: 'nameless', notBefore: at(-1), notAfter: at(80) })
  const namesake = mintCa({ name: 'CA one', notBefore: at(-300), notAfter: at(300) })
  test.each<{ name: string; texts: Texts; want: string[] }>([
    { name: 'renewal is late', texts: { cert: late.chain, key: late.key }, want: ['renewal_late'] },
    { name: 'no names', texts: { cert: nameless.chain, key: nameless.key }, want: ['no_names'] },
    { name: 'an expired CA among others', texts: { clientCa: ca.cert + oldCa.cert }, want: ['ca_expired'] },
    { name: 'a key in the CA file', texts: { clientCa: ca.cert + ca.key }, want: ['key_in_ca'] },
    { name: 'a CA of the same name with another key', texts: { clientCa: namesake.cert }, want: ['issuer_differs'] },
    { name: 'a list of nobody', texts: { crl: crlOf(ca) + crlOf(caTwo) }, want: ['crl_stranger'] },
    {
      name: 'an expired list of nobody',
      texts: { crl: crlOf(ca) + crlOf(caTwo, [], -9, -8) },
      want: ['crl_stranger', 'crl_expires_soon'],
    },
    { name: 'a list that ends soon', texts: { crl: crlOf(ca, [], -20, 1) }, want: ['crl_expires_soon'] },
    { name: 'two lists of one CA', texts: { crl: crlOf(ca) + crlOf(ca, [], -3, 3) }, want: ['crl_superseded'] },
  ])('$name', ({ texts, want }) => {
    expect(good(texts).warnings.map(({ code }) => code)).toEqual(want)
  })
})

describe('of several lists of one CA', () => {
  const older = crlOf(ca, ['01'], -9, -2)
  const newer = crlOf(ca, ['02'], -1, 1)
  test.each([
    { name: 'the expired one comes first', crl: older + newer },
    { name: 'the expired one comes last', crl: newer + older },
  ])('the newest counts, when $name', ({ crl }) => {
    expect(good({ crl }).lists.map(({ revoked }) => [...revoked])).toEqual([['02']])
  })
})

describe('revocation lists that say less than they seem to are refused', () => {
  const [block] = (readPem(Buffer.from(crlOf(ca, ['0A0B']))) as { ok: true; value: { der: Buffer }[] }).value
  const der = block?.der ?? Buffer.alloc(0)

  test('a list is believed by the signature of its CA only', () => {
    const list = readRevocationList(der)
    expect(list.ok && isSignedBy(list.value, ca.x509.publicKey)).toBe(true)
    expect(list.ok && isSignedBy(list.value, caTwo.x509.publicKey)).toBe(false)
  })

  test('a list with a critical extension', () => {
    // The CRL number becomes an issuing distribution point, and non-critical critical: TRUE takes three more bytes.
    const oid = Buffer.from('0603551d14', 'hex')
    const start = der.indexOf(oid)
    const idp = Buffer.from('0603551d1c', 'hex')
    const changed = lengthened(der, start - 2, Buffer.concat([idp, Buffer.from('0101ff', 'hex')]), oid.length)
    expect(readRevocationList(changed)).toMatchObject({ ok: false, error: { code: 'crl_unsupported' } })
  })

  test('any bytes changed: read or refused, never thrown on', () => {
    const change = fc.tuple(fc.nat(der.length - 1), fc.nat(255))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), changes => {
        const mutated = Buffer.from(der)
        for (const [index, byte] of changes) mutated[index] = byte
        const list = readRevocationList(mutated)
        if (list.ok && !mutated.equals(der)) {
          // Whatever was changed was signed, or is the signature.
          const isSame = list.value.signature.content.equals(der.subarray(4, 4 + list.value.signature.content.length))
          if (!isSame) expect(isSignedBy(list.value, ca.x509.publicKey)).toBe(false)
        }
      }),
      { numRuns: 1500 },
    )
  })
})

describe('PEM', () => {
  test('any text is read or refused', () => {
    const part = fc.constantFrom(
      '-----BEGIN CERTIFICATE-----',
      '-----END CERTIFICATE-----',
      '-----BEGIN PRIVATE KEY-----',
      '-----END X-----',
      'AAAA',
      'A=',
      '!',
      '\n',
      '\r\n',
      ' ',
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), parts => {
        const text = parts.join('')
        const blocks = readPem(Buffer.from(text))
        // As many blocks as there are ends, or none at all: never fewer than the file has.
        const begins = text.match(/-----BEGIN/g)?.length ?? 0
        if (blocks.ok) expect(blocks.value).toHaveLength(begins)
      }),
      { numRuns: 2000 },
    )
  })

  test('a block with headers, as old encrypted keys have them, is told as what it is', () => {
    const encrypted =
      '-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n'
    const { bundle } = read({ key: encrypted })
    expect(!bundle.ok && bundle.error.map(({ code }) => code)).toEqual(['key_encrypted'])
  })
})

describe('explained', () => {
  const expired = mintLeaf(ca, { cn: 'x', serial: '0a', dns: ['a'], notBefore: at(-9), notAfter: at(-3) })
  const files = [
    { setting: 'tls.cert', path: '/tls/tls.crt', mode: 0o100644, isMountPoint: true },
    { setting: 'tls.key', path: '/tls/tls.key', mode: 0o100644, isMountPoint: false },
  ] as const

  test('what is wrong, of which file and certificate, since when', () => {
    const { bundle, tls } = read({ cert: expired.chain, key: leaf.key })
    expect(explainTrust(bundle, tls, [], now).problems).toEqual([
      'tls.cert /tls/tls.crt: CN=x (serial 0A) has expired, 3 days ago (2026-05-29T12:00:00Z)',
      'tls.key /tls/tls.key: is not the key of CN=x (serial 0A) in tls.cert',
    ])
  })

  test('what is not right about the files themselves', () => {
    const { bundle, tls } = read({}, { clientCa: '/tls/ca.crt' })
    expect(explainTrust(bundle, tls, files, now).warnings).toEqual([
      'tls.cert /tls/tls.crt: is mounted with subPath, so that it never changes while the pod lives; mount the directory',
      'tls.key /tls/tls.key: holds a private key that everybody in this container may read (mode 0644; use 0440 or 0400)',
      "tls.clientCa /tls/ca.crt: comes from the same directory as tls.cert; the ca.crt of a certificate's own Secret " +
        'follows its issuer and is no list of whom to trust (trust-manager makes one)',
    ])
  })

  test('what is there when all is well', () => {
    const { bundle, tls } = read({ crl: crlOf(ca, ['01', '02']) })
    expect(explainTrust(bundle, tls, [], now)).toEqual({
      problems: [],
      warnings: [],
      facts: [
        `serves as CN=mcp-server (serial ${leaf.serial}), names localhost, mcp-server.default.svc, 127.0.0.1, until 2026-08-20T12:00:00Z (in 80 days)`,
        `sends the intermediate CN=intermediate (serial ${intermediate.serial}), until 2026-06-21T12:00:00Z`,
        `accepts clients of CN=CA one (serial ${ca.serial}), until 2027-03-28T12:00:00Z`,
        'refuses 2 revoked by CN=CA one, next list due 2026-06-02T12:00:00Z',
      ],
    })
  })

  test('mount points, with the escapes of the kernel', () => {
    const mountinfo =
      '22 28 0:21 / /proc rw,nosuid - proc proc rw\n' +
      '99 28 8:1 /var/lib/x /etc/a\\040b/tls.crt ro,relatime - ext4 /dev/sda1 rw\n'
    expect([...mountPoints(mountinfo)]).toEqual(['/proc', '/etc/a b/tls.crt'])
  })
})

/** Replaces bytes inside DER and sets every enclosing length right. */
function lengthened(der: Buffer, elementAt: number, replacement: Buffer, replacedLength: number): Buffer {
  const grow = replacement.length - replacedLength
  const walk = (start: number, end: number): Buffer => {
    const parts: Buffer[] = []
    for (let offset = start; offset < end; ) {
      const long = (der[offset + 1] ?? 0) >= 0x80 ? (der[offset + 1] ?? 0) - 0x80 : 0
      const length = long === 0 ? (der[offset + 1] ?? 0) : der.readUIntBE(offset + 2, long)
      const content = offset + 2 + long
      const next = content + length
      if (offset <= elementAt && elementAt < next) {
        const inner =
          offset === elementAt
            ? Buffer.concat([replacement, der.subarray(content + replacedLength, next)])
            : walk(content, next)
        parts.push(header(der[offset] ?? 0, length + grow), inner)
      } else {
        parts.push(der.subarray(offset, next))
      }
      offset = next
    }
    return Buffer.concat(parts)
  }
  return walk(0, der.length)
}

function header(tag: number, length: number): Buffer {
  if (length < 0x80) return Buffer.from([tag, length])
  return length < 0x100 ? Buffer.from([tag, 0x81, length]) : Buffer.from([tag, 0x82, length >> 8, length & 0xff])
}

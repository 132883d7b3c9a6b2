import { describe, expect, test } from 'vitest'
import {
  type CertificateAuthority,
  type Identity,
  mintCa,
  mintCrl,
  mintIntermediate,
  mintLeaf,
  mintSelfSigned,
} from '../../src/edge/pki.ts'
import type { KeyType } from '../../src/edge/x509-keys.ts'
import { bareServer, bundleOf, visit } from '../support/tls-peers.ts'
import { tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })
const otherCa = mintCa({ name: 'another CA' })
const intermediate = mintIntermediate(ca, { name: 'intermediate CA' })
const server = mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
const gateway = mintLeaf(ca, { uris: ['spiffe://td/kong'] })
const ofOther = mintLeaf(otherCa, { uris: ['spiffe://td/envoy'] })
const chained = mintLeaf(intermediate, { uris: ['spiffe://td/chained'] })
const DAY = 86_400_000

// OpenSSL clients complete their chain from the CAs that they trust, so these trust no more than the server's.
const trusted = ca.cert
const as = (identity: Pick<Identity, 'chain' | 'key'>) => ({ ca: trusted, cert: identity.chain, key: identity.key })
const serve = (texts: { clientCa: string; crl?: string }, more = {}) => {
  const tls = tlsConfig({}, { ...(texts.crl === undefined ? {} : { crl: '/tls/ca.crl' }), ...more })
  return bareServer(bundleOf({ cert: server.chain, key: server.key, ...texts }, tls), tls)
}

describe.each<KeyType>(['ec-p256', 'ec-p384', 'rsa-2048', 'ed25519'])('keys and CAs of kind %s', keyType => {
  const root = mintCa({ name: 'root', keyType })
  const below = mintIntermediate(root, { name: 'below', keyType })
  const names = { dns: ['localhost'], uris: ['spiffe://td/x'], keyType }
  const [ours, theirs] = [mintLeaf(below, names), mintLeaf(below, names)]

  test.each(['TLSv1.3', 'TLSv1.2'] as const)('on %s', async version => {
    const tls = tlsConfig({}, { minVersion: 'TLSv1.2', crl: '/tls/ca.crl' })
    const crl = mintCrl(root, { revoked: [] }) + mintCrl(below, { revoked: [] })
    const { port } = await bareServer(bundleOf({ cert: ours.chain, key: ours.key, clientCa: root.cert, crl }, tls), tls)
    const seen = await visit(port, { ca: root.cert, cert: theirs.chain, key: theirs.key, maxVersion: version })
    expect(seen).toMatchObject({ answer: 'accepted', protocol: version })
  })
})

describe('a certificate that is not acceptable is refused by its exact reason', () => {
  const now = Date.now()
  test.each<{ name: string; identity: Pick<Identity, 'chain' | 'key'>; want: string }>([
    { name: 'of another CA', identity: ofOther, want: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    {
      name: 'expired',
      identity: mintLeaf(ca, { cn: 'x', notBefore: new Date(now - 9 * DAY), notAfter: new Date(now - DAY) }),
      want: 'CERT_HAS_EXPIRED',
    },
    {
      name: 'not yet valid',
      identity: mintLeaf(ca, { cn: 'x', notBefore: new Date(now + DAY) }),
      want: 'CERT_NOT_YET_VALID',
    },
    { name: 'for servers only', identity: mintLeaf(ca, { cn: 'x', usages: ['serverAuth'] }), want: 'INVALID_PURPOSE' },
    { name: 'self-signed', identity: mintSelfSigned({ cn: 'x' }), want: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
    {
      name: 'self-signed, with a good certificate of somebody else behind it',
      identity: stuffed(mintSelfSigned({ cn: 'x', uris: ['spiffe://td/admin'] }), gateway),
      want: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    },
    {
      name: 'without its intermediate',
      identity: { chain: chained.cert, key: chained.key },
      want: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    },
    {
      name: 'with two SPIFFE IDs',
      identity: mintLeaf(ca, { uris: ['spiffe://td/a', 'spiffe://td/b'] }),
      want: 'the certificate holds several SPIFFE IDs',
    },
  ])('$name', async ({ identity, want }) => {
    const { port } = await serve({ clientCa: ca.cert })
    expect(await visit(port, as(identity))).toMatchObject({ answer: want })
  })

  test('none at all', async () => {
    const { port } = await serve({ clientCa: ca.cert })
    expect(await visit(port, { ca: trusted })).toMatchObject({ answer: 'no certificate' })
  })
})

describe('revocation lists', () => {
  const both = ca.cert + otherCa.cert
  const revoking = (issuer: CertificateAuthority, ...revoked: string[]) => mintCrl(issuer, { revoked })

  test('two CAs with a list each in one file', async () => {
    const { port } = await serve({ clientCa: both, crl: revoking(ca, gateway.serial) + revoking(otherCa) })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'CERT_REVOKED' })
    expect(await visit(port, as(ofOther))).toMatchObject({ answer: 'accepted' })
  })

  test('a CA without a list is not taken into use, unless coverage is partial; then its peers get in', async () => {
    const crl = revoking(ca, gateway.serial)
    expect(() => bundleOf({ cert: server.chain, key: server.key, clientCa: both, crl }, tlsConfig())).toThrow(
      'crl_missing',
    )
    const { port } = await serve({ clientCa: both, crl }, { crlCoverage: 'partial' })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'CERT_REVOKED' })
    expect(await visit(port, as(ofOther))).toMatchObject({ answer: 'accepted' })
  })

  test.each(['full', 'partial'] as const)('a leaf revoked by its intermediate, coverage %s', async crlCoverage => {
    const crl = revoking(ca) + revoking(intermediate, chained.serial)
    const { port } = await serve({ clientCa: ca.cert, crl }, { crlCoverage })
    expect(await visit(port, as(chained))).toMatchObject({ answer: 'CERT_REVOKED' })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'accepted' })
  })

  test.each(['full', 'partial'] as const)('an intermediate revoked by its root, coverage %s', async crlCoverage => {
    const crl = revoking(ca, intermediate.serial) + revoking(intermediate)
    const { port } = await serve({ clientCa: ca.cert, crl }, { crlCoverage })
    expect(await visit(port, as(chained))).toMatchObject({ answer: 'CERT_REVOKED' })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'accepted' })
  })

  test('a serial that another CA has revoked does no harm', async () => {
    const { port } = await serve({ clientCa: both, crl: revoking(ca) + revoking(otherCa, gateway.serial) })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'accepted' })
  })
})

describe('client CAs', () => {
  test('an intermediate alone is an end of trust', async () => {
    const { port } = await serve({ clientCa: intermediate.cert })
    expect(await visit(port, as(chained))).toMatchObject({ answer: 'accepted' })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'SELF_SIGNED_CERT_IN_CHAIN' })
  })

  test('an intermediate alone can have its list with partial coverage only', async () => {
    const texts = { clientCa: intermediate.cert, crl: mintCrl(intermediate, { revoked: [chained.serial] }) }
    const whole = { cert: server.chain, key: server.key, ...texts }
    expect(() => bundleOf(whole, tlsConfig())).toThrow('crlCoverage: partial')
    const { port } = await serve(texts, { crlCoverage: 'partial' })
    expect(await visit(port, as(chained))).toMatchObject({ answer: 'CERT_REVOKED' })
  })

  test('old and new CA side by side', async () => {
    const { port } = await serve({ clientCa: `# old\n${ca.cert}\n# new\n${otherCa.cert}` })
    expect(await visit(port, as(gateway))).toMatchObject({ answer: 'accepted' })
    expect(await visit(port, as(ofOther))).toMatchObject({ answer: 'accepted' })
  })
})

describe('what is negotiated', () => {
  test('TLS 1.2 is refused by default', async () => {
    const { port } = await serve({ clientCa: ca.cert })
    expect(await visit(port, { ...as(gateway), maxVersion: 'TLSv1.2' })).toMatchObject({
      answer: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
    })
  })

  test.each([
    { ciphers: 'ECDHE-ECDSA-AES128-SHA256', want: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE' },
    { ciphers: 'ECDHE-ECDSA-AES256-SHA', want: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE' },
    { ciphers: 'ECDHE-ECDSA-AES256-GCM-SHA384', want: 'accepted' },
    { ciphers: 'ECDHE-ECDSA-CHACHA20-POLY1305', want: 'accepted' },
  ])('TLS 1.2 with $ciphers: $want', async ({ ciphers, want }) => {
    const { port } = await serve({ clientCa: ca.cert }, { minVersion: 'TLSv1.2' })
    expect(await visit(port, { ...as(gateway), maxVersion: 'TLSv1.2', ciphers })).toMatchObject({ answer: want })
  })

  test.each(['X25519MLKEM768', 'X25519', 'P-256'])('the group %s', async group => {
    const { port } = await serve({ clientCa: ca.cert })
    expect(await visit(port, { ...as(gateway), ecdhCurve: group })).toMatchObject({ answer: 'accepted' })
  })

  test('a group that is not listed is refused', async () => {
    const { port } = await serve({ clientCa: ca.cert })
    expect(await visit(port, { ...as(gateway), ecdhCurve: 'P-521' })).toMatchObject({
      answer: 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
    })
  })
})

function stuffed(front: Identity, behind: Identity): Pick<Identity, 'chain' | 'key'> {
  return { chain: front.cert + behind.cert, key: front.key }
}

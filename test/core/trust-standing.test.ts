import { describe, expect, test } from 'vitest'
import type { ClientCertificate } from '../../src/core/identity/caller.ts'
import { readTrustBundle, type TrustBundle } from '../../src/core/trust/bundle.ts'
import { readClientCertificate } from '../../src/core/trust/certificate.ts'
import { judgeCertificate, judgeHandshake, standsUntilMs, verifiedIssuers } from '../../src/core/trust/standing.ts'
import {
  type CertificateAuthority,
  type Identity,
  mintCa,
  mintCrl,
  mintIntermediate,
  mintLeaf,
} from '../../src/edge/pki.ts'
import { tlsConfig } from '../support/trust.ts'

const DAY = 86_400_000
const now = Date.parse('2026-06-01T12:00:00Z')
const at = (days: number) => new Date(now + days * DAY)
const life = { notBefore: at(-10), notAfter: at(100) }
const ca = mintCa({ name: 'CA', ...life })
const otherCa = mintCa({ name: 'other CA', ...life })
const intermediate = mintIntermediate(ca, { name: 'intermediate', notBefore: at(-10), notAfter: at(30) })
const lower = mintIntermediate(intermediate, { name: 'lower', ...life })
const server = mintLeaf(ca, { dns: ['a'], ...life })
const direct = mintLeaf(ca, { uris: ['spiffe://td/a'], ...life })
const chained = mintLeaf(intermediate, { uris: ['spiffe://td/b'], ...life })
const deep = mintLeaf(lower, { uris: ['spiffe://td/c'], notBefore: at(-10), notAfter: at(5) })

const presented = (leaf: Identity, ...chain: Identity[]): ClientCertificate => {
  const read = readClientCertificate(
    leaf.der,
    chain.map(({ der }) => der),
  )
  if (!read.ok) throw new Error(read.error.detail)
  return read.value
}
const bundle = (
  authorities: Identity[],
  crl?: string,
  crlCoverage: 'full' | 'partial' = 'partial',
  nowMs = now,
): TrustBundle => {
  const files = {
    cert: Buffer.from(server.chain),
    key: Buffer.from(server.key),
    clientCa: Buffer.from(authorities.map(({ cert }) => cert).join('')),
    crl: crl === undefined ? undefined : Buffer.from(crl),
  }
  const read = readTrustBundle(files, tlsConfig({}, { crlCoverage }), nowMs)
  if (!read.ok) throw new Error(JSON.stringify(read.error))
  return read.value
}
const list = (issuer: CertificateAuthority, ...revoked: Identity[]) =>
  mintCrl(issuer, { revoked: revoked.map(({ serial }) => serial), thisUpdate: at(-1), nextUpdate: at(1) })

describe('a connection stands as long as its certificate does', () => {
  test.each<{
    name: string
    certificate: ClientCertificate
    trust: TrustBundle
    day?: number
    want: string | undefined
  }>([
    { name: 'issued by a CA', certificate: presented(direct), trust: bundle([ca]), want: undefined },
    { name: 'with the root sent along', certificate: presented(direct, ca), trust: bundle([ca]), want: undefined },
    { name: 'by an intermediate', certificate: presented(chained, intermediate), trust: bundle([ca]), want: undefined },
    {
      name: 'by two, sent in the wrong order with a stranger between',
      certificate: presented(deep, ca, otherCa, intermediate, lower),
      trust: bundle([ca]),
      want: undefined,
    },
    { name: 'its intermediate not sent', certificate: presented(chained), trust: bundle([ca]), want: 'CA_REMOVED' },
    {
      name: 'its intermediate not sent, but in the bundle',
      certificate: presented(chained),
      trust: bundle([ca, intermediate]),
      want: undefined,
    },
    {
      name: 'by an intermediate that is the only CA',
      certificate: presented(chained),
      trust: bundle([intermediate]),
      want: undefined,
    },
    { name: 'the CA has left', certificate: presented(direct, ca), trust: bundle([otherCa]), want: 'CA_REMOVED' },
    {
      name: 'the root has left, sent along or not',
      certificate: presented(chained, intermediate, ca),
      trust: bundle([otherCa]),
      want: 'CA_REMOVED',
    },
    {
      name: 'the CA has been replaced by another one of its name',
      certificate: presented(direct, ca),
      trust: bundle([mintCa({ name: 'CA', ...life })]),
      want: 'CA_REMOVED',
    },
    { name: 'expired', certificate: presented(direct), trust: bundle([ca]), day: 101, want: 'CERT_HAS_EXPIRED' },
    {
      name: 'before its time',
      certificate: presented(direct),
      trust: bundle([ca]),
      day: -11,
      want: 'CERT_NOT_YET_VALID',
    },
    {
      name: 'its intermediate expired',
      certificate: presented(chained, intermediate),
      trust: bundle([ca]),
      day: 31,
      want: 'CERT_HAS_EXPIRED',
    },
    { name: 'revoked', certificate: presented(direct), trust: bundle([ca], list(ca, direct)), want: 'CERT_REVOKED' },
    {
      name: 'another one revoked',
      certificate: presented(direct),
      trust: bundle([ca], list(ca, chained)),
      want: undefined,
    },
    {
      name: 'its serial revoked by another CA',
      certificate: presented(direct),
      trust: bundle([ca, otherCa], list(otherCa, direct)),
      want: undefined,
    },
    {
      name: 'revoked by its intermediate',
      certificate: presented(chained, intermediate),
      trust: bundle([ca], list(intermediate, chained)),
      want: 'CERT_REVOKED',
    },
    {
      name: 'its intermediate revoked',
      certificate: presented(chained, intermediate),
      trust: bundle([ca], list(ca, intermediate)),
      want: 'CERT_REVOKED',
    },
    {
      name: 'its intermediate revoked, and in the bundle',
      certificate: presented(chained),
      trust: bundle([intermediate, ca], list(ca, intermediate)),
      want: 'CERT_REVOKED',
    },
  ])('$name', ({ certificate, trust, day = 0, want }) => {
    expect(judgeCertificate(certificate, trust, now + day * DAY)).toBe(want)
  })

  test('a CA that was renewed with its key goes on vouching, and as long as the new certificate says', () => {
    const renewed = mintCa({ name: 'CA', key: ca.key, notBefore: at(-1), notAfter: at(50) })
    for (const certificate of [presented(direct), presented(direct, ca), presented(chained, intermediate, ca)]) {
      expect(judgeCertificate(certificate, bundle([renewed]), now)).toBeUndefined()
    }
    expect(judgeCertificate(presented(direct, ca), bundle([renewed]), now + 51 * DAY)).toBe('CERT_HAS_EXPIRED')
    expect(judgeCertificate(presented(direct, ca), bundle([ca, renewed]), now + 51 * DAY)).toBeUndefined()
  })
})

test('a forged namesake of the intermediate does not lead away from the list that revokes', () => {
  const forged = mintIntermediate(otherCa, { name: 'intermediate', ...life })
  const trust = bundle([ca, intermediate], list(intermediate, chained))
  expect(judgeCertificate(presented(chained, forged), trust, now)).toBe('CERT_REVOKED')
  expect(judgeCertificate(presented(chained, forged, intermediate), trust, now)).toBe('CERT_REVOKED')
})

test('an intermediate list signed by somebody of its name only is no list', () => {
  const forged = mintIntermediate(otherCa, { name: 'intermediate', ...life })
  expect(judgeCertificate(presented(chained, intermediate), bundle([ca], list(forged, chained)), now)).toBeUndefined()
})

test('an expired list refuses new connections and cuts no open ones', () => {
  const trust = bundle([ca], list(ca))
  const certificate = presented(direct)
  expect(judgeHandshake(certificate, trust, now)).toBeUndefined()
  expect(judgeHandshake(certificate, trust, now + 2 * DAY)).toBe('CRL_HAS_EXPIRED')
  expect(judgeCertificate(certificate, trust, now + 2 * DAY)).toBeUndefined()
})

test('a connection ends with the first certificate of its chain that ends', () => {
  expect(new Date(standsUntilMs(presented(direct)))).toEqual(at(100))
  expect(new Date(standsUntilMs(presented(chained, intermediate)))).toEqual(at(30))
  expect(new Date(standsUntilMs(presented(deep, lower, intermediate, ca)))).toEqual(at(5))
})

test('the issuers that vouch for a certificate, without what else was sent', () => {
  const issuers = verifiedIssuers(presented(deep, otherCa, intermediate, lower), bundle([ca]))
  expect(issuers).toEqual([lower.der, intermediate.der, ca.der])
  expect(verifiedIssuers(presented(deep), bundle([ca]))).toBeUndefined()
})

import { describe, expect, test } from 'vitest'
import type { PeerEntry, PeerMatch } from '../../src/config/config.ts'
import type { ClientCertificate } from '../../src/core/identity/caller.ts'
import { compilePeers, entryOf, matchPeer, presentedNames } from '../../src/core/trust/peer-match.ts'

const kong: ClientCertificate = {
  subject: 'O=Acme\\, Inc.,CN=kong',
  issuer: 'CN=test CA',
  serial: '01',
  fingerprint256: 'ab'.repeat(32),
  commonName: 'kong',
  uris: ['https://kong.example.org/', 'spiffe://example.org/ns/gateway/sa/kong'],
  dnsNames: ['Kong.Gateway.svc', 'kong.gateway.svc.cluster.local'],
  ips: [],
  notBeforeMs: 0,
  notAfterMs: 1,
  der: Buffer.alloc(0),
  chain: [],
}

function entry(name: string, match: PeerMatch): PeerEntry {
  const nothing = { users: [], orgs: [], scopes: [], roles: [], emails: [], forwardedFor: false }
  return { name, match, mayAssert: nothing }
}

describe('an entry names a certificate when every condition holds', () => {
  test.each<{ match: PeerMatch; want: string | undefined }>([
    { match: { uri: 'spiffe://example.org/ns/gateway/sa/kong' }, want: 'uri:spiffe://example.org/ns/gateway/sa/kong' },
    { match: { uri: 'spiffe://example.org/ns/*/sa/kong' }, want: 'uri:spiffe://example.org/ns/gateway/sa/kong' },
    { match: { uri: 'spiffe://example.org/**' }, want: 'uri:spiffe://example.org/ns/gateway/sa/kong' },
    { match: { uri: 'spiffe://example.org/*' }, want: undefined },
    { match: { uri: 'spiffe://example.org/ns/gateway/sa/kon' }, want: undefined },
    { match: { uri: 'SPIFFE://example.org/ns/gateway/sa/kong' }, want: undefined },
    { match: { dns: 'kong.gateway.svc' }, want: 'dns:kong.gateway.svc' },
    { match: { dns: 'KONG.*.svc' }, want: 'dns:kong.gateway.svc' },
    { match: { dns: '*.svc' }, want: undefined },
    { match: { dns: '**.local' }, want: 'dns:kong.gateway.svc.cluster.local' },
    { match: { cn: 'kong' }, want: 'cn:kong' },
    { match: { cn: 'k*' }, want: 'cn:kong' },
    { match: { cn: 'Kong' }, want: undefined },
    { match: { fingerprint256: 'ab'.repeat(32) }, want: `fingerprint256:${'ab'.repeat(32)}` },
    { match: { fingerprint256: Array(32).fill('AB').join(':') }, want: `fingerprint256:${'ab'.repeat(32)}` },
    { match: { fingerprint256: 'ac'.repeat(32) }, want: undefined },
    { match: { uri: '**/sa/kong', cn: 'kong' }, want: 'uri:spiffe://example.org/ns/gateway/sa/kong' },
    { match: { uri: '**/sa/kong', cn: 'envoy' }, want: undefined },
    { match: { uri: '**/sa/envoy', cn: 'kong' }, want: undefined },
    { match: {}, want: undefined },
  ])('$match', ({ match, want }) => {
    expect(matchPeer(compilePeers([entry('gateway', match)]), kong)?.matched).toBe(want)
  })
})

test('the first entry that matches counts', () => {
  const peers = compilePeers([
    entry('others', { cn: 'envoy' }),
    entry('gateways', { uri: 'spiffe://example.org/ns/gateway/**' }),
    entry('kong', { cn: 'kong' }),
  ])
  expect(matchPeer(peers, kong)).toEqual({
    name: 'gateways',
    matched: 'uri:spiffe://example.org/ns/gateway/sa/kong',
    certificate: kong,
  })
  expect(entryOf(peers, 'kong')?.match).toEqual({ cn: 'kong' })
  expect(entryOf(peers, 'nobody')).toBeUndefined()
})

test('a type of name is matched by its own kind of condition only', () => {
  const swapped: ClientCertificate = {
    ...kong,
    uris: [],
    dnsNames: ['spiffe://example.org/ns/gateway/sa/kong'],
    commonName: 'kong.gateway.svc',
  }
  const peers = compilePeers([
    entry('by uri', { uri: 'spiffe://example.org/**' }),
    entry('by dns', { dns: 'kong.gateway.svc' }),
  ])
  expect(matchPeer(peers, swapped)).toBeUndefined()
})

test('no entry, no peer', () => {
  expect(matchPeer(compilePeers([]), kong)).toBeUndefined()
  expect(presentedNames(kong)).toBe(
    'uri:https://kong.example.org/ uri:spiffe://example.org/ns/gateway/sa/kong dns:Kong.Gateway.svc ' +
      'dns:kong.gateway.svc.cluster.local subject:O=Acme\\, Inc.,CN=kong',
  )
})

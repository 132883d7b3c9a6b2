import type { IdentityConfig, JwtConfig, MayAssert, PeerEntry, UpstreamConfig } from '../../src/config/config.ts'
import { type ArrivalHeaders, readArrivalHeaders } from '../../src/core/identity/arrival-headers.ts'
import type { Caller, ClientCertificate, Peer } from '../../src/core/identity/caller.ts'
import { type CompiledIdentity, compileIdentity, identify } from '../../src/core/identity/identify.ts'
import { buildUpstreamHeaders, type UpstreamFacts } from '../../src/core/identity/upstream-headers.ts'
import type { Refusal } from '../../src/core/refusal.ts'
import type { Result } from '../../src/core/result.ts'

export const FORWARD = {
  user: 'X-User-ID',
  email: 'X-User-Email',
  org: 'X-Org-ID',
  scopes: 'X-User-Scopes',
  roles: 'X-User-Roles',
}

export const ANYTHING: MayAssert = {
  users: ['*'],
  orgs: ['*'],
  scopes: ['*'],
  roles: ['*'],
  emails: ['*'],
  forwardedFor: false,
}

const NOTHING: MayAssert = { users: [], orgs: [], scopes: [], roles: [], emails: [], forwardedFor: false }

export function identityConfig(changes: Partial<IdentityConfig> = {}): IdentityConfig {
  return {
    source: 'headers',
    required: true,
    forward: FORWARD,
    clientCert: ['xfcc'],
    pass: [],
    jwt: undefined,
    resource: undefined,
    ...changes,
  }
}

export function jwtConfig(changes: Partial<JwtConfig> = {}): JwtConfig {
  return {
    issuer: 'https://login.example.org/tenant/v2.0',
    audience: ['api://mcp'],
    jwks: '/nowhere/jwks.json',
    algorithms: ['RS256', 'ES256', 'PS256', 'EdDSA'],
    requiredScopes: [],
    claims: { user: ['oid', 'sub'], email: ['email'], org: ['tid'], scopes: ['scp', 'scope'], roles: ['roles'] },
    certificateBound: false,
    clockSkewMs: 30_000,
    ...changes,
  }
}

export function upstreamConfig(changes: Partial<UpstreamConfig> = {}): UpstreamConfig {
  return {
    target: { kind: 'tcp', host: '127.0.0.1', port: 3000 },
    url: 'http://127.0.0.1:3000',
    unsafeRemote: false,
    paths: ['/mcp'],
    host: 'rewrite',
    timeouts: { connectMs: 2000, firstByteMs: 300_000, streamIdleMs: 900_000, tools: [] },
    breaker: { errorPercent: 50, minimum: 20, windowMs: 10_000, openForMs: 30_000 },
    ...changes,
  }
}

export function entry(mayAssert: Partial<MayAssert> = ANYTHING, name = 'gateway'): PeerEntry {
  return { name, match: { uri: 'spiffe://example.org/ns/*/sa/*' }, mayAssert: { ...NOTHING, ...mayAssert } }
}

export function certificateWith(changes: Partial<ClientCertificate> = {}): ClientCertificate {
  return {
    subject: 'CN=kong',
    issuer: 'CN=test ca',
    serial: '01',
    fingerprint256: 'ab'.repeat(32),
    commonName: 'kong',
    uris: ['spiffe://example.org/ns/gateway/sa/kong'],
    dnsNames: [],
    ips: [],
    notBeforeMs: 0,
    notAfterMs: 4_102_444_800_000,
    der: Buffer.from('leaf'),
    chain: [],
    ...changes,
  }
}

export function peerWith(changes: Partial<Peer> = {}): Peer {
  return {
    name: 'gateway',
    matched: 'uri:spiffe://example.org/ns/gateway/sa/kong',
    certificate: certificateWith(),
    ...changes,
  }
}

export const FACTS: UpstreamFacts = { requestId: 'req-1', remoteAddress: '10.1.2.3', contentLength: 42 }

export interface SentOn {
  readonly lines: string[]
  readonly caller: Caller
}

/** The whole way of the header lines: read, identified, written anew. */
export function sendOn(
  raw: readonly string[],
  changes: { identity?: CompiledIdentity; peer?: Peer; facts?: UpstreamFacts } = {},
): Result<SentOn, Refusal> {
  const identity =
    changes.identity ?? compileIdentity({ identity: identityConfig(), upstream: upstreamConfig(), peers: [entry()] })
  const headers = readArrivalHeaders(raw, identity.rules)
  if (!headers.ok) return headers
  const caller = identify(identity, headers.value, changes.peer ?? peerWith(), undefined)
  if (caller instanceof Promise) throw new Error('nothing here waits')
  if (!caller.ok) return caller
  const lines = buildUpstreamHeaders(identity, headers.value, caller.value, changes.facts ?? FACTS)
  return { ok: true, value: { lines, caller: caller.value } }
}

export function read(raw: readonly string[]): Result<ArrivalHeaders, Refusal> {
  const identity = compileIdentity({ identity: identityConfig(), upstream: upstreamConfig(), peers: [entry()] })
  return readArrivalHeaders(raw, identity.rules)
}

/** All values of the lines whose name is exactly this, whatever its case. */
export function valuesOf(lines: readonly string[], name: string): string[] {
  const values: string[] = []
  for (let at = 0; at < lines.length; at += 2) {
    if (lines[at]?.toLowerCase() === name.toLowerCase()) values.push(lines[at + 1] as string)
  }
  return values
}

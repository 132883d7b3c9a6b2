/**
 * What identity costs for each call: `node bench/micro/identity.ts`. Prints CPU microseconds for reading, identifying
 * and writing the header lines, and for a token that is remembered.
 */
import { randomBytes } from 'node:crypto'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { readArrivalHeaders } from '../../src/core/identity/arrival-headers.ts'
import { compileIdentity, identify } from '../../src/core/identity/identify.ts'
import { buildUpstreamHeaders } from '../../src/core/identity/upstream-headers.ts'
import { parseKeySet } from '../../src/edge/jwks.ts'
import { digestOf, Ownership, ownerOf } from '../../src/edge/ownership.ts'
import { JwtVerifier } from '../../src/edge/tokens.ts'
import { entry, FACTS, identityConfig, jwtConfig, peerWith, upstreamConfig } from '../../test/support/identity.ts'

/** Header lines as Node hands them over: strings made from bytes, which no two requests share. */
function fresh(lines: readonly string[]): string[] {
  return lines.map(line => Buffer.from(line, 'latin1').toString('latin1'))
}

const BATCH = 4000
const ROUNDS = 25
const identity = compileIdentity({ identity: identityConfig(), upstream: upstreamConfig(), peers: [entry()] })
const peer = peerWith()

const common = [
  ['Host', 'mcp.example.org'],
  ['User-Agent', 'kong/3.9.0'],
  ['Content-Type', 'application/json'],
  ['Accept', 'application/json, text/event-stream'],
  ['Content-Length', '196'],
  ['Connection', 'keep-alive'],
  ['Mcp-Protocol-Version', '2026-07-28'],
  ['Mcp-Method', 'tools/call'],
  ['Mcp-Name', 'search_docs'],
  ['X-Forwarded-For', '203.0.113.7'],
  ['X-Forwarded-Proto', 'https'],
  ['X-Request-ID', '4bf92f3577b34da6a3ce929d0e0e4736'],
  ['traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
].flat()
const forwarded = [
  ['X-User-ID', '6f7d9a31-alice'],
  ['X-User-Email', 'alice@acme.example'],
  ['X-Org-ID', 'acme'],
  ['X-User-Scopes', 'mcp.read mcp.write'],
  ['X-User-Roles', 'developer'],
].flat()

const { publicKey, privateKey } = await generateKeyPair('RS256')
const set = parseKeySet(JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'RS256' }] }))
if (!set.ok) throw new Error(set.error)
const verifier = new JwtVerifier(jwtConfig(), {
  report: { loaded: () => {}, kept: () => {} },
  keys: { get: () => set.value, getNewer: () => undefined, close: () => {} },
})
const token = await new SignJWT({
  oid: '6f7d9a31-alice',
  tid: 'acme',
  scp: 'mcp.read mcp.write',
  email: 'alice@acme.example',
  pad: randomBytes(400).toString('base64'),
})
  .setProtectedHeader({ alg: 'RS256', kid: 'k1', typ: 'JWT' })
  .setIssuer('https://login.example.org/tenant/v2.0')
  .setAudience('api://mcp')
  .setIssuedAt()
  .setExpirationTime('1h')
  .sign(privateKey)
const first = await verifier.verify(token, '')
if (!first.ok) throw new Error(JSON.stringify(first.error))
const withTokens = compileIdentity({
  identity: identityConfig({ source: 'jwt', jwt: jwtConfig() }),
  upstream: upstreamConfig(),
  peers: [entry()],
})

const owners = new Ownership()
const session = 'b1f6c1c8-9a3b-4f47-a2cd-2f3bb0b0a7c5'
owners.claim('session', session, ownerOf({ peer, user: undefined }), 0)

/** Median over rounds of the CPU time of one call, µs; input is made outside of the clock. */
function measure<T>(prepare: () => T, run: (input: T) => void): number {
  const rounds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const inputs = Array.from({ length: BATCH }, prepare)
    const before = process.cpuUsage()
    for (const input of inputs) run(input)
    const { user, system } = process.cpuUsage(before)
    rounds.push((user + system) / BATCH)
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] as number
}

function wholeWay(lines: readonly string[], on = identity): void {
  const headers = readArrivalHeaders(lines, on.rules)
  if (!headers.ok) throw new Error(headers.error.reason)
  const caller = identify(on, headers.value, peer, verifier)
  if (caller instanceof Promise) throw new Error('this must not wait')
  if (!caller.ok) throw new Error(caller.error.reason)
  const out = buildUpstreamHeaders(on, headers.value, caller.value, FACTS)
  if (out.length === 0) throw new Error('nothing is sent')
}

const anonymous = compileIdentity({
  identity: identityConfig({ required: false, clientCert: [] }),
  upstream: upstreamConfig(),
  peers: [entry()],
})
const tokenLines = [...common, 'Authorization', `Bearer ${token}`]
const bare = measure(
  () => fresh(common),
  lines => wholeWay(lines, anonymous),
)
const full = measure(
  () => fresh([...common, ...forwarded]),
  lines => wholeWay(lines),
)
const jwt = measure(
  () => fresh(tokenLines),
  lines => wholeWay(lines, withTokens),
)
const verifyOnly = measure(
  () => fresh([token]),
  ([text]) => {
    if (verifier.verify(text as string, '') instanceof Promise) throw new Error('this must not wait')
  },
)
const owned = measure(
  () => fresh([session]),
  ([id]) => {
    if (!owners.owns('session', id as string, ownerOf({ peer, user: undefined }), 1)) throw new Error('not owned')
  },
)
const digest = measure(
  () => fresh([session]),
  ([id]) => void digestOf(id as string),
)

const row = (what: string, micros: number): void => console.log(`${micros.toFixed(2).padStart(7)} µs  ${what}`)
row('header lines read and written anew, nobody named (the base)', bare)
row('the same with a forwarded user', full)
row('  identity from headers adds                       (budget 3)', full - bare)
row(`the same with a remembered token of ${token.length} characters`, jwt)
row('  a remembered token adds                          (budget 6)', jwt - bare)
row('  of that the look-up of the token', verifyOnly)
row('whether a session is the caller’s own', owned)
row('digest of a session for the log', digest)

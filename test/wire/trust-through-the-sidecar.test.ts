import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect } from 'node:tls'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Identity, mintCa, mintCrl, mintIntermediate, mintLeaf, mintSelfSigned } from '../../src/edge/pki.ts'
import type { KeyType } from '../../src/edge/x509-keys.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import type { TestUpstream } from '../support/mcp-upstreams.ts'
import { GATEWAY_URI, temporaryFolder } from '../support/pki.ts'
import { toolCall, USER_HEADERS } from '../support/request.ts'
import { startAnsweringServer } from '../support/rotation.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ca = mintCa({ name: 'test CA' })
const otherCa = mintCa({ name: 'another CA' })
const intermediate = mintIntermediate(ca, { name: 'intermediate CA' })
const serverNames = { cn: 'mcp-server', dns: ['localhost'] }
const server = mintLeaf(ca, serverNames)
const gatewayNames = { cn: 'kong', uris: [GATEWAY_URI], usages: ['clientAuth'] as const }
const gateway = mintLeaf(ca, gatewayNames)
const gatewayOfOther = mintLeaf(otherCa, gatewayNames)
const gatewayBelow = mintLeaf(intermediate, gatewayNames)

let upstream: TestUpstream
beforeAll(async () => {
  upstream = await startAnsweringServer()
  return () => upstream.stop()
})

interface Texts {
  readonly leaf?: Identity
  readonly clientCa?: string
  readonly crl?: string
}

interface Whole {
  readonly running: RunningSidecar
  /** Replaces the files as the kubelet does, without waiting for what comes of it. */
  publish(texts: Texts): Promise<void>
  readonly generation: () => number
}

async function whole(texts: Texts, tls: Record<string, unknown> = {}): Promise<Whole> {
  const volume = new KubeletVolume(join(temporaryFolder(), 'tls'))
  const publish = ({ leaf = server, clientCa = ca.cert, crl }: Texts) =>
    volume.publish({
      'tls.crt': leaf.chain,
      'tls.key': leaf.key,
      'ca.crt': clientCa,
      ...(crl === undefined ? {} : { 'ca.crl': crl }),
    })
  await publish(texts)
  const running = await startTestSidecar(upstream.url, config => {
    config['tls'] = {
      cert: volume.path('tls.crt'),
      key: volume.path('tls.key'),
      clientCa: volume.path('ca.crt'),
      ...(texts.crl === undefined ? {} : { crl: volume.path('ca.crl') }),
      ...tls,
    }
  })
  cleanups.push(() => running.stop())
  const generation = () =>
    Math.max(1, ...running.lines.filter(({ event }) => event === 'trust.reloaded').map(line => line['sidecar'].trust))
  return { running, publish, generation }
}

interface Call {
  /** Status of the answer, or undefined when the connection ended without a byte of HTTP. */
  readonly status: number | undefined
  readonly isReused: boolean
  readonly sessions: readonly Buffer[]
  readonly protocol: string | null
}

/** One call on a connection of its own; `session` is what an earlier connection was given to come back with. */
function call(
  { running }: Whole,
  identity: Pick<Identity, 'chain' | 'key'>,
  more: ConnectionOptions = {},
): Promise<Call> {
  return new Promise(resolve => {
    const sessions: Buffer[] = []
    let answer = ''
    let isReused = false
    let protocol: string | null = null
    const socket = connect({
      ...{ port: running.port, host: '127.0.0.1', servername: 'localhost' },
      // No more than the root, or OpenSSL would send issuers along that the client was not given.
      ...{ ca: ca.cert, cert: identity.chain, key: identity.key },
      ...more,
    })
    socket.on('session', session => sessions.push(session))
    socket.on('secureConnect', () => {
      isReused = socket.isSessionReused()
      protocol = socket.getProtocol()
      const session = socket.getSession()
      if (session !== undefined) sessions.push(session)
      const body = toolCall('search_docs')
      const user = Object.entries(USER_HEADERS).map(([name, value]) => `${name}: ${value}\r\n`)
      socket.write(
        `POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n` +
          `Accept: application/json, text/event-stream\r\n${user.join('')}Content-Length: ${body.length}\r\n\r\n${body}`,
      )
    })
    socket.on('data', chunk => (answer += chunk.toString()))
    socket.on('error', () => {})
    socket.on('close', () => {
      const status = /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]
      resolve({ status: status === undefined ? undefined : Number(status), isReused, sessions, protocol })
    })
  })
}

const refused = ({ running }: Whole): AuditLine[] => running.lines.filter(({ event }) => event === 'connection.refused')

/** The call ends without a byte of HTTP, and the line says why. */
async function expectRefused(of: Whole, identity: Pick<Identity, 'chain' | 'key'>, reason: string): Promise<void> {
  expect(await call(of, identity)).toMatchObject({ status: undefined })
  await eventually(() => refused(of).some(line => line['decision'].reason === reason))
}

describe.each(['TLSv1.3', 'TLSv1.2'] as const)('no session is resumed on %s', version => {
  const more: ConnectionOptions = { maxVersion: version, ca: [ca.cert, otherCa.cert] }
  const tls = { minVersion: 'TLSv1.2' }

  test('before a rotation', async () => {
    const sidecar = await whole({}, tls)
    const first = await call(sidecar, gateway, more)
    expect(first).toMatchObject({ status: 200, isReused: false, protocol: version })
    for (const session of first.sessions) {
      expect(await call(sidecar, gateway, { ...more, session })).toMatchObject({ status: 200, isReused: false })
    }
  })

  test('after a rotation of the certificate', async () => {
    const sidecar = await whole({}, tls)
    const { sessions } = await call(sidecar, gateway, more)
    await sidecar.publish({ leaf: mintLeaf(ca, serverNames) })
    await eventually(() => sidecar.generation() === 2)
    for (const session of sessions) {
      expect(await call(sidecar, gateway, { ...more, session })).toMatchObject({ status: 200, isReused: false })
    }
  })

  test('after the CA has gone: the session opens nothing', async () => {
    const sidecar = await whole({}, tls)
    const { sessions } = await call(sidecar, gateway, more)
    await sidecar.publish({ leaf: mintLeaf(otherCa, serverNames), clientCa: otherCa.cert })
    await eventually(() => sidecar.generation() === 2)
    for (const session of sessions) {
      expect(await call(sidecar, gateway, { ...more, session })).toMatchObject({ status: undefined, isReused: false })
    }
  })

  test('after the certificate has been revoked: the session opens nothing', async () => {
    const sidecar = await whole({ crl: mintCrl(ca, { revoked: [] }) }, tls)
    const { sessions } = await call(sidecar, gateway, more)
    await sidecar.publish({ crl: mintCrl(ca, { revoked: [gateway.serial], number: 2 }) })
    await eventually(() => sidecar.generation() === 2)
    for (const session of sessions) {
      expect(await call(sidecar, gateway, { ...more, session })).toMatchObject({ status: undefined, isReused: false })
    }
  })
})

const KEY_TYPES: KeyType[] = ['rsa-2048', 'ec-p256', 'ec-p384', 'ed25519']

describe('kinds of keys', () => {
  test.each(KEY_TYPES)(
    'a server with a key of kind %s serves clients of every kind, and is replaced by any other',
    async keyType => {
      const sidecar = await whole({ leaf: mintLeaf(ca, { ...serverNames, keyType }) }, { minVersion: 'TLSv1.2' })
      for (const clientKeyType of KEY_TYPES) {
        const client = mintLeaf(ca, { ...gatewayNames, keyType: clientKeyType })
        for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
          expect(await call(sidecar, client, { maxVersion })).toMatchObject({ status: 200, protocol: maxVersion })
        }
      }
      const other = KEY_TYPES[(KEY_TYPES.indexOf(keyType) + 1) % KEY_TYPES.length] ?? 'ec-p256'
      await sidecar.publish({ leaf: mintLeaf(ca, { ...serverNames, keyType: other }) })
      await eventually(() => sidecar.generation() === 2)
      expect(await call(sidecar, gateway)).toMatchObject({ status: 200 })
    },
  )
})

describe('who vouches', () => {
  test('an intermediate may be the end of trust, before and after a rotation', async () => {
    const sidecar = await whole({ clientCa: intermediate.cert })
    for (const generation of [1, 2]) {
      expect(await call(sidecar, gatewayBelow)).toMatchObject({ status: 200 })
      await expectRefused(sidecar, gateway, 'SELF_SIGNED_CERT_IN_CHAIN')
      if (generation === 1) await sidecar.publish({ leaf: mintLeaf(ca, serverNames), clientCa: intermediate.cert })
      await eventually(() => sidecar.generation() === 2)
    }
  })

  test('two CAs with a list each in one file: each list counts for its own', async () => {
    const lists = (...revoked: string[]) => mintCrl(ca, { revoked }) + mintCrl(otherCa, { revoked: [gateway.serial] })
    const sidecar = await whole({ clientCa: ca.cert + otherCa.cert, crl: lists() })
    expect(await call(sidecar, gateway)).toMatchObject({ status: 200 })
    expect(await call(sidecar, gatewayOfOther)).toMatchObject({ status: 200 })
    await sidecar.publish({ clientCa: ca.cert + otherCa.cert, crl: lists(gateway.serial) })
    await eventually(() => sidecar.generation() === 2)
    await expectRefused(sidecar, gateway, 'CERT_REVOKED')
    expect(await call(sidecar, gatewayOfOther)).toMatchObject({ status: 200 })
  })

  test('a CA that comes without a list changes nothing, and it is said', async () => {
    const crl = mintCrl(ca, { revoked: [] })
    const sidecar = await whole({ crl })
    await sidecar.publish({ clientCa: ca.cert + otherCa.cert, crl })
    const line = await eventually(() => sidecar.running.lines.find(({ event }) => event === 'trust.kept'))
    expect(line).toMatchObject({ error: expect.stringContaining('another CA'), sidecar: { trust: 1 } })
    expect(await call(sidecar, gateway)).toMatchObject({ status: 200 })
    expect(await call(sidecar, gatewayOfOther)).toMatchObject({ status: undefined })
  })

  test('with crlCoverage: partial it is served, and the lists that there are still count', async () => {
    const crl = mintCrl(ca, { revoked: [gateway.serial] })
    const sidecar = await whole({ clientCa: ca.cert + otherCa.cert, crl }, { crlCoverage: 'partial' })
    expect(await call(sidecar, gatewayOfOther)).toMatchObject({ status: 200 })
    await expectRefused(sidecar, gateway, 'CERT_REVOKED')
  })

  test('a self-signed leaf with a good certificate of somebody else behind it is nobody', async () => {
    const sidecar = await whole({})
    const front = mintSelfSigned(gatewayNames)
    await expectRefused(sidecar, { chain: front.cert + gateway.cert, key: front.key }, 'DEPTH_ZERO_SELF_SIGNED_CERT')
  })
})

/** Names that a careless reader of a printed certificate takes for the gateway's. */
describe('names that look like the gateway\u2019s match no rule', () => {
  test.each([
    { name: 'a URI with a comma and a second URI in it', san: { uris: [`spiffe://td/x, URI:${GATEWAY_URI}`] } },
    { name: 'the same, escaped as Node prints it', san: { uris: [`spiffe://td/x\\u002c URI:${GATEWAY_URI}`] } },
    { name: 'a quotation mark that ends the printed name', san: { uris: [`spiffe://td/x", URI:"${GATEWAY_URI}`] } },
    { name: 'a line feed', san: { uris: [`spiffe://td/x\nURI:${GATEWAY_URI}`] } },
    { name: 'a NUL behind the name', san: { uris: [`${GATEWAY_URI}\0.evil.example`] } },
    { name: 'the URI as a DNS name', san: { dns: [GATEWAY_URI] } },
    { name: 'a DNS name with a URI in it', san: { dns: [`evil.example, URI:${GATEWAY_URI}`] } },
    { name: 'the name as the beginning of another', san: { uris: [`${GATEWAY_URI}-evil`] } },
    { name: 'the name as the end of another', san: { uris: [`https://evil.example/${GATEWAY_URI}`] } },
    { name: 'another case', san: { uris: [GATEWAY_URI.toUpperCase()] } },
    { name: 'dot segments', san: { uris: ['spiffe://example.org/ns/gateway/sa/x/../kong'] } },
    {
      name: 'two SPIFFE IDs, one of them the gateway\u2019s',
      san: { uris: ['spiffe://example.org/ns/x/sa/x', GATEWAY_URI] },
    },
    { name: 'the name in the subject', san: { cn: GATEWAY_URI, dns: ['evil.example'] } },
    { name: 'the SAN extension printed in the subject', san: { cn: `x, URI:${GATEWAY_URI}`, dns: ['evil.example'] } },
  ])('$name', async ({ san }) => {
    const sidecar = await whole({})
    const before = upstream.seen.length
    const { status } = await call(sidecar, mintLeaf(ca, { usages: ['clientAuth'], ...san }))
    // Names that can be read in two ways end the connection, names of somebody else get 403.
    expect([undefined, 403]).toContain(status)
    const reason = status === 403 ? 'peer_not_listed' : 'PEER_IDENTITY_AMBIGUOUS'
    await eventually(() => sidecar.running.lines.some(line => line['decision']?.reason === reason))
    expect(upstream.seen.length).toBe(before)
  })

  test('and the gateway itself does', async () => {
    expect(await call(await whole({}), gateway)).toMatchObject({ status: 200 })
  })
})

test('five hundred bad handshakes are a handful of lines that count them, and the gateway is served meanwhile', async () => {
  // Handshakes are limited by address; the flood has one of its own, as it has in a cluster.
  const from = { localAddress: '127.0.0.2' }
  const sidecar = await whole({})
  const stranger = mintLeaf(mintCa({ name: 'some CA' }), gatewayNames)
  const garbage = () =>
    new Promise<void>(resolve => {
      const socket = connectTcp({ port: sidecar.running.port, host: '127.0.0.1', ...from }, () =>
        socket.end('GET / HTTP/1.1\r\n\r\n'),
      )
      socket.on('error', () => {})
      socket.on('data', () => {})
      socket.on('close', () => resolve())
    })
  for (let i = 0; i < 500; i += 20) {
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        n % 2 === 0 ? garbage() : call(sidecar, stranger, from as ConnectionOptions),
      ),
    )
    if (i % 100 === 0) expect(await call(sidecar, gateway)).toMatchObject({ status: 200 })
  }
  await sidecar.running.stop()
  cleanups.pop()
  const lines = refused(sidecar)
  const counted = lines.reduce((sum, line) => sum + (line['count'] ?? 1), 0)
  expect(counted).toBe(500)
  // Two or three reasons, for each one line at once and one with a count for every ten seconds that it went on.
  expect(lines.length).toBeLessThan(25)
  expect(lines.find(line => line['count'] !== undefined)).toMatchObject({
    firstAt: expect.any(String),
    lastAt: expect.any(String),
  })
})

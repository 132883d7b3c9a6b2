import { describe, expect, test } from 'vitest'
import { secureContextOptions } from '../../src/core/trust/tls-options.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { bareServer, bundleOf, visit } from '../support/tls-peers.ts'
import { tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })
const nextCa = mintCa({ name: 'next CA' })
const server = mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
const renewed = mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
const gateway = mintLeaf(ca, { cn: 'kong', uris: ['spiffe://td/kong'] })

/** A resumed session is not checked against the CAs of now (Go CVE-2025-68121, nginx CVE-2025-23419). */
describe.each(['TLSv1.3', 'TLSv1.2'] as const)('%s', version => {
  const tls = tlsConfig({}, { minVersion: 'TLSv1.2' })
  const bundle = bundleOf({ cert: server.chain, key: server.key, clientCa: ca.cert }, tls)
  const client = { ca: [ca.cert, nextCa.cert], cert: gateway.chain, key: gateway.key, maxVersion: version }

  test('no session is resumed before a rotation', async () => {
    const { port } = await bareServer(bundle, tls)
    const first = await visit(port, client)
    expect(first).toMatchObject({ answer: 'accepted', protocol: version, isReused: false })
    for (const session of first.sessions) {
      expect(await visit(port, { ...client, session })).toMatchObject({ answer: 'accepted', isReused: false })
    }
  })

  test('no session is resumed after a rotation of the leaf', async () => {
    const running = await bareServer(bundle, tls)
    const first = await visit(running.port, client)
    running.use(bundleOf({ cert: renewed.chain, key: renewed.key, clientCa: ca.cert }, tls))
    const afterwards = await visit(running.port, client)
    for (const session of [...first.sessions, ...afterwards.sessions]) {
      expect(await visit(running.port, { ...client, session })).toMatchObject({ answer: 'accepted', isReused: false })
    }
  })

  test('a session of a CA that has been removed lets nobody in', async () => {
    const running = await bareServer(bundle, tls)
    const first = await visit(running.port, client)
    running.use(bundleOf({ cert: server.chain, key: server.key, clientCa: nextCa.cert }, tls))
    expect(await visit(running.port, client)).toMatchObject({ answer: 'SELF_SIGNED_CERT_IN_CHAIN' })
    for (const session of first.sessions) {
      const again = await visit(running.port, { ...client, session })
      expect(again).toMatchObject({ answer: 'SELF_SIGNED_CERT_IN_CHAIN', isReused: false })
    }
  })

  test('the same context without its options would resume: what the tests above see is not chance', async () => {
    const { port, server: careless } = await bareServer(bundle, tls)
    const { secureOptions: _, ...options } = secureContextOptions(bundle, tls)
    careless.setSecureContext(options)
    const { sessions } = await visit(port, client)
    const again = await Promise.all(sessions.map(session => visit(port, { ...client, session })))
    expect(again.some(({ isReused }) => isReused)).toBe(true)
  })
})

test('no TLS 1.2 ticket is given out', async () => {
  const tls = tlsConfig({}, { minVersion: 'TLSv1.2' })
  const { port } = await bareServer(bundleOf({ cert: server.chain, key: server.key, clientCa: ca.cert }, tls), tls)
  const client = { ca: ca.cert, cert: gateway.chain, key: gateway.key, maxVersion: 'TLSv1.2' } as const
  expect(await visit(port, client)).toMatchObject({ answer: 'accepted', ticket: undefined })
})

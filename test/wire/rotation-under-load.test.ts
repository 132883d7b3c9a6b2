import { afterEach, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type GatewayLoad, startGatewayLoad } from '../support/gateway-load.ts'
import { temporaryFolder } from '../support/pki.ts'
import { RotatingTrust, startAnsweringServer } from '../support/rotation.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const CONNECTIONS = 16

async function underLoad(
  options: { protocol?: 'HTTP/2' } = {},
): Promise<{ trust: RotatingTrust; running: RunningSidecar; load: GatewayLoad }> {
  const trust = new RotatingTrust(temporaryFolder())
  await trust.publish()
  const upstream = await startAnsweringServer()
  cleanups.push(() => upstream.stop())
  const running = await startTestSidecar(upstream.url, config => {
    config['tls'] = trust.files
  })
  cleanups.push(() => running.stop())
  const load = startGatewayLoad({
    port: running.port,
    credential: trust.credential,
    connections: CONNECTIONS,
    pauseMs: 40,
    ...(options.protocol === undefined ? {} : { protocol: options.protocol }),
  })
  cleanups.push(() => load.stop())
  await eventually(() => load.counts.answered >= CONNECTIONS)
  return { trust, running, load }
}

/** Connections of the load that have been cut. */
const cut = (running: RunningSidecar) =>
  running.lines.filter(({ event, peer }) => event === 'connection.closed' && peer?.subject === 'CN=kong')

test('thirty rotations of leaf, key and CA fail no request and cut nobody', { timeout: 120_000 }, async () => {
  const { trust, running, load } = await underLoad()
  for (let rotation = 1; rotation <= 30; rotation++) {
    const answeredBefore = load.counts.answered
    await trust.rotate(running.port, load)
    expect(load.failures).toEqual([])
    expect(load.counts.answered).toBeGreaterThan(answeredBefore)
  }
  // Each of them opened a new connection once in each rotation, by its own wish, and never else.
  expect(load.counts).toMatchObject({ connected: CONNECTIONS * 31, repeated: 0 })
  expect(cut(running)).toEqual([])
  // Three generations each: the CA is added, the leaf replaced, the CA removed.
  expect(running.lines.filter(({ event }) => event === 'trust.reloaded').at(-1)).toMatchObject({
    sidecar: { trust: 1 + 30 * 3 },
  })
  expect(running.lines.filter(({ event }) => event === 'trust.kept')).toEqual([])
})

test('gateways that notice nothing are told to go when their CA has gone, come back renewed, and lose no request', async () => {
  const { trust, running, load } = await underLoad({ protocol: 'HTTP/2' })
  for (let rotation = 1; rotation <= 3; rotation++) {
    await trust.rotate(running.port, load, { renew: false })
    await eventually(() => load.counts.connected === CONNECTIONS * (rotation + 1))
    expect(load.failures).toEqual([])
    await eventually(() => cut(running).length === CONNECTIONS * rotation)
    for (const line of cut(running)) expect(line).toMatchObject({ decision: { reason: 'CA_REMOVED' } })
  }
  const { answered } = load.counts
  await eventually(() => load.counts.answered > answered + CONNECTIONS)
  expect(load.failures).toEqual([])
})

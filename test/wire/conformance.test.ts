import { afterAll, beforeAll, expect, test } from 'vitest'
import { compareRuns, REQUIREMENT_SETS, runSuite } from '../support/conformance.ts'
import { startEverythingServer } from '../support/everything-server.ts'
import type { TestUpstream } from '../support/mcp-upstreams.ts'
import { testPki } from '../support/pki.ts'
import { type PlainBridge, startPlainBridge } from '../support/plain-bridge.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

/** The official suite cannot present a certificate: it talks to a bridge, and the bridge over mTLS to the sidecar. */

let upstream: TestUpstream
let bridge: PlainBridge
let running: RunningSidecar

beforeAll(async () => {
  const pki = await testPki()
  upstream = await startEverythingServer()
  bridge = await startPlainBridge({ ca: pki.ca.cert, identity: pki.gateway })
  running = await startTestSidecar(upstream.url, config => {
    config['listen'] = { address: '127.0.0.1:0', origins: [`http://localhost:${bridge.port}`] }
    config['policy'] = {
      rules: [
        { id: 'methods', effect: 'allow', methods: ['*'] },
        { id: 'objects', effect: 'allow', tools: ['*'], prompts: ['*'], resources: ['**'] },
      ],
    }
  })
  bridge.connectTo(running.port)
})
afterAll(async () => {
  await bridge?.stop()
  await running?.stop()
  await upstream?.stop()
})

// The suite waits half a second for some events, which a busy machine may miss once.
const PATIENT = { timeout: 120_000, retry: 1 }

test.each(REQUIREMENT_SETS)('conformance to %s is the same through the sidecar as without it', PATIENT, async set => {
  const [direct, through] = await Promise.all([
    runSuite(`http://localhost:${upstream.port}/mcp`, set),
    runSuite(`http://localhost:${bridge.port}/mcp`, set),
  ])
  expect(direct.conforms).toBe(true)
  expect(compareRuns(direct, through)).toEqual([])
  expect(through.conforms).toBe(true)
  expect(through.passed).toBeGreaterThanOrEqual(84)
})

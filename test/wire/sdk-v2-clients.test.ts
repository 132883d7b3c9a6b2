import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectModern } from '../support/mcp-clients.ts'
import { startModernServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

let upstream: TestUpstream
let running: RunningSidecar

beforeAll(async () => {
  upstream = await startModernServer()
  running = await startTestSidecar(upstream.url)
})
afterAll(async () => {
  await running?.stop()
  await upstream?.stop()
})

describe('the official SDK v2 client over mTLS', () => {
  test.each([
    { era: 'modern', mode: { pin: '2026-07-28' as const } },
    { era: 'legacy', mode: 'legacy' as const },
    { era: 'negotiated', mode: 'auto' as const },
  ])('calls a tool that policy allows ($era)', async ({ mode }) => {
    const { client, close } = await connectModern(
      { port: running.port, ca: running.pki.ca.cert, identity: running.pki.gateway },
      mode,
    )
    const result = await client.callTool({ name: 'search_docs', arguments: { query: 'tea' } })
    expect(result.content).toEqual([{ type: 'text', text: 'found: tea' }])
    await close()
  })

  test('is refused a tool that no rule allows, with an error that it can parse', async () => {
    const { client, close } = await connectModern({
      port: running.port,
      ca: running.pki.ca.cert,
      identity: running.pki.gateway,
    })
    await expect(client.callTool({ name: 'delete_row', arguments: {} })).rejects.toMatchObject({ code: 403 })
    await close()
    expect(upstream.seen.length).toBeGreaterThan(0)
    expect(running.lines.at(-1)).toMatchObject({
      event: 'mcp.refused',
      mcp: { tool: 'delete_row' },
      decision: { rule: 'default', reason: 'tool_not_permitted' },
    })
  })
})

import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { send } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

let server: TestUpstream
let running: RunningSidecar

beforeAll(async () => {
  server = await listen((request, response) => {
    if (request.method === 'DELETE') {
      response.writeHead(202).end()
      return
    }
    response
      .writeHead(200, { 'Content-Type': 'application/json', 'Mcp-Session-Id': 'session-1' })
      .end(JSON.stringify({ jsonrpc: '2.0', id: 1, result: { protocolVersion: '2025-06-18', capabilities: {} } }))
  })
  running = await startTestSidecar(server.url)
})
afterAll(async () => {
  await running.stop()
  await server.stop()
})

test('the end of a session that a server accepts with 202 is over with its answer, and has its line', async () => {
  const params = { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'x', version: '1' } }
  await send(running, { body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }) })
  const headers = { 'Mcp-Session-Id': 'session-1', 'MCP-Protocol-Version': '2025-06-18' }
  expect((await send(running, { method: 'DELETE', headers })).status).toBe(202)
  const line = await eventually(() => running.lines.find(({ mcp }) => mcp?.method === 'session/end'))
  expect(line).toMatchObject({ event: 'mcp.call', outcome: 'success', status: 202 })
  expect((await send(running, { method: 'DELETE', headers })).status).toBe(404)
})

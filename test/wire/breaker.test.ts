import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { CallToolRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, expect, test } from 'vitest'
import { listen } from '../support/mcp-upstreams.ts'
import { send, toolCall } from '../support/request.ts'
import { startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

test('internal errors close the server when several users are told them, and not when one brings them about', async () => {
  const upstream = await listen(async (request, response) => {
    const server = new Server({ name: 'by-hand', version: '1' }, { capabilities: { tools: {} } })
    server.setRequestHandler(CallToolRequestSchema, async ({ params: { name } }) => {
      if (name !== 'get_user') throw new Error(`Unknown tool: ${name}`)
      return { content: [{ type: 'text', text: 'ada' }] }
    })
    const transport = new StreamableHTTPServerTransport({ enableJsonResponse: true })
    await server.connect(transport as never)
    await transport.handleRequest(request, response)
  })
  const running = await startTestSidecar(upstream.url, config => {
    config['upstream'] = { ...(config['upstream'] as object), breaker: { minimum: 5 } }
  })
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const headers = { 'X-User-ID': 'mallory' }
  for (let i = 0; i < 10; i++) {
    const { error } = (await send(running, { headers, body: toolCall('search_nothing') })).json
    expect(error.code).toBe(-32603)
  }
  expect((await send(running, { body: toolCall('get_user') })).json.result.content[0].text).toBe('ada')

  for (let i = 0; i < 10; i++) {
    await send(running, { headers: { 'X-User-ID': `user-${i % 2}` }, body: toolCall('search_nothing') })
  }
  const refused = (await send(running, { body: toolCall('get_user') })).json
  expect(refused.error.data.reason).toBe('upstream_breaker_open')
})

import { ToolListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { connectLegacy } from '../support/mcp-clients.ts'
import { startSessionServer } from '../support/mcp-upstreams.ts'
import { startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

test('a policy that shows a caller other tools tells it so on its open stream', async () => {
  const upstream = await startSessionServer()
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const { client, close } = await connectLegacy({
    port: running.port,
    ca: running.pki.ca.cert,
    identity: running.pki.gateway,
  })
  let told = 0
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
    told++
  })
  expect((await client.listTools()).tools.map(tool => tool.name)).toEqual(['search_docs', 'count', 'ask'])
  await eventually(() => running.lines.some(line => line['event'] === 'mcp.stream.open'))

  running.rewrite(config => {
    const [readers] = (config['policy'] as { rules: { tools: string[] }[] }).rules
    readers?.tools.push('delete_row')
  })
  await eventually(() => told === 1)
  expect((await client.listTools()).tools.map(tool => tool.name)).toEqual(['search_docs', 'delete_row', 'count', 'ask'])

  // Another rule for a tool that this server does not have changes nothing that anybody can see.
  running.rewrite(config => {
    ;(config['policy'] as { rules: { tools: string[] }[] }).rules[0]?.tools.push('nobody_has_this')
  })
  await eventually(() => running.lines.filter(line => line['event'] === 'config.reloaded').length === 2)
  await new Promise(resolve => setTimeout(resolve, 100))
  expect(told).toBe(1)
  await close()
})

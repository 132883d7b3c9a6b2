import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { connectLegacy, connectModern } from '../support/mcp-clients.ts'
import { startModernServer, startSessionServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

// The example of the contract, with the addresses and certificates of this machine and its peers' names.
const example = parse(readFileSync('test/fixtures/config/contract.yaml', 'utf8')) as Record<
  string,
  Record<string, unknown>
>

function exampleOn(config: Record<string, unknown>): void {
  const here = { ...config }
  for (const key of Object.keys(config)) delete config[key]
  Object.assign(config, structuredClone(example), {
    listen: { ...example['listen'], address: '127.0.0.1:0', hosts: ['localhost'] },
    upstream: { ...example['upstream'], ...(here['upstream'] as object) },
    admin: here['admin'],
    tls: { ...example['tls'], ...(here['tls'] as object) },
    drain: here['drain'],
  })
}

describe.each([
  {
    era: 'modern',
    start: startModernServer,
    connect: (options: Parameters<typeof connectModern>[0]) => connectModern(options),
  },
  {
    era: 'negotiated',
    start: startModernServer,
    connect: (options: Parameters<typeof connectModern>[0]) => connectModern(options, 'auto'),
  },
  { era: 'legacy', start: startSessionServer, connect: connectLegacy },
])("the contract's example configuration serves an SDK client without another rule ($era)", ({ start, connect }) => {
  let upstream: TestUpstream
  let running: RunningSidecar
  beforeAll(async () => {
    upstream = await start()
    running = await startTestSidecar(upstream.url, exampleOn)
  })
  afterAll(async () => {
    await running?.stop()
    await upstream?.stop()
  })

  test('it initializes or discovers, lists what it may use, and calls', async () => {
    const { client, close } = await connect({
      port: running.port,
      ca: running.pki.ca.cert,
      identity: running.pki.gateway,
    })
    const { tools } = await client.listTools()
    expect(tools.map(tool => tool.name)).toContain('search_docs')
    expect(tools.map(tool => tool.name)).not.toContain('delete_row')
    const result = await client.callTool({ name: 'search_docs', arguments: { query: 'tea', limit: 100 } })
    expect(result.content).toEqual([{ type: 'text', text: 'found: tea' }])
    await expect(
      client.callTool({ name: 'search_docs', arguments: { query: 'tea', limit: 101 } }),
    ).rejects.toMatchObject({ code: 403 })
    await close()
  })
})

import { CreateMessageRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { afterEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { connectLegacy, connectSse } from '../support/mcp-clients.ts'
import { startSessionServer, startSseServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function begin(start: () => Promise<TestUpstream>): Promise<{ upstream: TestUpstream; running: RunningSidecar }> {
  const upstream = await start()
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return { upstream, running }
}

const connect = (running: RunningSidecar) => ({
  port: running.port,
  ca: running.pki.ca.cert,
  identity: running.pki.gateway,
})

describe('the official SDK v1 client on Streamable HTTP with sessions', () => {
  test('initializes, lists what it may use, calls, and ends its session', async () => {
    const { running } = await begin(startSessionServer)
    const { client, transport, close } = await connectLegacy(connect(running))
    const { tools } = await client.listTools()
    expect(tools.map(tool => tool.name)).toEqual(['search_docs', 'count', 'ask'])
    const result = await client.callTool({ name: 'search_docs', arguments: { query: 'tea' } })
    expect(result.content).toEqual([{ type: 'text', text: 'found: tea' }])
    await expect(client.callTool({ name: 'delete_row', arguments: {} })).rejects.toMatchObject({ code: 403 })
    await transport.terminateSession()
    await close()
    const call = await eventually(() =>
      running.lines.find(line => line['event'] === 'mcp.call' && line['mcp'].tool === 'search_docs'),
    )
    expect(call).toMatchObject({ outcome: 'success', user: { id: 'ada', org: 'acme' }, peer: { name: 'gateway' } })
    expect(call['mcp'].session).toMatch(/^[0-9a-f]{32}$/)
  })

  test('gets progress as it happens', async () => {
    const { running } = await begin(startSessionServer)
    const { client, close } = await connectLegacy(connect(running))
    const seen: number[] = []
    await client.callTool({ name: 'count', arguments: { to: 5, pauseMs: 5 } }, undefined, {
      onprogress: progress => seen.push(progress.progress),
    })
    expect(seen).toEqual([1, 2, 3, 4, 5])
    await close()
  })

  test('answers what the server asks it', async () => {
    const { running } = await begin(startSessionServer)
    const { client, close } = await connectLegacy(connect(running), { capabilities: { sampling: {} } })
    client.setRequestHandler(CreateMessageRequestSchema, async () => ({
      role: 'assistant' as const,
      model: 'test',
      content: { type: 'text' as const, text: 'hello' },
    }))
    const result = await client.callTool({ name: 'ask', arguments: {} })
    expect(result.content).toEqual([{ type: 'text', text: 'the client said: hello' }])
    await close()
  })

  test('resumes a call whose stream was cut', async () => {
    const { running } = await begin(startSessionServer)
    const { client, close } = await connectLegacy(connect(running))
    const seen: number[] = []
    const call = client.callTool({ name: 'count', arguments: { to: 20, pauseMs: 25 } }, undefined, {
      onprogress: ({ progress }) => {
        seen.push(progress)
        if (progress === 5) for (const connection of running.sidecar.connections()) connection.destroy()
      },
    })
    expect((await call).content).toEqual([{ type: 'text', text: 'counted to 20' }])
    expect(seen.at(-1)).toBe(20)
    await close()
  })

  test('cancels, and the server hears of it', async () => {
    const { running, upstream } = await begin(startSessionServer)
    const { client, close } = await connectLegacy(connect(running))
    const controller = new AbortController()
    const call = client.callTool({ name: 'count', arguments: { to: 100, pauseMs: 20 } }, undefined, {
      signal: controller.signal,
      onprogress: ({ progress }) => {
        if (progress === 2) controller.abort()
      },
    })
    await expect(call).rejects.toThrow()
    await eventually(() => running.lines.some(line => line['mcp']?.method === 'notifications/cancelled'))
    expect(upstream.seen.length).toBeGreaterThan(0)
    await close()
  })
})

describe('the official SDK v1 client on HTTP+SSE', () => {
  test('initializes, lists what it may use and calls; each call has its line', async () => {
    const { running } = await begin(startSseServer)
    const { client, close } = await connectSse(connect(running))
    expect((await client.listTools()).tools.map(tool => tool.name)).toEqual(['search_docs', 'count', 'ask'])
    const result = await client.callTool({ name: 'search_docs', arguments: { query: 'tea' } })
    expect(result.content).toEqual([{ type: 'text', text: 'found: tea' }])
    const line = await eventually(() =>
      running.lines.find(line => line['event'] === 'mcp.call' && line['mcp'].tool === 'search_docs'),
    )
    // Its answer may come before its own HTTP answer has gone, or after; either way the line counts what that carried.
    expect(line).toMatchObject({ outcome: 'success', status: 202, bytesOut: 'Accepted'.length })
    await close()
    const closed = await eventually(() => running.lines.find(line => line['event'] === 'mcp.stream.close'))
    expect(closed?.['mcp'].session).toBe(line?.['mcp'].session)
  })
})

import type { ServerResponse } from 'node:http'
import https from 'node:https'
import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, startSessionServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { send } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function inFrontOf(upstream: TestUpstream): Promise<RunningSidecar> {
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return running
}

const rpc = (method: string, id: number | undefined, params: object = {}): string =>
  JSON.stringify({ jsonrpc: '2.0', ...(id === undefined ? {} : { id }), method, params })
const listAnswer = (id: number): string =>
  JSON.stringify({ jsonrpc: '2.0', id, result: { tools: [{ name: 'search_docs' }, { name: 'delete_row' }] } })

describe('a stream that is resumed', () => {
  test('replays a list as filtered as it was the first time', async () => {
    const running = await inFrontOf(await startSessionServer())
    const opened = await send(running, {
      body: rpc('initialize', 0, {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'c', version: '1' },
      }),
    })
    const headers = {
      'Mcp-Session-Id': String(opened.headers['mcp-session-id']),
      'MCP-Protocol-Version': '2025-11-25',
    }
    await send(running, { headers, body: rpc('notifications/initialized', undefined) })
    const listed = await send(running, { headers, body: rpc('tools/list', 1) })
    expect(listed.text).toContain('search_docs')
    expect(listed.text).not.toContain('delete_row')

    const priming = /^id: ?(.+)$/m.exec(listed.text)?.[1] ?? ''
    const resumed = await openStream(running, { headers: { ...headers, 'Last-Event-ID': priming } })
    await eventually(() => resumed.text().includes('search_docs'))
    expect(resumed.text()).not.toContain('delete_row')
    resumed.leave()
  })
})

/** HTTP+SSE that answers nothing by itself: the test writes events onto the stream. */
async function startQuietSse(): Promise<{ upstream: TestUpstream; write(event: string): void }> {
  let stream: ServerResponse | undefined
  const upstream = await listen((request, response) => {
    if (request.method === 'GET') {
      stream = response
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('event: endpoint\ndata: /messages?sessionId=s1\n\n')
      return
    }
    request.resume()
    request.on('end', () => response.writeHead(202).end('Accepted'))
  })
  return { upstream, write: event => void stream?.write(event) }
}

describe('a list on the stream of HTTP+SSE', () => {
  async function listening() {
    const { upstream, write } = await startQuietSse()
    const running = await inFrontOf(upstream)
    const stream = await openStream(running, { path: '/sse', headers: { Accept: 'text/event-stream' } })
    cleanups.push(() => stream.leave())
    await eventually(() => stream.text().includes('sessionId=s1'))
    const post = async (body: string): Promise<void> => {
      expect((await send(running, { path: '/messages?sessionId=s1', body })).status).toBe(202)
    }
    const arrives = async (): Promise<string> => {
      await eventually(() => stream.text().includes('search_docs'))
      return stream.text()
    }
    return { write, post, arrives }
  }

  test('is filtered', async () => {
    const { write, post, arrives } = await listening()
    await post(rpc('tools/list', 1))
    write(`event: message\ndata: ${listAnswer(1)}\n\n`)
    expect(await arrives()).not.toContain('delete_row')
  })

  test('is filtered when its id is used again before the answer comes', async () => {
    const { write, post, arrives } = await listening()
    await post(rpc('tools/list', 1))
    await post(rpc('ping', 1))
    write(`event: message\ndata: ${listAnswer(1)}\n\n`)
    expect(await arrives()).not.toContain('delete_row')
  })

  test('is filtered when the id’s other request has been answered first', async () => {
    const { write, post, arrives } = await listening()
    await post(rpc('ping', 1))
    await post(rpc('tools/list', 1))
    write('event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n')
    write(`event: message\ndata: ${listAnswer(1)}\n\n`)
    expect(await arrives()).not.toContain('delete_row')
  })

  test('is filtered when its event began before it was asked for', async () => {
    const { write, post, arrives } = await listening()
    write('retry: 3000\n')
    await post(rpc('tools/list', 1))
    write(`event: message\ndata: ${listAnswer(1)}\n\n`)
    expect(await arrives()).not.toContain('delete_row')
  })

  test('is filtered when its data begins with an empty line', async () => {
    const { write, post, arrives } = await listening()
    await post(rpc('tools/list', 1))
    write(`event: message\ndata:\ndata: ${listAnswer(1)}\n\n`)
    expect(await arrives()).not.toContain('delete_row')
  })
})

test('a list in a stream of known length leaves the connection in order for whoever comes next', async () => {
  const running = await inFrontOf(
    await listen(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const isList = Buffer.concat(chunks).includes('tools/list')
      const answer = isList ? listAnswer(1) : '{"jsonrpc":"2.0","id":2,"result":{"content":[]}}'
      const body = `event: message\ndata: ${answer}\n\n`
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Content-Length': body.length }).end(body)
    }),
  )
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  cleanups.push(() => agent.destroy())
  const listed = await send(running, { agent, body: rpc('tools/list', 1) })
  expect([listed.broken, listed.text.includes('search_docs'), listed.text.includes('delete_row')]).toEqual([
    false,
    true,
    false,
  ])
  const next = await send(running, {
    agent,
    headers: { 'X-User-ID': 'bob' },
    body: rpc('tools/call', 2, { name: 'search_docs' }),
  })
  expect(next.text).toBe('event: message\ndata: {"jsonrpc":"2.0","id":2,"result":{"content":[]}}\n\n')
})

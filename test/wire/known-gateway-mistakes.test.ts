import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

// Mistakes that other MCP gateways have made and mended, each held against this one.

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const LIST = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  result: { tools: [{ name: 'search_docs' }, { name: 'delete_row' }], nextCursor: 'n', 'x-kept': 1.0 },
})

async function answering(
  status: number,
  headers: Record<string, string>,
  body: string,
  change: (config: Record<string, unknown>) => void = () => {},
): Promise<{ upstream: TestUpstream; running: RunningSidecar }> {
  const upstream = await listen((request, response) => {
    request.resume()
    request.on('end', () => response.writeHead(status, headers).end(body))
  })
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return { upstream, running }
}

const listRequest = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' })

describe('a list is filtered', () => {
  test.each([
    { name: 'as JSON', status: 200, type: 'application/json' },
    { name: 'under a media type with parameters', status: 200, type: 'application/json; charset=utf-8' },
    { name: 'under another media type', status: 200, type: 'text/plain' },
    { name: 'without a media type', status: 200, type: '' },
    { name: 'with another status', status: 203, type: 'application/json' },
    { name: 'with an error status', status: 500, type: 'application/json' },
  ])('$name', async ({ status, type }) => {
    const { running } = await answering(status, type === '' ? {} : { 'Content-Type': type }, LIST)
    const answer = await send(running, { body: listRequest })
    expect(answer.text).not.toContain('delete_row')
    if (status < 300)
      expect(answer.text).toBe(
        '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search_docs"}],"nextCursor":"n","x-kept":1}}',
      )
  })

  test.each([
    { name: 'LF', end: '\n' },
    { name: 'CRLF', end: '\r\n' },
    { name: 'CR', end: '\r' },
  ])('as an event with $name, written one byte at a time', async ({ end }) => {
    const upstream = await listen(async (request, response) => {
      request.resume()
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      for (const byte of Buffer.from(`id: 7${end}event: message${end}data: ${LIST}${end}${end}`)) {
        response.write(Buffer.from([byte]))
        await new Promise(resolve => setImmediate(resolve))
      }
      response.end()
    })
    const running = await startTestSidecar(upstream.url)
    cleanups.push(
      () => upstream.stop(),
      () => running.stop(),
    )
    const answer = await send(running, { body: listRequest })
    expect(answer.text).toContain(`id: 7${end}event: message${end}data: {"jsonrpc"`)
    expect(answer.text).toContain('search_docs')
    expect(answer.text).not.toContain('delete_row')
  })

  test('a list that cannot be read does not pass', async () => {
    const { running } = await answering(200, { 'Content-Type': 'application/json' }, LIST.slice(0, -5))
    const answer = await send(running, { body: listRequest })
    expect([answer.status, answer.json.error.data.reason]).toEqual([502, 'upstream_answer_invalid'])
  })

  test('a list that is larger than limits.event does not pass', async () => {
    const tools = Array.from({ length: 2000 }, (_, i) => ({ name: `search_${i}`, description: 'x'.repeat(50) }))
    const { running } = await answering(
      200,
      { 'Content-Type': 'application/json' },
      JSON.stringify({ jsonrpc: '2.0', id: 1, result: { tools } }),
      config => {
        config['limits'] = { event: '64KiB' }
      },
    )
    expect((await send(running, { body: listRequest })).json.error.data.reason).toBe('upstream_event_too_large')
  })
})

test('a batch is judged on each element, and one that is denied denies all', async () => {
  const { upstream, running } = await answering(200, { 'Content-Type': 'application/json' }, '[]', config => {
    config['limits'] = { batch: 10 }
  })
  const body = `[${toolCall('search_docs', {}, 1)},${toolCall('delete_row', {}, 2)}]`
  const answer = await send(running, { body, headers: { 'MCP-Protocol-Version': '2025-03-26' } })
  expect(answer.json.map((error: { id: number; error: { code: number } }) => [error.id, error.error.code])).toEqual([
    [1, 403],
    [2, 403],
  ])
  expect(upstream.seen).toEqual([])
})

test('a POST that is no JSON never skips policy', async () => {
  const { upstream, running } = await answering(200, {}, 'served')
  for (const type of [
    'text/plain',
    'application/json-rpc',
    'application/x-www-form-urlencoded',
    'Application/Json; charset=utf-16',
  ]) {
    expect((await send(running, { headers: { 'Content-Type': type }, body: toolCall('delete_row') })).status).toBe(415)
  }
  expect(upstream.seen).toEqual([])
})

test('denials, failed authentication and unreadable bodies have lines; a stream has one when it opens', async () => {
  const upstream = await listen((_request, response) =>
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write(': open\n\n'),
  )
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  await send(running, { body: toolCall('delete_row') })
  await send(running, { body: toolCall('search_docs'), headers: { 'X-User-ID': '' } })
  await send(running, { body: '{' })
  const stream = await openStream(running)
  await eventually(() => stream.text().includes('open'))
  const told = running.lines.map(line => `${line['event']} ${line['decision']?.reason ?? ''}`.trim())
  expect(told).toEqual(
    expect.arrayContaining([
      'mcp.refused tool_not_permitted',
      'mcp.refused user_missing',
      'mcp.refused message_unparseable',
      'mcp.stream.open',
    ]),
  )
  stream.leave()
})

test('the status of the server is kept, also when its answer is flushed early', async () => {
  const upstream = await listen((_request, response) => {
    response.writeHead(404, { 'Content-Type': 'application/json' })
    response.flushHeaders()
    setTimeout(() => response.end('{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found"}}'), 20)
  })
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const answer = await send(running, { body: toolCall('search_docs') })
  expect([answer.status, answer.json.error.code]).toEqual([404, -32601])
  expect(running.lines.at(-1)).toMatchObject({ status: 404, outcome: 'error', rpcError: { code: -32601 } })
})

test('the same id in two organisations is two users, whatever stands between the names', async () => {
  const { running } = await answering(
    200,
    { 'Content-Type': 'application/json' },
    '{"jsonrpc":"2.0","id":1,"result":{}}',
    config => {
      ;(config['peers'] as { mayAssert: { orgs: string[] } }[])[0]!.mayAssert.orgs = ['*']
      config['quotas'] = [{ name: 'one', key: 'user', windows: [{ limit: 1, per: '1m' }] }]
    },
  )
  const asUser = (org: string, user: string) =>
    send(running, { headers: { 'X-Org-ID': org, 'X-User-ID': user }, body: toolCall('search_docs') })
  expect((await asUser('a', 'b|c')).json.error).toBeUndefined()
  expect((await asUser('a|b', 'c')).json.error).toBeUndefined()
  expect((await asUser('a', 'b|c')).json.error.code).toBe(429)
})

test('a request that bears a name that only servers in front use is a request like any other', async () => {
  const { upstream, running } = await answering(
    200,
    { 'Content-Type': 'application/json' },
    '{"jsonrpc":"2.0","id":1,"result":{}}',
  )
  const headers = {
    'mcp-init-host': 'evil',
    'router-key': 'guessed',
    'X-Envoy-Original-Path': '/admin',
    'X-Original-URL': '/admin',
    'X-HTTP-Method-Override': 'DELETE',
  }
  await send(running, { headers, body: toolCall('delete_row') })
  expect(upstream.seen).toEqual([])
  await send(running, { headers, body: toolCall('search_docs') })
  const names = upstream.seen[0]?.headers.map(name => name.toLowerCase()) ?? []
  expect(names).not.toContain('x-original-url')
  expect(names).not.toContain('x-http-method-override')
})

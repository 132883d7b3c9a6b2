import net from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** An upstream that answers with these bytes, whatever it is sent, and then does as told with the connection. */
async function inFrontOf(
  answer: (socket: net.Socket) => void,
  change: (config: Record<string, unknown>) => void = () => {},
): Promise<RunningSidecar> {
  const server = net.createServer(socket => {
    socket.on('error', () => {})
    socket.once('data', () => answer(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const running = await startTestSidecar(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`, change)
  cleanups.push(
    () => server.close(),
    () => running.stop(),
  )
  return running
}

const RESULT = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
const OK = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${RESULT.length}\r\n\r\n${RESULT}`

describe('an answer that cannot be passed on becomes a refusal with the id of the request', () => {
  test.each([
    { name: 'no HTTP at all', bytes: 'hello\r\n\r\n', status: 502, reason: 'upstream_answer_invalid' },
    { name: 'closed without a word', bytes: '', status: 502, reason: 'upstream_broke' },
    { name: 'cut in the head', bytes: 'HTTP/1.1 200 OK\r\nContent-', status: 502, reason: 'upstream_broke' },
    {
      name: 'cut before its first byte',
      bytes: 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n',
      status: 502,
      reason: 'upstream_broke',
    },
    {
      name: 'two lengths',
      bytes: `HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
      status: 502,
      reason: 'upstream_answer_invalid',
    },
    {
      name: 'length and chunks',
      bytes: `HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      status: 502,
      reason: 'upstream_answer_invalid',
    },
    {
      name: 'compressed',
      bytes: 'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc',
      status: 502,
      reason: 'upstream_answer_encoded',
    },
    {
      name: 'an unasked change of protocol',
      bytes: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n',
      status: 502,
      reason: 'upstream_answer_invalid',
    },
    {
      name: 'a storm of 100-continue',
      bytes: 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(50),
      status: 502,
      reason: 'upstream_answer_invalid',
    },
  ])('$name', async ({ bytes, status, reason }) => {
    const running = await inFrontOf(socket => socket.end(bytes))
    const answer = await send(running, { body: toolCall('search_docs', {}, 'seven') })
    expect(answer.status).toBe(status)
    expect(answer.json).toMatchObject({ id: 'seven', error: { code: status, data: { reason } } })
    expect(running.lines.at(-1)).toMatchObject({
      event: 'mcp.refused',
      decision: { reason },
      outcome: 'refused',
      status,
    })
  })
})

test.each([
  { name: 'nothing', type: 'application/json', body: '' },
  { name: 'the beginning of one', type: 'application/json', body: RESULT.slice(0, 20) },
  { name: 'a response to another request', type: 'application/json', body: RESULT.replace('"id":1', '"id":2') },
  { name: 'a page', type: 'text/html', body: '<h1>welcome</h1>' },
])('$name instead of a response is passed on, and its line does not call it a success', async ({ type, body }) => {
  const bytes = `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const running = await inFrontOf(socket => socket.write(bytes))
  const answer = await send(running, { body: toolCall('search_docs') })
  expect([answer.status, answer.text]).toEqual([200, body])
  const line = running.lines.find(({ event }) => event === 'mcp.call')
  expect(line).toMatchObject({
    outcome: 'aborted',
    status: 200,
    error: 'the server has answered without a response to the request',
  })
})

test('a few interim answers are read past, and the final one is passed on', async () => {
  const running = await inFrontOf(socket =>
    socket.write(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}`),
  )
  const answer = await send(running, { body: toolCall('search_docs') })
  expect([answer.status, answer.text]).toEqual([200, RESULT])
})

test('trailers are dropped, hop-by-hop fields too', async () => {
  const running = await inFrontOf(socket =>
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-ID\r\n\r\n${RESULT.length.toString(16)}\r\n${RESULT}\r\n0\r\nX-User-ID: mallory\r\n\r\n`,
    ),
  )
  const answer = await send(running, { body: toolCall('search_docs') })
  expect(answer.text).toBe(RESULT)
  expect(answer.headers).toMatchObject({ 'x-end': '2' })
  for (const name of ['x-hop', 'trailer', 'x-user-id']) expect(answer.headers).not.toHaveProperty(name)
})

test('a plain answer that is cut after its beginning ends as broken', async () => {
  const running = await inFrontOf(socket => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n')
    socket.write('x'.repeat(20_000))
    setTimeout(() => socket.write('y'.repeat(20_000)), 20)
    setTimeout(() => socket.destroy(), 60)
  })
  const answer = await send(running, { body: toolCall('search_docs') }).catch(() => ({ broken: true }))
  expect(answer.broken).toBe(true)
  expect(await eventually(() => running.lines.find(line => line['outcome'] === 'aborted'))).toMatchObject({
    event: 'mcp.call',
  })
})

test('an event stream whose server dies ends as broken, never as complete', async () => {
  const running = await inFrontOf(socket => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
    socket.write('8\r\ndata: {}\r\n')
    setTimeout(() => socket.destroy(), 50)
  })
  const answer = await send(running, { body: toolCall('search_docs') })
  expect(answer.broken).toBe(true)
  expect(await eventually(() => running.lines.find(line => line['outcome'] === 'aborted'))).toMatchObject({
    event: 'mcp.call',
    error: expect.stringContaining('broke'),
  })
})

test.each([
  ['a notification', { body: '{"jsonrpc":"2.0","method":"notifications/initialized"}' }],
  ['a request for an event stream', { method: 'GET' }],
  ['a call', { body: toolCall('search_docs') }],
])(
  'an error of HTTP is an error in the line of %s, also where no error of JSON-RPC can answer it',
  async (_, asked) => {
    for (const body of [
      '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Method not allowed."}}',
      RESULT,
      '',
    ]) {
      const running = await inFrontOf(socket =>
        socket.write(
          `HTTP/1.1 405 No\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        ),
      )
      expect(await send(running, asked)).toMatchObject({ status: 405, text: body })
      const line = await eventually(() => running.lines.find(({ outcome }) => outcome !== undefined))
      expect(line).toMatchObject({ outcome: 'error', status: 405 })
    }
  },
)

test('a server that is not there is a 502 that says when to come back', async () => {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  const running = await startTestSidecar(`http://127.0.0.1:${port}`)
  cleanups.push(() => running.stop())
  const answer = await send(running, { body: toolCall('search_docs') })
  expect(answer.status).toBe(502)
  expect(answer.headers['retry-after']).toBe('1')
  expect(answer.json.error.data).toMatchObject({ reason: 'upstream_unreachable', retryAfterMs: 1000 })
  expect((await fetch(`${running.admin}/readyz`)).status).toBe(503)
  expect((await fetch(`${running.admin}/livez`)).status).toBe(200)
})

test('a server that does not answer is a 504 in the time that was set for this tool', async () => {
  const running = await inFrontOf(
    () => {},
    config => {
      ;(config['upstream'] as Record<string, unknown>)['timeouts'] = {
        firstByte: '30s',
        tools: { 'search_*': '200ms' },
      }
    },
  )
  const answer = await send(running, { body: toolCall('search_docs') })
  expect(answer.status).toBe(504)
  expect(answer.json.error.data.reason).toBe('upstream_timeout')
})

test('a stream that falls silent ends; comments keep it open', async () => {
  const upstream = await listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let comments = 0
    const timer = setInterval(() => {
      if (++comments <= 4) response.write(': still here\n\n')
    }, 100)
    response.on('close', () => clearInterval(timer))
  })
  const running = await startTestSidecar(upstream.url, config => {
    ;(config['upstream'] as Record<string, unknown>)['timeouts'] = { streamIdle: '300ms' }
  })
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const answer = await send(running, { body: toolCall('search_docs') })
  expect(answer.text.split(': still here').length - 1).toBe(4)
  expect(answer.broken).toBe(true)
})

test('bytes behind an answer are never taken for the next one', async () => {
  const running = await inFrontOf(socket => {
    socket.on('data', () => socket.write(OK))
    socket.write(`${OK}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen`)
  })
  expect((await send(running, { body: toolCall('search_docs') })).text).toBe(RESULT)
  expect((await send(running, { body: toolCall('search_docs') })).text).not.toContain('stolen')
})

test('connections that the server closes while they are idle never fail a call', async () => {
  const upstream = await listen((request, response) => {
    request.resume()
    request.on('end', () => response.writeHead(200, { 'Content-Type': 'application/json' }).end(RESULT))
    // Closed right after the answer, without having said so.
    response.on('finish', () => setTimeout(() => request.socket.destroy(), Math.random() * 3))
  })
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  for (let i = 0; i < 40; i++) {
    await new Promise(resolve => setTimeout(resolve, i % 8))
    expect((await send(running, { body: toolCall('search_docs') })).status).toBe(200)
  }
})

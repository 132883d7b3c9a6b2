import http2 from 'node:http2'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import {
  Flag,
  Frame,
  frame,
  framesOf,
  headerBlock,
  postHead,
  preface,
  type RawPeer,
  rawPeer,
  requestHead,
} from '../support/raw-peers.ts'
import { send, toolCall, USER_HEADERS } from '../support/request.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const RESULT = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
const CALL = toolCall('search_docs', { query: 'tea' })
const DEADLINES = { handshakeMs: 400, headersMs: 400, bodyMs: 400, readMs: 400, readBytesPerMs: 20_000, idleMs: 900 }

let upstream: TestUpstream
let running: RunningSidecar
const cleanups: (() => unknown)[] = []

/** Answers at once; streams without end for the tool `count`, and answers with megabytes for `big`. */
beforeAll(async () => {
  upstream = await listen(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    if (request.method === 'GET' || body.includes('"count"') || body.includes('subscriptions/listen')) {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      const chunk = `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'x'.repeat(32_000) } })}\n\n`
      const timer = setInterval(() => response.write(body.includes('"count"') ? chunk : ': alive\n\n'), 5)
      response.on('close', () => clearInterval(timer))
      return
    }
    const big = body.includes('"big"') || body.includes('tools/list')
    const text = big ? RESULT.replace('[]', `[{"type":"text","text":"${'x'.repeat(3_000_000)}"}]`) : RESULT
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(text)
  })
  running = await startTestSidecar(
    upstream.url,
    config => {
      config['limits'] = { headers: '16KiB', handshakes: 20, streamsPerUser: 3 }
    },
    DEADLINES,
  )
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(async () => {
  await running?.stop()
  await upstream?.stop()
})

/** Over HTTP/2, from an address of its own: who is cut off for a flood keeps whoever shares his address out for a while. */
function stranger(): Promise<RawPeer> {
  return rawPeer(running, 'h2', `127.0.2.${(strangers += 1)}`)
}

let strangers = 0

function lineOf(reason: string): Promise<AuditLine> {
  return eventually(() => running.lines.find(line => line['decision']?.reason === reason))
}

async function isServing(): Promise<void> {
  expect((await send(running, { body: CALL })).status).toBe(200)
}

describe('who is slow', () => {
  test('to begin a handshake is cut off, and the line says why', async () => {
    const socket = net.connect(running.port, '127.0.0.1')
    await new Promise(resolve => socket.once('close', resolve))
    await lineOf('ERR_TLS_HANDSHAKE_TIMEOUT')
  })

  test.each([
    { name: 'says nothing at all', bytes: '' },
    { name: 'drips its head', bytes: 'POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Drip: ' },
  ])('after the handshake and $name gets a 408', async ({ bytes }) => {
    const peer = await rawPeer(running)
    peer.socket.write(bytes)
    const drip = setInterval(() => bytes !== '' && peer.socket.writable && peer.socket.write('x'), 50)
    await peer.closed
    clearInterval(drip)
    expect(peer.received().toString()).toMatch(/^HTTP\/1\.1 408 /)
    await lineOf('request_timeout')
  })

  test('to send its body gets a 408 with the code of the refusal, and its connection ends', async () => {
    const peer = await rawPeer(running)
    peer.socket.write(requestHead('POST', { 'Content-Length': '100000' }))
    const drip = setInterval(() => peer.socket.writable && peer.socket.write(' '), 50)
    await peer.closed
    clearInterval(drip)
    expect(peer.received().toString()).toMatch(
      /^HTTP\/1\.1 408 [\s\S]*Connection: close[\s\S]*"reason":"request_timeout"/,
    )
  })

  test('to send its body over HTTP/2 gets a 408, and its stream ends', async () => {
    const session = connect2()
    const stream = session.request({ ...HEAD2, ':method': 'POST' })
    stream.on('error', () => {})
    stream.write(' ')
    const drip = setInterval(() => stream.writable && stream.write(' '), 50)
    const status = await new Promise(resolve => stream.once('response', headers => resolve(headers[':status'])))
    expect(status).toBe(408)
    stream.resume()
    await new Promise(resolve => stream.once('close', resolve))
    clearInterval(drip)
    expect(session.destroyed).toBe(false)
  })

  test('to make a request over HTTP/2 is idle, however much it pings', async () => {
    const peer = await stranger()
    peer.socket.write(preface())
    const drip = setInterval(
      () => peer.socket.writable && peer.socket.write(frame(Frame.ping, 0, 0, Buffer.alloc(8))),
      100,
    )
    await peer.closed
    clearInterval(drip)
    expect(framesOf(peer.received()).map(({ type }) => type)).toContain(Frame.goaway)
  })

  test('to end a head over HTTP/2 is idle, too', async () => {
    const peer = await stranger()
    peer.socket.on('error', () => {})
    peer.socket.write(Buffer.concat([preface(), frame(Frame.headers, Flag.endStream, 1, postHead())]))
    await peer.closed
  })
})

describe('who does not read', () => {
  test.each([
    { name: 'a stream over HTTP/1.1', tool: 'count' },
    { name: 'an answer over HTTP/1.1', tool: 'big' },
  ])('$name is left, and the server is told', async ({ tool }) => {
    const before = running.lines.length
    const peer = await rawPeer(running)
    peer.socket.pause()
    const body = toolCall(tool)
    peer.socket.write(requestHead('POST', { 'Content-Length': String(body.length) }) + body)
    const line = await eventually(() => running.lines.slice(before).find(({ event }) => event === 'mcp.call'))
    if (tool === 'count') {
      expect(line).toMatchObject({ outcome: 'aborted', error: 'the client stopped reading' })
      await eventually(() => upstream.cancelled.length > 0)
    }
    await eventually(() => [...running.sidecar.connections()].length === 0)
    peer.socket.destroy()
  })

  test.each([
    { name: 'a stream', body: toolCall('count') },
    { name: 'an answer', body: toolCall('big') },
    { name: 'a list that was held', body: '{"jsonrpc":"2.0","id":1,"method":"tools/list"}' },
  ])('$name over HTTP/2, with a window of nothing, is left', async ({ body }) => {
    const peer = await stranger()
    const noWindow = preface([[4, 0]])
    const head = frame(Frame.headers, Flag.endHeaders, 1, postHead({ 'content-length': String(body.length) }))
    peer.socket.write(Buffer.concat([noWindow, head, frame(Frame.data, Flag.endStream, 1, Buffer.from(body))]))
    await eventually(() => framesOf(peer.received()).some(({ type, stream }) => type === Frame.reset && stream === 1))
    peer.socket.destroy()
  })
})

describe('who sends too much', () => {
  test('of a body is told so, and can read it', async () => {
    const answer = await send(running, { body: toolCall('search_docs', { query: 'x'.repeat(12_000_000) }) })
    expect([answer.status, answer.json.error.data.reason]).toEqual([413, 'message_too_large'])
  })

  test('of a body without saying how much is told so in the middle of it', async () => {
    const answer = await send(running, {
      headers: { 'Transfer-Encoding': 'chunked' },
      body: Buffer.alloc(6_000_000, ' '),
    })
    expect(answer.status).toBe(413)
  })

  test('of a body where none is read does not keep its connection', async () => {
    const peer = await rawPeer(running)
    peer.socket.write(requestHead('GET', { Accept: 'application/json', 'Content-Length': '1000000' }))
    const drip = setInterval(() => peer.socket.writable && peer.socket.write('x'), 20)
    await peer.closed
    clearInterval(drip)
    expect(peer.received().toString()).toMatch(/^HTTP\/1\.1 405 [\s\S]*Connection: close/)
  })

  test('header lines gets a 431', async () => {
    const many = Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`X-${i}`, '1']))
    const answer = await send(running, { headers: many, body: CALL })
    expect([answer.status, answer.json.error.data.reason]).toEqual([431, 'request_headers_too_large'])
  })

  test('bytes of header gets a 431', async () => {
    const peer = await rawPeer(running)
    peer.socket.write(requestHead('POST', { 'X-Large': 'x'.repeat(20_000) }))
    await peer.closed
    expect(peer.received().toString()).toMatch(/^HTTP\/1\.1 431 /)
  })

  test('requests without waiting for answers gets them one after another', async () => {
    const before = running.lines.length
    const peer = await rawPeer(running)
    const queries = Array.from({ length: 500 }, (_, i) => toolCall('search_docs', { query: `no. ${i}` }))
    const wanted = queries.map(body => requestHead('POST', { 'Content-Length': String(body.length) }) + body)
    peer.socket.write(wanted.join(''))
    await eventually(() => peer.received().toString().split('HTTP/1.1 200 ').length === 501)
    peer.socket.destroy()
    const lines = running.lines.slice(before).filter(({ event }) => event === 'mcp.call')
    expect(lines.map(line => line['args']?.query)).toEqual(queries.map((_, i) => `no. ${i}`))
    await isServing()
  })
})

describe('over HTTP/2, who sends', () => {
  test.each([
    {
      name: 'streams and resets them, without end',
      flood: (i: number) => [
        frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1 + 2 * i, postHead()),
        frame(Frame.reset, 0, 1 + 2 * i, Buffer.from([0, 0, 0, 8])),
      ],
    },
    { name: 'pings without end', flood: () => [frame(Frame.ping, 0, 0, Buffer.alloc(8))] },
    { name: 'settings without end', flood: () => [frame(Frame.settings, 0, 0)] },
    {
      name: 'streams that make the server reset them, without end',
      flood: (i: number) => [
        frame(Frame.headers, Flag.endHeaders, 1 + 2 * i, postHead()),
        frame(Frame.window, 0, 1 + 2 * i, Buffer.from([0, 0, 0, 0])),
      ],
    },
  ])('$name is cut off, and others are served', async ({ flood }) => {
    const seen = upstream.seen.length
    const peer = await stranger()
    peer.socket.on('error', () => {})
    peer.socket.write(preface())
    for (let i = 0; i < 2000; i++) for (const bytes of flood(i)) peer.socket.write(bytes)
    await peer.closed
    // Streams that are reset at once hardly reach the server.
    expect(upstream.seen.length - seen).toBeLessThan(300)
    await isServing()
  })

  test('requests that are reset at once: nobody does them, they are told of, and the connection goes on', async () => {
    const malformed = async (): Promise<number> => {
      const text = await (await fetch(`${running.admin}/metrics`)).text()
      return Number(/^mcp_sidecar_refusals_total\{reason="request_malformed"\} (\d+)/m.exec(text)?.[1] ?? 0)
    }
    const seen = upstream.seen.length
    const before = await malformed()
    const peer = await stranger()
    const flood = Array.from({ length: 30 }, (_, i) => [
      frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1 + 2 * i, postHead()),
      frame(Frame.reset, 0, 1 + 2 * i, Buffer.from([0, 0, 0, 8])),
    ])
    const ping = frame(Frame.ping, 0, 0, Buffer.alloc(8))
    peer.socket.write(Buffer.concat([preface(), ...flood.flat(), ping]))
    await eventually(() => framesOf(peer.received()).some(({ type, flags }) => type === Frame.ping && flags === 1))
    expect((await malformed()) - before).toBe(30)
    expect(upstream.seen.length).toBe(seen)
    expect(framesOf(peer.received()).filter(({ type }) => type === Frame.headers)).toEqual([])
    peer.socket.destroy()
  })

  test('who resets more than that loses the connection, and the line says why', async () => {
    const peer = await stranger()
    peer.socket.on('error', () => {})
    const flood = Array.from({ length: 90 }, (_, i) => [
      frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1 + 2 * i, postHead()),
      frame(Frame.reset, 0, 1 + 2 * i, Buffer.from([0, 0, 0, 8])),
    ])
    peer.socket.write(Buffer.concat([preface(), ...flood.flat()]))
    await peer.closed
    await lineOf('TOO_MANY_RESETS')
    await isServing()
  })

  test('a head that goes on and on is cut off', async () => {
    const peer = await stranger()
    peer.socket.on('error', () => {})
    peer.socket.write(Buffer.concat([preface(), frame(Frame.headers, Flag.endStream, 1, postHead())]))
    const more = headerBlock({ 'x-more': 'x'.repeat(100) })
    for (let i = 0; i < 2000; i++) peer.socket.write(frame(Frame.continuation, 0, 1, more))
    await peer.closed
    await lineOf('HTTP2_PROTOCOL_ERROR')
    await isServing()
  })

  test.each([
    {
      name: 'more header lines than are taken',
      headers: Object.fromEntries(Array.from({ length: 250 }, (_, i) => [`x-${i}`, '1'])),
    },
    { name: 'a larger head than is taken', headers: { 'x-large': 'x'.repeat(20_000) } },
  ])('$name loses the stream, and no more', async ({ headers }) => {
    const session = connect2()
    const stream = session.request({ ...HEAD2, ...headers, ':method': 'POST' })
    const ended = await new Promise<string>(resolve => {
      stream.on('response', got => resolve(String(got[':status'])))
      stream.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? ''))
      stream.on('close', () => resolve('closed'))
      stream.end(CALL)
    })
    expect(['431', 'ERR_HTTP2_STREAM_ERROR', 'closed']).toContain(ended)
    expect(await call2(session)).toBe(200)
  })

  test('a compressed head that unfolds to megabytes is cut off', async () => {
    const peer = await stranger()
    peer.socket.on('error', () => {})
    // One entry of 3 KiB into the table, and then one byte for each time that it is meant again.
    const value = Buffer.alloc(3000, 'x')
    const entry = Buffer.concat([Buffer.from([0x40, 6]), Buffer.from('x-bomb'), Buffer.from([0x7f, 0xb9, 0x16]), value])
    const bomb = Buffer.concat([postHead(), entry, Buffer.alloc(8000, 0x80 | 62)])
    peer.socket.write(Buffer.concat([preface(), frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1, bomb)]))
    await eventually(
      () =>
        peer.socket.destroyed ||
        framesOf(peer.received()).some(({ type }) => type === Frame.reset || type === Frame.goaway),
    )
    peer.socket.destroy()
    await isServing()
  })

  test('more streams at a time than are taken has the rest refused', async () => {
    const session = connect2()
    const settings = await new Promise<http2.Settings>(resolve => session.once('remoteSettings', resolve))
    expect(settings.maxConcurrentStreams).toBe(256)
  })
})

describe('streams that stay', () => {
  const listenCall = (user: string) => ({
    headers: {
      ...USER_HEADERS,
      'X-User-ID': user,
      'MCP-Protocol-Version': '2026-07-28',
      'Mcp-Method': 'subscriptions/listen',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'subscriptions/listen',
      params: {
        notifications: { toolsListChanged: true },
        _meta: {
          'io.modelcontextprotocol/protocolVersion': '2026-07-28',
          'io.modelcontextprotocol/clientCapabilities': {},
        },
      },
    }),
  })

  test('are counted before the server has answered, so that many at once are no way around', async () => {
    const streams = await Promise.all(
      Array.from({ length: 8 }, () => openStream(running, { headers: { 'X-User-ID': 'many' } })),
    )
    expect(streams.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200, 200, 200, 429, 429, 429, 429, 429,
    ])
    for (const stream of streams) stream.leave()
    await eventually(async () => {
      const again = await openStream(running, { headers: { 'X-User-ID': 'many' } })
      again.leave()
      return again.status === 200
    })
  })

  test('count whichever way they are opened; answers that come as a stream do not', async () => {
    const policy = { headers: { 'X-User-ID': 'both' } }
    const open = [
      await openStream(running, policy),
      await openStream(running, policy),
      await openStream(running, policy),
    ]
    const call = await openStream(running, { ...policy, body: toolCall('count') })
    expect(call.status).toBe(200)
    const listening = await openStream(running, listenCall('both'))
    expect([listening.status, open.map(({ status }) => status)]).toEqual([429, [200, 200, 200]])
    for (const stream of [...open, call, listening]) stream.leave()
  })
})

const HEAD2 = {
  ':path': '/mcp',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'x-user-id': 'ada',
  'x-org-id': 'acme',
  'x-user-scopes': 'mcp.read',
}

function connect2(): http2.ClientHttp2Session {
  const session = http2.connect(`https://localhost:${running.port}`, {
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
  })
  session.on('error', () => {})
  cleanups.push(() => session.destroy())
  return session
}

function call2(session: http2.ClientHttp2Session): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ...HEAD2, ':method': 'POST' })
    stream.on('response', headers => resolve(headers[':status'] ?? 0))
    stream.on('error', reject)
    stream.resume()
    stream.end(CALL)
  })
}

test('after all that nothing is left open', async () => {
  await sleep(50)
  await eventually(async () => {
    const text = await (await fetch(`${running.admin}/metrics`)).text()
    return /^mcp_active_connections 0$/m.test(text) && /^mcp_active_streams 0$/m.test(text)
  })
})

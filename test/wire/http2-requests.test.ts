import type { ServerResponse } from 'node:http'
import http2, { type ClientHttp2Stream, type IncomingHttpHeaders } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { Flag, Frame, frame, postHead, preface, rawPeer } from '../support/raw-peers.ts'
import { toolCall, USER_HEADERS } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const RESULT = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'

let running: RunningSidecar
let upstream: TestUpstream
let session: http2.ClientHttp2Session
/** Bodies that the server has seen. */
const bodies: string[] = []

beforeAll(async () => {
  upstream = await listen(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    bodies.push(body)
    if (body.includes('notifications/')) return response.writeHead(202).end()
    if (body.includes('search_and_die')) return dieAfterTwoPieces(response, body.includes('stream'))
    return response.writeHead(200, { 'Content-Type': 'application/json' }).end(RESULT)
  })
  running = await startTestSidecar(upstream.url)
  session = http2.connect(`https://localhost:${running.port}`, { ca: running.pki.ca.cert, ...running.pki.gateway.tls })
})

afterAll(async () => {
  session.destroy()
  await running.stop()
  await upstream.stop()
})

function dieAfterTwoPieces(response: ServerResponse, isStream: boolean): void {
  response.writeHead(200, { 'Content-Type': isStream ? 'text/event-stream' : 'application/json' })
  response.write('data: {"jsonrpc":')
  setTimeout(() => response.write('"2.0",'), 20)
  setTimeout(() => response.destroy(), 40)
}

const HEAD = {
  ':path': '/mcp',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  ...USER_HEADERS,
}

function request(headers: http2.OutgoingHttpHeaders = {}): ClientHttp2Stream {
  return session.request({ ':method': 'POST', ...HEAD, ...headers })
}

interface Seen {
  readonly status: number
  readonly text: string
  /** The frame of the head was the last one. */
  readonly endsWithHead: boolean
  /** Code of the reset, or of the end. */
  readonly code: number
}

function answerTo(stream: ClientHttp2Stream): Promise<Seen> {
  return new Promise((resolve, reject) => {
    let status = 0
    let text = ''
    let endsWithHead = false
    stream.on('response', (headers: IncomingHttpHeaders & { ':status'?: number }, flags: number) => {
      status = headers[':status'] ?? 0
      endsWithHead = (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0
    })
    stream.on('data', chunk => {
      text += String(chunk)
    })
    stream.on('error', reject)
    stream.on('close', () => resolve({ status, text, endsWithHead, code: stream.rstCode ?? -1 }))
  })
}

test('an answer without a body ends with its head', async () => {
  const stream = request()
  stream.end('{"jsonrpc":"2.0","method":"notifications/initialized"}')
  expect(await answerTo(stream)).toMatchObject({ status: 202, text: '', endsWithHead: true, code: 0 })
})

test.each(['plain', 'stream'])(
  'an answer that the server breaks off is reset, never ended as if it were whole: %s',
  async kind => {
    const stream = request()
    const ended = vi.fn()
    stream.on('end', ended)
    stream.end(toolCall('search_and_die', { kind }))
    await expect(answerTo(stream)).rejects.toThrow('NGHTTP2_INTERNAL_ERROR')
    expect(ended).not.toHaveBeenCalled()
  },
)

test('CONNECT is refused as what it is', async () => {
  const { status, text } = await answerTo(session.request({ ':method': 'CONNECT', ':authority': 'localhost' }))
  expect([status, JSON.parse(text).error.data.reason]).toEqual([400, 'request_upgrade_refused'])
})

test('HEAD is refused without a body', async () => {
  const seen = await answerTo(session.request({ ':method': 'HEAD', ...HEAD }))
  expect(seen).toMatchObject({ status: 405, text: '', endsWithHead: true, code: 0 })
})

test('a body that comes in pieces is read whole', async () => {
  const call = toolCall('search_docs', { query: 'x'.repeat(400_000) })
  const stream = request()
  const answer = answerTo(stream)
  for (let at = 0; at < call.length; at += 50_000) {
    stream.write(call.slice(at, at + 50_000))
    await sleep(2)
  }
  stream.end()
  expect(await answer).toMatchObject({ status: 200, text: RESULT })
  expect(bodies.at(-1)).toBe(call)
})

test('whoever waits to be told to go on with his body is told so', async () => {
  const stream = request({ expect: '100-continue' })
  const answer = answerTo(stream)
  await new Promise(resolve => stream.once('continue', resolve))
  stream.end(toolCall('search_docs'))
  expect(await answer).toMatchObject({ status: 200, text: RESULT })
})

test('whoever is refused is not told to go on with his body', async () => {
  const stream = request({ expect: '100-continue', 'content-length': '900000000' })
  const answer = answerTo(stream)
  const goOn = new Promise(resolve => stream.once('continue', () => resolve('go on')))
  expect(await Promise.race([goOn, answer])).toMatchObject({ status: 413 })
})

test('a request that is refused while its body is still coming ends without an error, and so does its stream', async () => {
  const stream = request({ ':method': 'PUT' })
  stream.write('x'.repeat(1000))
  const seen = await answerTo(stream)
  expect(seen).toMatchObject({ status: 405, code: http2.constants.NGHTTP2_NO_ERROR })
  expect(JSON.parse(seen.text)).toHaveProperty('error')
})

test('a request that is reset in the middle of its body never gets to the server, whatever the reason given', async () => {
  const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR } = http2.constants
  const peer = await rawPeer(running, 'h2')
  peer.socket.write(preface())
  for (const [i, code] of [NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR].entries()) {
    const stream = 1 + 2 * i
    const body = Buffer.from(toolCall('search_docs', { query: 'without its end' }))
    const head = frame(Frame.headers, Flag.endHeaders, stream, postHead())
    peer.socket.write(Buffer.concat([head, frame(Frame.data, 0, stream, body)]))
    await sleep(20)
    const reason = Buffer.alloc(4)
    reason.writeUInt32BE(code)
    peer.socket.write(frame(Frame.reset, 0, stream, reason))
  }
  const refused = await eventually(() => running.lines.find(line => line['decision']?.reason === 'request_malformed'))
  expect(refused).toMatchObject({ event: 'mcp.refused', rpcError: { message: expect.stringContaining('cut off') } })

  const call = Buffer.from(toolCall('search_docs', { query: 'with its end' }))
  const head = frame(Frame.headers, Flag.endHeaders, 7, postHead())
  peer.socket.write(Buffer.concat([head, frame(Frame.data, Flag.endStream, 7, call)]))
  await eventually(() => bodies.some(body => body.includes('with its end')))
  expect(bodies.filter(body => body.includes('without its end'))).toEqual([])
  peer.socket.destroy()
})

test('after all that the connection goes on', async () => {
  const stream = request()
  stream.end(toolCall('search_docs'))
  expect(await answerTo(stream)).toMatchObject({ status: 200, text: RESULT, endsWithHead: false })
})

import net from 'node:net'
import tls from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { rawPeer, requestHead } from '../support/raw-peers.ts'
import { send, toolCall } from '../support/request.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const CALL = toolCall('search_docs', { query: 'tea' })
const DEADLINES = { handshakeMs: 400, headersMs: 400, bodyMs: 400, readMs: 400, readBytesPerMs: 20_000, idleMs: 900 }

let upstream: TestUpstream
let running: RunningSidecar
const cleanups: (() => unknown)[] = []

beforeAll(async () => {
  upstream = await listen((request, response) => {
    request.resume()
    response
      .writeHead(200, { 'Content-Type': 'application/json' })
      .end('{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
  })
  running = await startTestSidecar(
    upstream.url,
    config => {
      config['limits'] = { handshakes: 20 }
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

function lineOf(reason: string): Promise<AuditLine> {
  return eventually(() => running.lines.find(line => line['decision']?.reason === reason))
}

async function isServing(): Promise<void> {
  expect((await send(running, { body: CALL })).status).toBe(200)
}

describe('at the door', () => {
  test('silent strangers do not keep honest callers out', async () => {
    const silent = Array.from({ length: 60 }, () => {
      const socket = net.connect({ port: running.port, host: '127.0.0.1', localAddress: '127.0.0.7' })
      socket.on('error', () => {})
      return socket
    })
    cleanups.push(() => silent.forEach(socket => socket.destroy()))
    await eventually(() => silent.some(socket => socket.destroyed))
    for (let i = 0; i < 5; i++) await isServing()
    await lineOf('TOO_MANY_HANDSHAKES')
  })

  test('a crowd that comes at once gets in, whoever gives up meanwhile and whoever has to make room', async () => {
    const from = (localAddress: string) => {
      const socket = net.connect({ port: running.port, host: '127.0.0.1', localAddress })
      socket.on('error', () => {})
      cleanups.push(() => socket.destroy())
      return socket
    }
    for (let i = 0; i < 7; i++) from('127.0.0.8').end('GET / HTTP/1.1\r\n\r\n')
    const leaving = Array.from({ length: 7 }, () => from('127.0.0.9'))
    for (const socket of leaving) socket.once('connect', () => socket.resetAndDestroy())
    for (let i = 0; i < 30; i++) from('127.0.0.10')
    const peers = await Promise.all(Array.from({ length: 12 }, () => rawPeer(running)))
    for (const peer of peers) peer.socket.write(requestHead('POST', { 'Content-Length': `${CALL.length}` }) + CALL)
    for (const peer of peers) await eventually(() => peer.received().toString().startsWith('HTTP/1.1 200'))
    for (const { socket } of peers) socket.destroy()
    await lineOf('HANDSHAKE_TOO_SLOW')
    await lineOf('ERR_SSL_HTTP_REQUEST')
  })

  test('who has said all that he will say while he waits is let in and fails, and nothing else happens', async () => {
    const hello = await clientHello()
    // Four that are silent: those who come from there after them wait.
    const silent = await Promise.all(Array.from({ length: 4 }, () => rawPeer(running, 'http/1.1', '127.0.0.12')))
    const gone = Array.from({ length: 10 }, (_, i) => {
      const socket = net.connect({ port: running.port, host: '127.0.0.1', localAddress: '127.0.0.12' })
      socket.on('error', () => {})
      socket.resume()
      socket.end(i % 2 === 0 ? hello : hello.subarray(0, 3))
      return new Promise(resolve => socket.once('close', resolve))
    })
    await Promise.all(gone)
    await isServing()
    for (const { socket } of silent) socket.destroy()
  })

  test('connections are so many and no more, and one that ends makes room', async () => {
    const small = await startTestSidecar(upstream.url, config => {
      config['limits'] = { connections: 3 }
    })
    cleanups.push(() => small.stop())
    const peers = await Promise.all([rawPeer(small), rawPeer(small), rawPeer(small)])
    for (const { socket } of peers) socket.on('error', () => {})
    await expect(send(small, { body: CALL })).rejects.toThrow()
    peers[0]?.socket.destroy()
    await eventually(async () => (await send(small, { body: CALL })).status === 200)
    for (const { socket } of peers) socket.destroy()
  })
})

/** What a client says first in a handshake. */
async function clientHello(): Promise<Buffer> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const heard = new Promise<Buffer>(resolve => server.once('connection', socket => socket.once('data', resolve)))
  const client = tls.connect({ port: (server.address() as net.AddressInfo).port, host: '127.0.0.1' })
  client.on('error', () => {})
  const hello = await heard
  client.destroy()
  server.close()
  return hello
}

import http2 from 'node:http2'
import https from 'node:https'
import type { TLSSocket } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import type { ConnectionFacts } from '../../src/core/audit/exchange.ts'
import { Connection } from '../../src/edge/connection.ts'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { startGatewayLoad } from '../support/gateway-load.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { send, toolCall, USER_HEADERS } from '../support/request.ts'
import { startAnsweringServer } from '../support/rotation.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

type Upstream = { url: string; stop(): Promise<void> }

async function aging(upstream: Upstream, maxConnectionAge: string, grace = '3s'): Promise<RunningSidecar> {
  cleanups.push(() => upstream.stop())
  const running = await startTestSidecar(upstream.url, config => {
    ;(config['tls'] as Record<string, unknown>)['maxConnectionAge'] = maxConnectionAge
    config['drain'] = { lameDuck: '0s', grace }
  })
  cleanups.push(() => running.stop())
  return running
}

/** Answers calls with an event every 10 ms, for ever, and `slow` calls with JSON when it is told to. */
async function streamingServer() {
  const waiting: (() => void)[] = []
  const upstream = await listen(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    if (Buffer.concat(chunks).includes('slow')) {
      await new Promise<void>(resolve => waiting.push(resolve))
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{"jsonrpc":"2.0","id":1,"result":{}}')
      return
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const write = () =>
      response.write(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":${n++}}}\n\n`)
    const timer = setInterval(write, 10)
    response.on('close', () => clearInterval(timer))
  })
  return { ...upstream, answer: () => waiting.splice(0).forEach(resolve => resolve()), waiting }
}

const closed = (running: RunningSidecar) => running.lines.filter(({ event }) => event === 'connection.closed')

test('connections that grow old are replaced one by one, and no request is lost', async () => {
  const running = await aging(await startAnsweringServer(), '1s')
  const { chain: cert, key } = running.pki.gateway
  const credential = { cert, key, ca: running.pki.ca.cert }
  const load = startGatewayLoad({ port: running.port, credential, connections: 8, pauseMs: 10 })
  cleanups.push(() => load.stop())
  await eventually(() => load.counts.connected >= 24)
  expect(load.failures).toEqual([])
  expect(closed(running).length).toBeGreaterThan(0)
  for (const line of closed(running)) expect(line['decision']).toMatchObject({ reason: 'max_connection_age' })
})

test('an HTTP/1.1 connection that rests when its time comes answers one more request, and says close with it', async () => {
  const running = await aging(await startAnsweringServer(), '1s')
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  cleanups.push(() => agent.destroy())
  const first = await send(running, { body: toolCall('search_docs'), agent })
  expect(first.headers['connection']).not.toBe('close')
  await eventually(() => [...running.sidecar.connections()].every(({ retiring }) => retiring))
  const last = await send(running, { body: toolCall('search_docs'), agent })
  expect(last).toMatchObject({ status: 200, headers: { connection: 'close' } })
  await eventually(() => closed(running).length === 1)
})

test('one that rests on is closed when the grace ends', async () => {
  const running = await aging(await startAnsweringServer(), '1s', '1s')
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  cleanups.push(() => agent.destroy())
  await send(running, { body: toolCall('search_docs'), agent })
  expect(await eventually(() => closed(running)[0])).toMatchObject({
    decision: { reason: 'max_connection_age' },
    peer: { name: 'gateway' },
  })
})

test('an HTTP/2 session is sent GOAWAY, and the call that it carries is answered', async () => {
  const upstream = await streamingServer()
  const running = await aging(upstream, '1s')
  const session = http2.connect(`https://localhost:${running.port}`, {
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
  })
  cleanups.push(() => session.destroy())
  const goaway = new Promise<number>(resolve => session.once('goaway', code => resolve(code)))
  const stream = session.request({ ':method': 'POST', ':path': '/mcp', ...LOWER })
  let text = ''
  stream.on('data', chunk => (text += String(chunk)))
  stream.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'search_slow' } }))
  await eventually(() => upstream.waiting.length === 1)
  expect(await goaway).toBe(http2.constants.NGHTTP2_NO_ERROR)
  upstream.answer()
  await new Promise(resolve => session.once('close', resolve))
  expect(JSON.parse(text)).toEqual({ jsonrpc: '2.0', id: 1, result: {} })
})

describe('an event stream', () => {
  test('goes on while there is grace, and ends at an event boundary', async () => {
    const running = await aging(await streamingServer(), '1s', '2s')
    const stream = await openStream(running)
    await eventually(() => [...running.sidecar.connections()].every(({ retiring }) => retiring))
    const seen = stream.text().length
    await eventually(() => stream.text().length > seen)
    expect(await stream.ended).toBe('complete')
    expect(stream.text().endsWith('\n\n')).toBe(true)
    expect(await eventually(() => running.lines.find(({ event }) => event === 'mcp.stream.close'))).toMatchObject({
      error: 'stream ended: max_connection_age',
    })
  })

  test('that begins on a connection which is going already ends at a boundary as well', async () => {
    const running = await aging(await streamingServer(), '1s', '2s')
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
    cleanups.push(() => agent.destroy())
    const before = await openStream(running, {
      agent,
      method: 'POST',
      body: '{"jsonrpc":"2.0","method":"none","id":1}',
    })
    await before.ended
    await eventually(() => [...running.sidecar.connections()].every(({ retiring }) => retiring))
    const stream = await openStream(running, { agent, body: toolCall('count') })
    expect(stream.headers['connection']).toBe('close')
    expect(await stream.ended).toBe('complete')
    expect(stream.text().endsWith('\n\n')).toBe(true)
  })
})

test('the age follows the configuration, for connections that are open as well', async () => {
  const running = await aging(await startAnsweringServer(), '24h')
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  cleanups.push(() => agent.destroy())
  await send(running, { body: toolCall('search_docs'), agent })
  running.rewrite(config => {
    ;(config['tls'] as Record<string, unknown>)['maxConnectionAge'] = '1s'
  })
  await eventually(() =>
    [...running.sidecar.connections()].some(({ retiredFor }) => retiredFor === 'max_connection_age'),
  )
})

test('connections of one moment do not go at one moment: the last tenth of the age is spread out', () => {
  const made = Array.from({ length: 100 }, () => new Connection(RESTING, FACTS))
  const opened = made[0]?.openedMono ?? 0
  const going = (share: number) => {
    for (const connection of made) connection.checkTime(opened + share * 3_600_000, { maxMs: 3_600_000, graceMs: 9e9 })
    return made.filter(({ retiring }) => retiring).length
  }
  expect(going(0.899)).toBe(0)
  expect(going(0.95)).toBeGreaterThan(20)
  expect(going(0.95)).toBeLessThan(80)
  expect(going(1.001)).toBe(100)
})

const RESTING = { destroyed: false, end() {}, destroy() {} } as unknown as TLSSocket
const FACTS = { httpVersion: '1.1' } as ConnectionFacts
const LOWER = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  ...Object.fromEntries(Object.entries(USER_HEADERS).map(([name, value]) => [name.toLowerCase(), value])),
}

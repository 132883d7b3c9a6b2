import http2 from 'node:http2'
import { afterEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { Flag, Frame, frame, postHead, preface, rawPeer, requestHead } from '../support/raw-peers.ts'
import { toolCall, USER_HEADERS } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

/** More than are begun in one turn of the event loop. */
const CROWD = 100
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function start(): Promise<RunningSidecar> {
  const upstream = await listen(async (request, response) => {
    for await (const _ of request);
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.end('{"jsonrpc":"2.0","id":1,"result":{"content":[]}}')
  })
  cleanups.push(() => upstream.stop())
  const running = await startTestSidecar(upstream.url)
  cleanups.push(() => running.stop())
  return running
}

/** Requests of which the finished log tells, those that are only counted among them. */
async function told(running: RunningSidecar): Promise<number> {
  await running.stop()
  return running.lines
    .filter(({ event }) => event === 'mcp.call' || event === 'mcp.refused')
    .reduce((sum, line) => sum + Number(line['count'] ?? 1), 0)
}

describe('a crowd of requests', () => {
  test('at once on one connection is answered, every one of them', async () => {
    const running = await start()
    const session = http2.connect(`https://localhost:${running.port}`, {
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
    })
    cleanups.push(() => session.destroy())
    const head = {
      ':method': 'POST',
      ':path': '/mcp',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...Object.fromEntries(Object.entries(USER_HEADERS).map(([name, value]) => [name.toLowerCase(), value])),
    }
    const statuses = await Promise.all(
      Array.from({ length: CROWD }, (_, i) => {
        const stream = session.request(head)
        stream.end(toolCall('search_docs', { query: 'tea' }, i))
        stream.resume()
        return new Promise(resolve => stream.on('response', answer => resolve(answer[':status'])))
      }),
    )
    expect(statuses).toEqual(new Array(CROWD).fill(200))
    expect(await told(running)).toBe(CROWD)
  })

  test('over HTTP/2 whose client hangs up at once leaves a line for each', async () => {
    const running = await start()
    const peer = await rawPeer(running, 'h2')
    const heads = Array.from({ length: CROWD }, (_, i) =>
      frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1 + 2 * i, postHead()),
    )
    peer.socket.write(Buffer.concat([preface(), ...heads]), () => peer.socket.destroy())
    await peer.closed
    await eventually(async () =>
      /^mcp_active_connections 0$/m.test(await (await fetch(`${running.admin}/metrics`)).text()),
    )
    expect(await told(running)).toBe(CROWD)
  })

  test('over HTTP/1.1 whose clients hang up at once leaves a line for each', async () => {
    const running = await start()
    const peers = await Promise.all(Array.from({ length: CROWD }, () => rawPeer(running)))
    const call = toolCall('search_docs', { query: 'tea' })
    const request = requestHead('POST', { 'Content-Length': String(Buffer.byteLength(call)) }) + call
    for (const { socket } of peers) {
      socket.write(request)
      socket.destroySoon()
    }
    await eventually(async () =>
      /^mcp_active_connections 0$/m.test(await (await fetch(`${running.admin}/metrics`)).text()),
    )
    expect(await told(running)).toBe(CROWD)
  })
})

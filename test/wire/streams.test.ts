import { rmSync } from 'node:fs'
import http from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { rawPeer, requestHead } from '../support/raw-peers.ts'
import { send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** An upstream that streams an event every so often until its client leaves. */
async function ticking(
  everyMs: number,
  change: (config: Record<string, unknown>) => void = () => {},
): Promise<{ upstream: TestUpstream; running: RunningSidecar }> {
  const upstream = await listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const timer = setInterval(
      () =>
        response.write(`id: ${n}\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":${n++}}}\n\n`),
      everyMs,
    )
    response.on('close', () => clearInterval(timer))
  })
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return { upstream, running }
}

describe('an event stream', () => {
  test('arrives as it is written, and is announced before its first event', async () => {
    const { running } = await ticking(30)
    const stream = await openStream(running, { body: toolCall('count') })
    await eventually(() => stream.text().includes('"n":2'))
    expect(running.lines.find(line => line['event'] === 'mcp.started')).toMatchObject({ mcp: { tool: 'count' } })
    expect(running.lines.some(line => line['event'] === 'mcp.call')).toBe(false)
    stream.leave()
  })

  test('whose client leaves is cancelled at the server at once, and its call is aborted', async () => {
    const { running, upstream } = await ticking(20)
    const stream = await openStream(running, { body: toolCall('count') })
    await eventually(() => stream.text().includes('"n":1'))
    stream.leave()
    await eventually(() => upstream.cancelled.length === 1)
    expect(await eventually(() => running.lines.find(line => line['event'] === 'mcp.call'))).toMatchObject({
      outcome: 'aborted',
      error: 'the client left',
    })
  })

  test('whose client leaves with its answer, before the server ends it, is no call that was aborted', async () => {
    const upstream = await listen((_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('data: {"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}\n\n')
    })
    const running = await startTestSidecar(upstream.url)
    cleanups.push(
      () => upstream.stop(),
      () => running.stop(),
    )
    const stream = await openStream(running, { body: toolCall('count') })
    await eventually(() => stream.text().endsWith('\n\n'))
    stream.leave()
    await eventually(() => upstream.cancelled.length === 1)
    const line = await eventually(() => running.lines.find(({ event }) => event === 'mcp.call'))
    expect(line).toMatchObject({ outcome: 'tool_error', status: 200 })
    expect(line).not.toHaveProperty('error')
  })

  test('that has nothing to say is cancelled as well when its client leaves, also behind a body that nobody wants', async () => {
    const { running, upstream } = await ticking(60_000)
    const peer = await rawPeer(running)
    const bytes = requestHead('GET', { 'Content-Length': '200000' }) + 'x'.repeat(150_000)
    await new Promise(taken => peer.socket.write(bytes, taken))
    await eventually(() => upstream.seen.length === 1)
    peer.socket.destroy()
    await eventually(() => upstream.cancelled.length === 1)
    await eventually(() => [...running.sidecar.connections()].length === 0)
  })

  test('whose client is gone as soon as it has asked leaves one line, and nothing open', async () => {
    const { running } = await ticking(20)
    const body = toolCall('count')
    const peers = await Promise.all(Array.from({ length: 12 }, () => rawPeer(running)))
    for (const [i, { socket }] of peers.entries()) {
      const head = requestHead('POST', { 'Content-Length': `${body.length}`, 'X-Request-ID': `gone-${i}` })
      socket.on('error', () => {})
      socket.write(head + body, () => socket.destroy())
    }
    for (const i of peers.keys()) {
      const ended = () =>
        running.lines.filter(line => line['requestId'] === `gone-${i}` && line['event'] === 'mcp.call')
      await eventually(() => ended().length === 1)
      expect(ended()).toMatchObject([{ outcome: 'aborted', error: 'the client left' }])
    }
    await eventually(async () => {
      const text = await (await fetch(`${running.admin}/metrics`)).text()
      return /^mcp_active_connections 0$/m.test(text) && /^mcp_active_streams 0$/m.test(text)
    })
  })

  test('that a GET opens has a line at both ends', async () => {
    const { running } = await ticking(20)
    const stream = await openStream(running)
    await eventually(() => stream.text().includes('"n":1'))
    stream.leave()
    await eventually(() => running.lines.some(line => line['event'] === 'mcp.stream.close'))
    expect(running.lines.map(line => line['event'])).toContain('mcp.stream.open')
  })

  test('ends at an event boundary when it grows too old', async () => {
    const { running } = await ticking(10, config => {
      config['limits'] = { streamAge: '1s' }
    })
    const stream = await openStream(running)
    expect(await stream.ended).toBe('complete')
    expect(stream.text().endsWith('\n\n')).toBe(true)
    expect(await eventually(() => running.lines.find(line => line['event'] === 'mcp.stream.close'))).toMatchObject({
      error: 'stream ended: stream_age',
    })
  })

  test('is one of a few that a caller may have open', async () => {
    const { running } = await ticking(50, config => {
      config['limits'] = { streamsPerUser: 2 }
    })
    const open = [await openStream(running), await openStream(running)]
    const third = await openStream(running)
    expect(third.status).toBe(429)
    const other = await openStream(running, { headers: { 'X-User-ID': 'bob' } })
    expect(other.status).toBe(200)
    open[0]?.leave()
    await eventually(async () => (await openStream(running)).status === 200)
    for (const stream of [...open, other]) stream.leave()
  })
})

test('a client that reads slowly holds the server back, not our memory', async () => {
  let written = 0
  const chunk = Buffer.alloc(64 * 1024, 'x')
  const upstream = await listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    const more = (): void => {
      while (!response.destroyed && written < 200 * 1024 * 1024) {
        written += chunk.length + 8
        if (!response.write(Buffer.concat([Buffer.from('data: '), chunk, Buffer.from('\n\n')])))
          return void response.once('drain', more)
      }
    }
    more()
  })
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const stream = await openStream(running, { body: toolCall('big') })
  stream.pause()
  await new Promise(resolve => setTimeout(resolve, 500))
  const held = written
  await new Promise(resolve => setTimeout(resolve, 500))
  expect(written - held).toBeLessThan(1024 * 1024)
  expect(held).toBeLessThan(24 * 1024 * 1024)
  stream.leave()
})

test('10 MiB of events pass with flat memory and arrive whole', async () => {
  const event = `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'y'.repeat(10_000) } })}\n\n`
  const upstream = await listen(async (_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    for (let i = 0; i < 1050; i++)
      if (!response.write(event)) await new Promise(resolve => response.once('drain', resolve))
    response.end('data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n')
  })
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  const answer = await send(running, { body: toolCall('big') })
  expect(answer.text.length).toBe(
    1050 * event.length + 'data: {"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n\n'.length,
  )
  expect(await eventually(() => running.lines.find(line => line['event'] === 'mcp.call'))).toMatchObject({
    outcome: 'success',
    bytesOut: answer.text.length,
  })
})

test('a server on a unix socket is reached like any other', async () => {
  const path = `/tmp/mcp-sidecar-test-${process.pid}.sock`
  const server = http.createServer((request, response) => {
    request.resume()
    request.on('end', () =>
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{"jsonrpc":"2.0","id":1,"result":{}}'),
    )
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
  const running = await startTestSidecar(`unix:${path}`)
  cleanups.push(
    () => rmSync(path, { force: true }),
    () => server.close(),
    () => running.stop(),
  )
  expect((await send(running, { body: toolCall('search_docs') })).status).toBe(200)
})

describe('the end of the sidecar', () => {
  test('lets a call finish, tells its connection to close, takes no new one, and loses no line', async () => {
    const upstream = await listen((_request, response) => {
      setTimeout(
        () =>
          response.writeHead(200, { 'Content-Type': 'application/json' }).end('{"jsonrpc":"2.0","id":1,"result":{}}'),
        300,
      )
    })
    const running = await startTestSidecar(upstream.url)
    cleanups.push(() => upstream.stop())
    const call = send(running, { body: toolCall('search_docs') })
    await eventually(() => upstream.seen.length === 1)
    const stopped = running.stop()
    await eventually(() =>
      send(running, { body: toolCall('search_docs') }).then(
        () => false,
        () => true,
      ),
    )
    const answer = await call
    expect([answer.status, answer.headers.connection]).toEqual([200, 'close'])
    expect(await stopped).toBe(0)
    const calls = running.lines.filter(line => line['event'] === 'mcp.call').length
    expect(calls).toBeGreaterThan(0)
    expect(running.lines.at(-1)).toMatchObject({ event: 'sidecar.stopped', stopped: { calls } })
  })

  test('ends event streams at a boundary, and within the grace whatever happens', async () => {
    const { running } = await ticking(15)
    const stream = await openStream(running)
    await eventually(() => stream.text().includes('"n":1'))
    const begun = Date.now()
    expect(await running.stop()).toBe(0)
    expect(Date.now() - begun).toBeLessThan(4000)
    expect(stream.text().endsWith('\n\n')).toBe(true)
    cleanups.splice(1)
  })
})

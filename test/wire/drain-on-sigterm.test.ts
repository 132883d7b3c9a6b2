import { execFileSync } from 'node:child_process'
import http2 from 'node:http2'
import type net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { builtProgram } from '../support/built-program.ts'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, startSessionServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { rawPeer, requestHead, tcpTo } from '../support/raw-peers.ts'
import { send, toolCall } from '../support/request.ts'
import { startScriptedServer } from '../support/scripted-server.ts'
import { type HowToStart, SidecarProcess } from '../support/sidecar-process.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function before<T extends TestUpstream>(
  upstream: T,
  drain: { lameDuck: string; grace: string } = { lameDuck: '0s', grace: '8s' },
  how: HowToStart = {},
): Promise<{ upstream: T; running: SidecarProcess }> {
  const running = await SidecarProcess.start(upstream.url, config => void (config['drain'] = drain), {}, how)
  cleanups.push(
    () => upstream.stop(),
    () => running.end(),
  )
  return { upstream, running }
}

/** Checks the whole log as an auditor would, closing line and all. */
async function verified(running: SidecarProcess): Promise<number> {
  await running.allText()
  const told = execFileSync(process.execPath, [builtProgram(), 'audit', 'verify', running.auditFile]).toString()
  expect(told).toMatch(/ok|intact|complete|verified/i)
  return running.lines().filter(({ event }) => event === 'mcp.call').length
}

function ticking(): Promise<TestUpstream> {
  return listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const timer = setInterval(
      () => response.write(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":${n++}}}\n\n`),
      10,
    )
    response.on('close', () => clearInterval(timer))
  })
}

test('calls in flight are answered, told to go, and each of them is in a complete log', async () => {
  const { upstream, running } = await before(await startScriptedServer())
  const calls = Array.from({ length: 5 }, (_, i) => send(running, { body: toolCall('search_later', {}, i) }))
  await eventually(() => upstream.waiting() === 5)
  running.child.kill('SIGTERM')
  await eventually(async () => JSON.parse((await running.probe('/readyz')).text).status === 'unavailable')
  expect((await running.probe('/livez')).status).toBe(200)
  await eventually(() =>
    rawPeer(running).then(
      ({ socket }) => void socket.destroy(),
      () => true,
    ),
  )
  upstream.release()
  for (const answer of await Promise.all(calls)) {
    expect([answer.status, answer.headers.connection]).toEqual([200, 'close'])
  }
  expect(await running.ended).toBe(0)
  expect(await verified(running)).toBe(5)
  expect(running.lines().at(-1)).toMatchObject({ event: 'sidecar.stopped', stopped: { reason: 'SIGTERM', calls: 5 } })
})

test('an HTTP/1.1 connection that carries nothing is ended at once', async () => {
  const { running } = await before(await startScriptedServer())
  const peer = await rawPeer(running)
  running.child.kill('SIGTERM')
  await peer.closed
  expect(await running.ended).toBe(0)
})

test('a connection whose handshake was under way is served what it asks at once, and ended', async () => {
  const { upstream, running } = await before(await startScriptedServer())
  const held = send(running, { body: toolCall('search_later', {}, 1) })
  await eventually(() => upstream.waiting() === 1)
  const carriers = await Promise.all([tcpTo(running), tcpTo(running)])
  running.child.kill('SIGTERM')
  await eventually(() =>
    tcpTo(running).then(
      socket => void socket.destroy(),
      () => true,
    ),
  )
  const over = (carrier: net.Socket | undefined) => rawPeer(running, 'http/1.1', undefined, carrier)
  const [silent, asking] = await Promise.all([over(carriers[0]), over(carriers[1])])
  asking.socket.write(`${requestHead('POST', { 'Content-Length': '2', 'Content-Type': 'application/json' })}{}`)
  await Promise.all([silent.closed, asking.closed])
  expect(silent.received().toString()).toBe('')
  expect(asking.received().toString()).toMatch(/^HTTP\/1\.1 400 /)
  // The call that is still being answered has not been waited for.
  expect(upstream.waiting()).toBe(1)
  upstream.release()
  expect((await held).status).toBe(200)
  expect(await running.ended).toBe(0)
})

test('an HTTP/2 connection gets GOAWAY, and what it carries is finished', async () => {
  const { upstream, running } = await before(await startScriptedServer())
  const session = http2.connect(`https://localhost:${running.port}`, {
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
  })
  cleanups.push(() => session.destroy())
  const goaway = new Promise<number>(resolve => session.once('goaway', code => resolve(code)))
  const answers = Array.from({ length: 10 }, (_, i) => call2(session, i))
  await eventually(() => upstream.waiting() === 10)
  running.child.kill('SIGTERM')
  expect(await goaway).toBe(0)
  upstream.release()
  expect(await Promise.all(answers)).toEqual(new Array(10).fill(200))
  expect(await running.ended).toBe(0)
  expect(await verified(running)).toBe(10)
})

test.each([
  { name: 'that a GET opened', body: undefined, event: 'mcp.stream.close' },
  { name: 'that answers a call', body: toolCall('count'), event: 'mcp.call' },
])('an event stream $name ends at an event boundary', async ({ body, event }) => {
  const { running } = await before(await ticking())
  const stream = await openStream(running, body === undefined ? {} : { body })
  await eventually(() => stream.text().includes('"n":3'))
  running.child.kill('SIGTERM')
  expect(await stream.ended).toBe('complete')
  expect(stream.text().endsWith('\n\n')).toBe(true)
  expect(await running.ended).toBe(0)
  await verified(running)
  expect(running.lines().find(line => line['event'] === event)).toMatchObject({ error: 'stream ended: draining' })
})

test('a session of the legacy era, its stream and the call that waits in it have their lines', async () => {
  const { running } = await before(await startSessionServer())
  const initialize = await send(running, {
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 0,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'test', version: '1' } },
    }),
  })
  const session = {
    'Mcp-Session-Id': String(initialize.headers['mcp-session-id']),
    'MCP-Protocol-Version': '2025-06-18',
  }
  await send(running, { headers: session, body: '{"jsonrpc":"2.0","method":"notifications/initialized"}' })
  const stream = await openStream(running, { headers: session })
  const counting = openStream(running, { headers: session, body: toolCall('count', { to: 1000, pauseMs: 20 }, 1) })
  expect([stream.status, (await counting).status]).toEqual([200, 200])
  running.child.kill('SIGTERM')
  expect(await Promise.all([stream.ended, (await counting).ended])).toEqual(['complete', 'complete'])
  expect(await running.ended).toBe(0)
  await verified(running)
  expect(running.lines().map(({ event }) => event)).toEqual(
    expect.arrayContaining(['mcp.stream.open', 'mcp.stream.close', 'mcp.call']),
  )
})

test('what is not finished when the grace is over is cut, and the log still says how it ended', async () => {
  const { upstream, running } = await before(await startScriptedServer(), { lameDuck: '0s', grace: '1s' })
  const call = send(running, { body: toolCall('search_later') }).catch(() => 'cut')
  await eventually(() => upstream.waiting() === 1)
  running.child.kill('SIGTERM')
  expect(await call).toBe('cut')
  expect(await running.ended).toBe(0)
  await verified(running)
  expect(running.lines().find(({ event }) => event === 'mcp.call')).toMatchObject({
    outcome: 'aborted',
    error: 'cut off: draining',
  })
})

describe('the lame duck', () => {
  test('is not ready, still serves, also on new connections, and then goes', async () => {
    const { running } = await before(await startScriptedServer(), { lameDuck: '1s', grace: '5s' })
    running.child.kill('SIGTERM')
    await eventually(async () => (await running.probe('/readyz')).status === 503)
    const answer = await send(running, { body: toolCall('search_docs') })
    expect(answer.status).toBe(200)
    expect(await running.ended).toBe(0)
    expect(await verified(running)).toBe(1)
  })

  test('is cut short by a second signal, and so is what is in flight; the log is complete', async () => {
    const { upstream, running } = await before(await startScriptedServer(), { lameDuck: '60s', grace: '60s' })
    const call = send(running, { body: toolCall('search_later') }).catch(() => 'cut')
    await eventually(() => upstream.waiting() === 1)
    running.child.kill('SIGTERM')
    await eventually(() => running.log().includes('lame duck'))
    running.child.kill('SIGTERM')
    expect(await call).toBe('cut')
    expect(await running.ended).toBe(0)
    await verified(running)
    expect(running.lines().at(-1)).toMatchObject({ event: 'sidecar.stopped' })
  })
})

test.each([20, 120, 250, 400, 600])('a signal %i ms after the start ends it, whatever is up by then', async ms => {
  const { running } = await before(await startScriptedServer(), undefined, { isAwaited: false })
  await sleep(ms)
  running.child.kill('SIGTERM')
  const how = await running.ended
  // Before Node itself is up there is nobody who could hear it.
  expect([0, 'SIGTERM']).toContain(how)
  if (how === 0 && (await running.allText()) !== '') {
    await verified(running)
    expect(running.lines().at(-1)).toMatchObject({ event: 'sidecar.stopped' })
  }
})

test('a stdout that takes nothing costs the grace and no more, and how much is lost is said', async () => {
  const { running } = await before(await startScriptedServer(), { lameDuck: '0s', grace: '2s' })
  running.reader.kill('SIGSTOP')
  // More than a pipe holds; those that find it full wait for room, and are refused in the end.
  const answers = Array.from({ length: 400 }, (_, i) =>
    send(running, { body: toolCall('search_docs', { say: 'x'.repeat(400) }, i) }).catch(() => undefined),
  )
  await eventually(async () => /^mcp_sidecar_audit_blocked 1$/m.test((await running.probe('/metrics')).text), 10_000)
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(1)
  expect(running.log()).toMatch(/[1-9]\d* audit lines were not taken by stdout before the end/)
  running.reader.kill('SIGCONT')
  await Promise.all(answers)
})

function call2(session: http2.ClientHttp2Session, id: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/mcp',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'x-user-id': 'ada',
      'x-org-id': 'acme',
      'x-user-scopes': 'mcp.read',
    })
    stream.on('response', headers => resolve(headers[':status'] ?? 0))
    stream.on('error', reject)
    stream.resume()
    stream.end(toolCall('search_later', {}, id))
  })
}

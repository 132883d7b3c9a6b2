import https from 'node:https'
import { afterEach, expect, test, vi } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { send, toolCall, USER_HEADERS } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const LARGE = 'a'.repeat(3_000_000)
const large = (tool = 'search_docs') => toolCall(tool, { query: LARGE })

/** A sidecar with room for two large bodies, before a server that answers when it is told to. */
async function withRoomForTwo(): Promise<{ running: RunningSidecar; arrived: () => number; answerAll(): void }> {
  const memory = vi.spyOn(process, 'constrainedMemory').mockReturnValue(64 * 2 ** 20)
  let arrived = 0
  const open: (() => void)[] = []
  const upstream = await listen((request, response) => {
    request.resume()
    request.on('end', () => {
      arrived++
      open.push(() => {
        response.writeHead(200, { 'Content-Type': 'application/json' })
        response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result: { content: [] } }))
      })
    })
  })
  const running = await startTestSidecar(upstream.url, () => {}, { overload: { memoryShare: () => 0 } })
  cleanups.push(
    () => memory.mockRestore(),
    () => upstream.stop(),
    () => running.stop(),
  )
  return {
    running,
    arrived: () => arrived,
    answerAll() {
      for (const answer of open.splice(0)) answer()
    },
  }
}

test('calls with large bodies wait for their server until their room is full; others go on, and so do they when one is over', async () => {
  const { running, arrived, answerAll } = await withRoomForTwo()
  const first = [send(running, { body: large() }), send(running, { body: large() })]
  await eventually(() => arrived() === 2)

  const third = await send(running, { body: large() })
  expect(third.status).toBe(503)
  expect(third.json.error.data.reason).toBe('sidecar_overloaded')
  expect(third.headers['retry-after']).toBe('1')

  const small = send(running, { body: toolCall('get_user') })
  await eventually(() => arrived() === 3)
  answerAll()
  for (const { status } of await Promise.all([...first, small])) expect(status).toBe(200)

  const next = send(running, { body: large() })
  await eventually(() => arrived() === 4)
  answerAll()
  expect((await next).status).toBe(200)
})

test('what is refused, and what its client gives up, leaves its room to others', async () => {
  const { running, arrived, answerAll } = await withRoomForTwo()
  for (let i = 0; i < 4; i++) {
    expect((await send(running, { body: large('delete_row') })).json.error.code).toBe(403)
    expect((await send(running, { body: `${large()}}` })).status).toBe(400)
    // Before all of the body is there, and while the server works.
    await leave(running, large().slice(0, 2_000_000), () => true)
    await leave(running, large(), () => arrived() === i + 1)
  }
  await eventually(() => running.lines.filter(({ outcome }) => outcome === 'aborted').length >= 4)
  const last = [send(running, { body: large() }), send(running, { body: large() })]
  await eventually(() => arrived() === 6)
  answerAll()
  for (const { status } of await Promise.all(last)) expect(status).toBe(200)
})

/** Sends as much of a large call, and leaves when it is time. */
async function leave(running: RunningSidecar, part: string, isTime: () => boolean): Promise<void> {
  const request = https.request({
    host: '127.0.0.1',
    port: running.port,
    servername: 'localhost',
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
    method: 'POST',
    path: '/mcp',
    agent: false,
    headers: {
      ...{ Host: 'localhost', 'Content-Type': 'application/json', 'Content-Length': large().length },
      ...USER_HEADERS,
    },
  })
  request.on('error', () => {})
  await new Promise<void>(resolve => request.write(part, () => resolve()))
  await eventually(isTime)
  request.destroy()
}

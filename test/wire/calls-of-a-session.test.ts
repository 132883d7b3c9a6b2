import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { type Answer, send, toolCall } from '../support/request.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

/**
 * In a session the answer to a call may come on another stream, so the end of its HTTP answer need not be its own. Here
 * are the ways in which nothing comes any more: every call ends all the same, and gives back what it holds.
 */
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const SESSION = { 'Mcp-Session-Id': 's-1', 'MCP-Protocol-Version': '2025-11-25' }
const INITIALIZE = JSON.stringify({
  ...{ jsonrpc: '2.0', id: 0, method: 'initialize' },
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } },
})
const json = (response: ServerResponse, status: number, body: unknown, headers = {}): void =>
  void response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
const result = (id: unknown): object => ({ jsonrpc: '2.0', id, result: { content: [] } })

/** A server with one session whose answers to tool calls are the test's; whoever holds the one slot keeps all others out. */
async function session(
  answer: (response: ServerResponse, call: { id: unknown; say: string }) => void,
  change: (config: Record<string, unknown>) => void = () => {},
  ownStream = '',
): Promise<{ running: RunningSidecar; call(say: string, id?: number): Promise<Answer> }> {
  const upstream = await listen((request, response) => {
    if (request.method === 'DELETE') return void response.writeHead(200).end()
    if (request.method === 'GET')
      return void response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write(ownStream)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString())
      if (method === 'initialize') return json(response, 200, result(id), { 'Mcp-Session-Id': 's-1' })
      if (id === undefined) return void response.writeHead(202).end()
      answer(response, { id, say: params.arguments.say })
    })
  })
  const running = await startTestSidecar(upstream.url, config => {
    config['quotas'] = [{ name: 'slots', key: 'user', concurrent: 1 }]
    change(config)
  })
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  expect((await send(running, { body: INITIALIZE })).status).toBe(200)
  const call = (say: string, id = 7): Promise<Answer> =>
    send(running, { headers: SESSION, body: toolCall('search_docs', { say }, id) })
  return { running, call }
}

/** The lines that close calls of tools, in order. */
const ends = (running: RunningSidecar): AuditLine[] =>
  running.lines.filter(({ event, mcp }) => event === 'mcp.call' && mcp.method === 'tools/call')
const outcomes = (running: RunningSidecar): unknown[] => ends(running).map(({ outcome, status }) => [outcome, status])

describe('a call ends', () => {
  test('when the server has forgotten the session, under whatever id it says so', async () => {
    const { running, call } = await session((response, { id, say }) =>
      say === 'gone'
        ? json(response, 404, { jsonrpc: '2.0', id: 'server-error', error: { code: -32600, message: 'no session' } })
        : json(response, 200, result(id)),
    )
    expect((await call('gone')).status).toBe(404)
    await eventually(() => ends(running).length === 1)
    expect(outcomes(running)).toEqual([['error', 404]])
    await send(running, { body: INITIALIZE })
    expect((await call('hello')).json.result).toBeDefined()
  })

  test('when its session is ended while its stream is open', async () => {
    let stream: ServerResponse | undefined
    const { running, call } = await session(response => {
      stream = response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      stream.write(': here\n\n')
    })
    const answer = call('wait')
    await eventually(() => stream !== undefined)
    expect((await send(running, { method: 'DELETE', headers: SESSION })).status).toBe(200)
    stream?.end()
    expect((await answer).status).toBe(200)
    await eventually(() => ends(running).length === 1)
    expect(ends(running)[0]).toMatchObject({ outcome: 'aborted', error: 'its session has ended' })
  })

  test('when its id is used again before its stream ends without an answer', async () => {
    const streams: ServerResponse[] = []
    const { running, call } = await session(
      response => {
        streams.push(response.writeHead(200, { 'Content-Type': 'text/event-stream' }))
        response.write(': here\n\n')
      },
      config => {
        delete config['quotas']
      },
    )
    const answers = [call('one')]
    await eventually(() => streams.length === 1)
    answers.push(call('two'))
    await eventually(() => streams.length === 2)
    streams[0]?.end()
    streams[1]?.end(`data: ${JSON.stringify(result(7))}\n\n`)
    await Promise.all(answers)
    await eventually(() => ends(running).length === 2)
    expect(ends(running).map(({ outcome, error }) => [outcome, error])).toEqual(
      expect.arrayContaining([
        ['aborted', 'its id was used again'],
        ['success', undefined],
      ]),
    )
  })

  test('as long after its stream as its first byte could have taken, when nothing comes elsewhere', async () => {
    const { running, call } = await session(
      response => {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        response.write('id: e1\ndata:\n\n')
        setTimeout(() => response.end(), 900)
      },
      config => {
        config['upstream'] = { ...(config['upstream'] as object), timeouts: { firstByte: '500ms' } }
      },
    )
    expect((await call('poll')).status).toBe(200)
    await eventually(() => ends(running).length === 1)
    expect(ends(running)[0]).toMatchObject({
      outcome: 'aborted',
      error: 'no answer came on any stream of its session',
    })
  })

  test('with its own answer, however much later than its first byte it comes', async () => {
    const { running, call } = await session(
      (response, { id }) => {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        response.write('id: e1\ndata:\n\n')
        setTimeout(() => response.end(`data: ${JSON.stringify(result(id))}\n\n`), 900)
      },
      config => {
        config['upstream'] = { ...(config['upstream'] as object), timeouts: { firstByte: '500ms' } }
      },
    )
    expect((await call('late')).text).toContain('"result"')
    await eventually(() => ends(running).length === 1)
    expect(outcomes(running)).toEqual([['success', 200]])
  })

  test('with an error of HTTP, at once: slots and breaker hear of it', async () => {
    let asked = 0
    const { running, call } = await session(
      response => {
        asked++
        json(response, 500, { detail: 'out of order' })
      },
      config => {
        config['upstream'] = { ...(config['upstream'] as object), breaker: { minimum: 5 } }
      },
    )
    const reasons: unknown[] = []
    for (let id = 1; id <= 8; id++) reasons.push((await call('fail', id)).json.error?.data?.reason)
    expect(reasons.slice(-2)).toEqual(['upstream_breaker_open', 'upstream_breaker_open'])
    expect(outcomes(running).slice(0, asked)).toEqual(Array.from({ length: asked }, () => ['error', 500]))
  })
})

test('a breaker is closed by a server that is well and has lost its sessions', async () => {
  let isBroken = true
  const { running, call } = await session(
    (response, { id, say }) => {
      if (isBroken) return json(response, 503, {})
      if (say === 'old session') return json(response, 404, { jsonrpc: '2.0', id: 'server-error', error: {} })
      json(response, 200, result(id))
    },
    config => {
      config['upstream'] = { ...(config['upstream'] as object), breaker: { minimum: 5, openFor: '300ms' } }
    },
  )
  for (let id = 1; id <= 6; id++) await call('fail', id)
  isBroken = false
  expect(
    await eventually(async () => {
      const { status } = await call('old session', 8)
      return status === 404 ? status : undefined
    }),
  ).toBe(404)
  await send(running, { body: INITIALIZE })
  expect((await call('hello', 9)).json.result).toBeDefined()
})

test('the line of `initialize` names the session that it began, as all others do', async () => {
  const { running, call } = await session((response, { id }) => json(response, 200, result(id)))
  await call('hello')
  await eventually(() => ends(running).length === 1)
  const begun = running.lines.find(({ mcp }) => mcp?.method === 'initialize')
  expect(begun?.['mcp'].session).toBe(ends(running)[0]?.['mcp'].session)
  expect(begun?.['mcp'].session).toMatch(/^[^s]/)
})

describe('a call whose client leaves a stream that can be resumed', () => {
  const event = (id: string, body?: unknown): string =>
    `id: ${id}\ndata: ${body === undefined ? '' : JSON.stringify(body)}\n\n`

  async function opened(change?: (config: Record<string, unknown>) => void, more = {}) {
    const { running, call } = await session(
      (response, { id, say }) => {
        if (say !== 'wait') return json(response, 200, result(id))
        response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write(event('e-1'))
      },
      change,
      event('e-2', result(7)),
    )
    const body = toolCall('search_docs', { say: 'wait', ...more }, 7)
    const stream = await openStream(running, { headers: SESSION, body })
    await eventually(() => stream.text().includes('e-1'))
    return { running, call, stream }
  }

  test('goes on, and ends with the answer that he fetches', async () => {
    const { running, call, stream } = await opened()
    stream.leave()
    expect((await call('meanwhile', 8)).status).toBe(200)
    expect(outcomes(running)).toEqual([['success', 200]])
    const rest = await openStream(running, { headers: { ...SESSION, 'Last-Event-ID': 'e-1' } })
    cleanups.push(() => rest.leave())
    await eventually(() => ends(running).length === 2)
    await eventually(() => rest.text().includes('e-2'))
    expect(ends(running)[1]).toMatchObject({ outcome: 'success', mcp: { rpcId: 7 } })
    expect(ends(running)[1]).not.toHaveProperty('error')
  })

  test('goes on as well when the stream is ended for its age', async () => {
    const { running, stream } = await opened(config => void (config['limits'] = { streamAge: '1s' }))
    expect(await stream.ended).toBe('complete')
    const rest = await openStream(running, { headers: { ...SESSION, 'Last-Event-ID': 'e-1' } })
    cleanups.push(() => rest.leave())
    await eventually(() => ends(running).length === 1)
    expect(outcomes(running)).toEqual([['success', 200]])
  })

  test('is not waited for when its body is large: nothing bounds how many he may leave behind', async () => {
    const { running, stream } = await opened(undefined, { much: 'x'.repeat(70_000) })
    stream.leave()
    await eventually(() => ends(running).length === 1)
    expect(ends(running)[0]).toMatchObject({ outcome: 'aborted', error: 'the client left' })
  })

  test('and who cancels it: it is over, and its slot is free', async () => {
    const { running, call, stream } = await opened()
    stream.leave()
    const cancelled = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 7 } }
    await send(running, { headers: SESSION, body: JSON.stringify(cancelled) })
    const line = await eventually(() => ends(running).find(({ outcome }) => outcome === 'aborted'))
    expect(line?.['error']).toBe('the client left; its client has cancelled it')
    expect((await call('hello', 8)).json.result).toBeDefined()
  })
})

describe('a list', () => {
  const list = { jsonrpc: '2.0', id: 7, result: { tools: [{ name: 'search_docs' }, { name: 'drop_database' }] } }
  const LIST = JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/list' })

  test.each([200, 202, 203, 404])(
    'is filtered under status %i, and its line has the bytes that were sent',
    async status => {
      const upstream = await listen((request, response) => {
        request.resume()
        json(response, status, list)
      })
      const running = await startTestSidecar(upstream.url)
      cleanups.push(
        () => upstream.stop(),
        () => running.stop(),
      )
      const answer = await send(running, { body: LIST })
      expect([answer.status, answer.json.result.tools]).toEqual([status, [{ name: 'search_docs' }]])
      const line = await eventually(() => running.lines.find(({ event }) => event === 'mcp.call'))
      expect(line?.['bytesOut']).toBe(Buffer.byteLength(answer.text))
    },
  )

  test('that was only accepted is filtered where it comes', async () => {
    const { upstream, stream } = await acceptingServer()
    const running = await startTestSidecar(upstream.url)
    cleanups.push(
      () => upstream.stop(),
      () => running.stop(),
    )
    const opened = await openStream(running, { path: '/sse', headers: { Accept: 'text/event-stream' } })
    cleanups.push(() => opened.leave())
    await eventually(() => opened.text().includes('sessionId=s1'))
    const accepted = await send(running, { path: '/messages?sessionId=s1', body: LIST })
    expect([accepted.status, accepted.text]).toEqual([202, 'Accepted'])
    stream().write(`data: ${JSON.stringify(list)}\n\n`)
    await eventually(() => opened.text().includes('search_docs'))
    expect(opened.text()).not.toContain('drop_database')
    // The line comes with the answer, and counts what its own HTTP answer carried.
    const line = await eventually(() => running.lines.find(({ event }) => event === 'mcp.call'))
    expect(line).toMatchObject({ outcome: 'success', status: 202, bytesOut: 'Accepted'.length })
  })
})

async function acceptingServer() {
  let stream: ServerResponse | undefined
  const upstream = await listen((request, response) => {
    if (request.method === 'GET') {
      stream = response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      stream.write('event: endpoint\ndata: /messages?sessionId=s1\n\n')
      return
    }
    request.resume()
    request.on('end', () => response.writeHead(202).end('Accepted'))
  })
  return { upstream, stream: () => stream as ServerResponse }
}

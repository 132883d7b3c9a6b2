import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { mtlsFetch } from '../support/mcp-clients.ts'
import { startSessionServer, startSseServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import type { TestIdentity } from '../support/pki.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ALICE = { 'x-user-id': 'alice', 'x-org-id': 'acme', 'x-user-scopes': 'mcp.read' }
const BOB = { ...ALICE, 'x-user-id': 'bob' }
const ALICE_ELSEWHERE = { ...ALICE, 'x-org-id': 'other' }

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

/** One principal: a certificate and what its gateway forwards. */
interface Principal {
  send(method: string, path: string, headers?: Record<string, string>, body?: object): Promise<Answer>
  open(path: string, headers?: Record<string, string>): Promise<Response>
}

/** One wildcard entry names both gateways. */
async function begin(upstream: TestUpstream): Promise<RunningSidecar> {
  const running = await startTestSidecar(upstream.url, config => {
    const [entry] = config['peers'] as { match: object; mayAssert: { orgs: string[] } }[]
    if (entry === undefined) throw new Error('there is one')
    entry.match = { uri: 'spiffe://example.org/ns/gateway/sa/*' }
    entry.mayAssert.orgs = ['*']
    const { rules } = config['policy'] as { rules: object[] }
    rules.push({ id: 'tasks', effect: 'allow', methods: ['tasks/*'] })
  })
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return running
}

function principal(running: RunningSidecar, identity: TestIdentity, user: Record<string, string>): Principal {
  const { fetch, close } = mtlsFetch({ port: running.port, ca: running.pki.ca.cert, identity, headers: user })
  cleanups.push(close)
  const base = `https://localhost:${running.port}`
  return {
    async send(method, path, headers = {}, body) {
      const response = await fetch(`${base}${path}`, {
        method,
        headers: {
          accept: 'application/json, text/event-stream',
          ...(body ? { 'content-type': 'application/json' } : {}),
          ...headers,
        },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      return { status: response.status, headers: response.headers, text: await response.text() }
    },
    open: (path, headers = {}) => fetch(`${base}${path}`, { headers: { accept: 'text/event-stream', ...headers } }),
  }
}

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: { sampling: {} }, clientInfo: { name: 'c', version: '1' } },
}
const call = (name: string, args: object, id = 1): object => ({
  jsonrpc: '2.0',
  id,
  method: 'tools/call',
  params: { name, arguments: args },
})

/** The refusal without what differs by request. */
function shape({ status, text }: Answer): string {
  return `${status} ${text.replace(/"requestId":"[^"]*"/, '"requestId":"…"')}`
}

/** Lines may be coalesced when caller and reason are the same; they are never left out. */
function refusedLines(running: RunningSidecar): AuditLine[] {
  return running.lines.filter(line => line['event'] === 'mcp.refused')
}

describe('a session of Streamable HTTP', () => {
  async function alicesSession(): Promise<{
    running: RunningSidecar
    upstream: TestUpstream
    alice: Principal
    session: string
    eventId: string
  }> {
    const upstream = await startSessionServer()
    const running = await begin(upstream)
    const alice = principal(running, running.pki.gateway, ALICE)
    const opened = await alice.send('POST', '/mcp', {}, INITIALIZE)
    const session = opened.headers.get('mcp-session-id') ?? ''
    expect(session).not.toBe('')
    const headers = { 'mcp-session-id': session }
    await alice.send('POST', '/mcp', headers, { jsonrpc: '2.0', method: 'notifications/initialized' })
    const counted = await alice.send('POST', '/mcp', headers, call('count', { to: 2 }))
    const eventId = /^id: ?(.+)$/m.exec(counted.text)?.[1] ?? ''
    expect(eventId).not.toBe('')
    return { running, upstream, alice, session, eventId }
  }

  test.each([
    { thief: 'another user', identity: 'gateway' as const, user: BOB },
    { thief: 'the same name in another organisation', identity: 'gateway' as const, user: ALICE_ELSEWHERE },
    { thief: 'the same user behind another peer of the same entry', identity: 'secondGateway' as const, user: ALICE },
  ])('is of no use to $thief', async ({ identity, user }) => {
    const { running, upstream, alice, session, eventId } = await alicesSession()
    const thief = principal(running, running.pki[identity], user)
    const reached = upstream.seen.length
    const stolen = { 'mcp-session-id': session }
    const madeUp = { 'mcp-session-id': '5d0f2f0e-1111-4222-8333-444455556666' }
    const notification = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } }
    const response = { jsonrpc: '2.0', id: 0, result: {} }

    for (const [method, extra, body] of [
      ['POST', {}, call('search_docs', { query: 'x' })],
      ['POST', {}, { jsonrpc: '2.0', id: 2, method: 'tools/list' }],
      ['POST', {}, notification],
      ['POST', {}, response],
      ['GET', {}, undefined],
      ['GET', { 'last-event-id': eventId }, undefined],
      ['DELETE', {}, undefined],
    ] as const) {
      const answer = await thief.send(method, '/mcp', { ...stolen, ...extra }, body)
      const unknown = await thief.send(method, '/mcp', { ...madeUp, ...extra }, body)
      expect(answer.status, `${method} ${JSON.stringify(body)}`).toBe(404)
      expect(shape(answer)).toBe(shape(unknown))
    }
    // An event id alone, and one in a session of the thief's own.
    const own = await thief.send('POST', '/mcp', {}, INITIALIZE)
    const mine = own.headers.get('mcp-session-id') ?? ''
    const replay = await thief.send('GET', '/mcp', { 'mcp-session-id': mine, 'last-event-id': eventId })
    expect(replay.status).toBe(404)
    expect((await thief.send('GET', '/mcp', { 'last-event-id': eventId })).status).toBe(404)

    expect(upstream.seen.length).toBe(reached + 1)
    const lines = await eventually(() => {
      const refused = refusedLines(running).filter(line => line['decision']?.reason === 'session_unknown')
      return refused.length > 0 ? refused : undefined
    })
    expect(lines[0]).toMatchObject({ user: { id: user['x-user-id'] }, decision: { reason: 'session_unknown' } })
    expect(JSON.stringify(running.lines)).not.toContain(session)

    const still = await alice.send('POST', '/mcp', stolen, call('search_docs', { query: 'tea' }))
    expect(still.text).toContain('found: tea')
  })

  test('survives the rotation of the certificate of its peer', async () => {
    const { running, session } = await alicesSession()
    const renewed = await running.pki.mint('gateway-renewed', {
      cn: 'kong',
      uris: ['spiffe://example.org/ns/gateway/sa/kong'],
    })
    const alice = principal(running, renewed, ALICE)
    const answer = await alice.send(
      'POST',
      '/mcp',
      { 'mcp-session-id': session },
      call('search_docs', { query: 'tea' }),
    )
    expect(answer.text).toContain('found: tea')
  })

  test('is over when its owner has ended it', async () => {
    const { alice, session } = await alicesSession()
    const headers = { 'mcp-session-id': session }
    expect((await alice.send('DELETE', '/mcp', headers)).status).toBe(200)
    expect((await alice.send('POST', '/mcp', headers, call('search_docs', { query: 'x' }))).status).toBe(404)
  })

  test('is unknown to a sidecar that has started anew: nothing is adopted', async () => {
    const { upstream, session } = await alicesSession()
    const again = await begin(upstream)
    const alice = principal(again, again.pki.gateway, ALICE)
    const answer = await alice.send('POST', '/mcp', { 'mcp-session-id': session }, call('search_docs', { query: 'x' }))
    expect(answer.status).toBe(404)
    expect(answer.text).toContain('-32001')
  })
})

describe('a session of the older SSE transport', () => {
  test('takes messages from its owner only', async () => {
    const upstream = await startSseServer()
    const running = await begin(upstream)
    const alice = principal(running, running.pki.gateway, ALICE)
    const stream = await alice.open('/sse')
    const reader = (stream.body as ReadableStream<Uint8Array>).getReader()
    const first = Buffer.from((await reader.read()).value ?? []).toString()
    const endpoint = /data: ?(\S+)/.exec(first)?.[1] ?? ''
    expect(endpoint).toContain('sessionId=')

    const reached = upstream.seen.length
    for (const thief of [
      principal(running, running.pki.gateway, BOB),
      principal(running, running.pki.secondGateway, ALICE),
    ]) {
      expect((await thief.send('POST', endpoint, {}, INITIALIZE)).status).toBe(404)
    }
    expect(upstream.seen.length).toBe(reached)
    expect((await alice.send('POST', endpoint, {}, INITIALIZE)).status).toBe(202)
    await reader.cancel()
  })
})

/** Answers every tools/call with a task, in the form of the era, and every tasks/* with what was asked. */
async function startTaskServer(): Promise<TestUpstream> {
  let tasks = 0
  const seen: TestUpstream['seen'] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const message = JSON.parse(Buffer.concat(chunks).toString())
      seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.rawHeaders })
      const isModern = message.params?._meta !== undefined
      const task = {
        taskId: `task-${++tasks}`,
        status: 'working',
        createdAt: '2026-11-20T00:00:00Z',
        lastUpdatedAt: '2026-11-20T00:00:00Z',
        ttl: null,
      }
      const created = isModern ? { resultType: 'task', ...task } : { task }
      const result =
        message.method === 'tools/call' ? created : { resultType: 'complete', secret: message.params.taskId }
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, result }))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    seen,
    cancelled: [],
    stop: () => {
      server.closeAllConnections()
      return new Promise(resolve => server.close(() => resolve()))
    },
  }
}

describe.each(['modern', 'legacy'] as const)('a task (%s)', era => {
  const message = (method: string, params: Record<string, unknown>, name: string): [Record<string, string>, object] => {
    const meta = {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
      'io.modelcontextprotocol/clientInfo': { name: 'c', version: '1' },
    }
    const headers: Record<string, string> =
      era === 'modern'
        ? { 'mcp-protocol-version': '2026-07-28', 'mcp-method': method, 'mcp-name': name }
        : { 'mcp-protocol-version': '2025-11-25' }
    return [headers, { jsonrpc: '2.0', id: 1, method, params: era === 'modern' ? { ...params, _meta: meta } : params }]
  }

  test('is its owner’s, whoever else knows its id', async () => {
    const upstream = await startTaskServer()
    const running = await begin(upstream)
    const alice = principal(running, running.pki.gateway, ALICE)
    const created = await alice.send(
      'POST',
      '/mcp',
      ...message('tools/call', { name: 'search_docs', arguments: { query: 'x' } }, 'search_docs'),
    )
    expect(created.text).toContain('task-1')

    const methods =
      era === 'modern' ? ['tasks/get', 'tasks/update', 'tasks/cancel'] : ['tasks/get', 'tasks/result', 'tasks/cancel']
    const reached = upstream.seen.length
    for (const thief of [
      principal(running, running.pki.gateway, BOB),
      principal(running, running.pki.gateway, ALICE_ELSEWHERE),
      principal(running, running.pki.secondGateway, ALICE),
    ]) {
      for (const method of methods) {
        const stolen = await thief.send('POST', '/mcp', ...message(method, { taskId: 'task-1' }, 'task-1'))
        const unknown = await thief.send('POST', '/mcp', ...message(method, { taskId: 'task-9' }, 'task-9'))
        expect(stolen.status, method).toBe(200)
        expect(JSON.parse(stolen.text).error, method).toMatchObject({ code: -32602, message: 'Task not found' })
        expect(shape(stolen)).toBe(shape(unknown))
        expect(stolen.text).not.toContain('secret')
      }
    }
    expect(upstream.seen.length).toBe(reached)
    const got = await alice.send('POST', '/mcp', ...message('tasks/get', { taskId: 'task-1' }, 'task-1'))
    expect(got.text).toContain('"secret":"task-1"')
    await eventually(() => refusedLines(running).find(line => line['decision']?.reason === 'task_unknown'))
  })
})

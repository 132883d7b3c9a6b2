import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen, startSseServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { send, toolCall, USER_HEADERS } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function inFrontOf(
  upstream: TestUpstream,
  change: (config: Record<string, unknown>) => void = () => {},
): Promise<RunningSidecar> {
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return running
}

/** A server with more than MCP on it. */
function startSite(): Promise<TestUpstream> {
  return listen((request, response) => {
    if (request.url === '/missing') return void response.writeHead(405).end()
    response.writeHead(200, { 'Content-Type': 'text/html' }).end('<h1>all our customers</h1>')
  })
}

const everything = (config: Record<string, unknown>): void => {
  config['upstream'] = { ...(config['upstream'] as object), paths: ['/**'] }
}

describe('GET opens event streams and nothing else', () => {
  test('a page that the server sends to whoever asks for a stream is not passed on', async () => {
    const running = await inFrontOf(await startSite(), everything)
    for (const accept of ['text/event-stream', 'text/html, text/event-stream;q=0']) {
      const answer = await send(running, { method: 'GET', path: '/customers', headers: { Accept: accept } })
      expect(answer.status).toBe(502)
      expect(answer.text).not.toContain('customers')
      expect(answer.json.error.data.reason).toBe('upstream_answer_invalid')
    }
  })

  test('a server that has no streams says so itself', async () => {
    const running = await inFrontOf(await startSite(), everything)
    const answer = await send(running, { method: 'GET', path: '/missing', headers: { Accept: 'text/event-stream' } })
    expect(answer.status).toBe(405)
  })
})

describe('DELETE ends one’s own session and nothing else', () => {
  test('without a session it is not sent on', async () => {
    const upstream = await startSite()
    const running = await inFrontOf(upstream, everything)
    const answer = await send(running, { method: 'DELETE', path: '/customers/7' })
    expect([answer.status, answer.headers.allow, answer.json.error.data.reason]).toEqual([
      405,
      'POST, GET',
      'request_method_not_allowed',
    ])
    expect(upstream.seen).toEqual([])
  })
})

describe('a session of HTTP+SSE that somebody else was given', () => {
  test.each(['sessionId[]=', 'sessionId%5B0%5D=', 'x=1;sessionId=', 'sessionId='])(
    'is not reached by ?%s',
    async name => {
      const upstream = await startSseServer()
      const running = await inFrontOf(upstream)
      const stream = await openStream(running, { path: '/sse', headers: { Accept: 'text/event-stream' } })
      const session = await eventually(() => /sessionId=([\w-]+)/.exec(stream.text())?.[1])
      const stolen = await send(running, {
        path: `/messages?${name}${session}`,
        headers: { ...USER_HEADERS, 'X-User-ID': 'eve' },
        body: toolCall('search_docs', { query: 'x' }),
      })
      expect([400, 404]).toContain(stolen.status)
      expect(upstream.seen.map(({ method }) => method)).toEqual(['GET'])
      stream.leave()
    },
  )
})

test('an expectation that nobody knows does not keep a call from its checks and its line', async () => {
  const upstream = await startSite()
  const running = await inFrontOf(upstream)
  const answer = await send(running, { headers: { Expect: 'the-unexpected' }, body: toolCall('delete_row') })
  expect([answer.status, answer.json.error.data.reason]).toEqual([200, 'tool_not_permitted'])
  expect(upstream.seen).toEqual([])
  await eventually(() => running.lines.some(line => line['decision']?.reason === 'tool_not_permitted'))
})

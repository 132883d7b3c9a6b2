import http2 from 'node:http2'
import net from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { toolCall, USER_HEADERS } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const RESULT = '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'

/** An upstream that answers with this status line and these header lines, and the answer over HTTP/2. */
async function answered(statusLine: string, lines: readonly string[]): Promise<{ status: number; text: string }> {
  const server = net.createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', () =>
      socket.write(
        `HTTP/1.1 ${statusLine}\r\nContent-Type: application/json\r\n${lines.map(line => `${line}\r\n`).join('')}Content-Length: ${RESULT.length}\r\n\r\n${RESULT}`,
      ),
    )
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const running = await startTestSidecar(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`)
  cleanups.push(
    () => server.close(),
    () => running.stop(),
  )
  return overHttp2(running)
}

function overHttp2(running: RunningSidecar): Promise<{ status: number; text: string }> {
  const session = http2.connect(`https://localhost:${running.port}`, {
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
    maxHeaderListPairs: 1000,
    settings: { maxHeaderListSize: 1 << 20 },
  })
  cleanups.push(() => session.destroy())
  return new Promise((resolve, reject) => {
    session.on('error', reject)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/mcp',
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...USER_HEADERS,
    })
    let status = 0
    let text = ''
    stream.on('response', headers => {
      status = Number(headers[':status'])
    })
    stream.on('data', chunk => {
      text += String(chunk)
    })
    stream.on('error', reject)
    stream.on('close', () => resolve({ status, text }))
    stream.end(toolCall('search_docs'))
  })
}

test.each([
  { name: 'a second Content-Type', lines: ['Content-Type: text/plain'] },
  {
    name: 'X-Content-Type-Options twice',
    lines: ['X-Content-Type-Options: nosniff', 'X-Content-Type-Options: nosniff'],
  },
  { name: 'ETag twice', lines: ['ETag: "a"', 'ETag: "b"'] },
  { name: 'HTTP2-Settings', lines: ['HTTP2-Settings: AAMAAABkAAQAAP__'] },
  { name: 'a name that objects are made by', lines: ['__proto__: x', 'constructor: y'] },
  { name: 'bytes beyond ASCII', lines: ['X-Name: \u00e4\u00ff'] },
])('an answer with $name reaches a client of HTTP/2', async ({ lines }) => {
  expect(await answered('200 OK', lines)).toEqual({ status: 200, text: RESULT })
})

test.each(['600 Odd', '999 Odder'])('an answer with the status %s becomes a refusal', async statusLine => {
  const answer = await answered(statusLine, [])
  expect(answer.status).toBe(502)
  expect(JSON.parse(answer.text)).toMatchObject({ id: 1, error: { data: { reason: 'upstream_answer_invalid' } } })
})

test.each([
  { name: 'in one line', lines: [`X-Large: ${'x'.repeat(60_000)}`] },
  { name: 'in many', lines: Array.from({ length: 250 }, (_, i) => `X-Large-${i}: ${'x'.repeat(240)}`) },
])('a head as large as is taken from a server, $name, reaches a client of HTTP/2', async ({ lines }) => {
  expect(await answered('200 OK', lines)).toEqual({ status: 200, text: RESULT })
})

test('a larger head than is taken from a server becomes a refusal', async () => {
  const answer = await answered('200 OK', [`X-Large: ${'x'.repeat(66_000)}`])
  expect(answer.status).toBe(502)
  expect(JSON.parse(answer.text)).toMatchObject({ id: 1, error: { data: { reason: 'upstream_answer_invalid' } } })
})

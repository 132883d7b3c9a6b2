import { appendFileSync } from 'node:fs'
import http, { type ServerResponse } from 'node:http'

/**
 * An MCP server that misbehaves by the name of the tool, as a process of its own that can be killed and frozen. Every
 * request id that reaches it is in a file before anything is answered, so that it survives whatever happens.
 *
 * argv: port, file.
 */
const [port, seenFile] = process.argv.slice(2) as [string, string]

/** Connections that are closed, unannounced, unless another request comes first. */
const closing = new WeakMap<object, NodeJS.Timeout>()

const server = http.createServer(async (request, response) => {
  clearTimeout(closing.get(request.socket))
  appendFileSync(seenFile, `${String(request.headers['x-request-id'])}\n`)
  if (request.method === 'GET') return stream(response)
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const { id, params } = JSON.parse(Buffer.concat(chunks).toString()) as { id: string; params: { name: string } }
  const result = JSON.stringify({ jsonrpc: '2.0', id, result: { content: [{ type: 'text', text: 'found' }] } })
  switch (params.name) {
    case 'search_slow':
      return void setTimeout(() => plain(response, result), Math.random() * 300)
    case 'search_reset':
      // Before the head, in the middle of the body, or between the events of a stream.
      if (Math.random() < 0.4) return request.socket.resetAndDestroy()
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': '200000', 'X-Upstream': '1' })
      response.write('x'.repeat(100_000))
      return void setTimeout(() => request.socket.resetAndDestroy(), 5)
    case 'search_garbage':
      return void request.socket.end(GARBAGE[Math.floor(Math.random() * GARBAGE.length)] as string)
    case 'search_storm':
      return void request.socket.end('HTTP/1.1 100 Continue\r\n\r\n'.repeat(10_000))
    case 'search_close':
      plain(response, result)
      return void response.on('finish', () =>
        closing.set(
          request.socket,
          setTimeout(() => request.socket.destroy(), 20),
        ),
      )
    case 'search_fault':
      return void response.writeHead(500, { 'X-Upstream': '1' }).end('out of order')
    case 'count':
      return events(response, result)
    default:
      return plain(response, result)
  }
})
server.keepAliveTimeout = 2000
server.listen(Number(port), '127.0.0.1')

const GARBAGE = [
  'hello\r\n\r\n',
  'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
  'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc',
  '\u0000\u0001\u0002',
]

function plain(response: ServerResponse, body: string): void {
  const length = Buffer.byteLength(body)
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': length, 'X-Upstream': '1' }).end(body)
}

function events(response: ServerResponse, result: string): void {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Upstream': '1' })
  for (let i = 0; i < 3; i++) response.write('data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n')
  response.end(`data: ${result}\n\n`)
}

function stream(response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Upstream': '1' })
  const timer = setInterval(() => response.write(': alive\n\n'), 100)
  response.on('close', () => clearInterval(timer))
}

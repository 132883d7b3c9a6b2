import http from 'node:http'
import { answerFor } from './answers.ts'

/**
 * A stand-in for an MCP server that costs next to nothing: any call gets a result of its own size at once, and a GET an
 * event stream that says one thing and is silent from then on.
 */
const server = http.createServer({ keepAliveTimeout: 60_000, noDelay: true }, (request, response) => {
  if (request.method === 'GET') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    response.write(': here\n\n')
    return
  }
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  request.on('end', () => {
    const answer = answerFor(bytes)
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length })
    response.end(answer)
  })
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`listening ${typeof address === 'object' ? address?.port : ''}\n`)
})

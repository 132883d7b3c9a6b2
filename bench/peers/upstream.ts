import http from 'node:http'

/** A stand-in for an MCP server that costs next to nothing: any call gets one short JSON-RPC result at once. */
const answer = Buffer.from(
  JSON.stringify({
    jsonrpc: '2.0',
    id: 7,
    result: { content: [{ type: 'text', text: 'three documents found' }], isError: false },
  }),
)

const server = http.createServer({ keepAliveTimeout: 60_000, noDelay: true }, (request, response) => {
  request.resume()
  request.on('end', () => {
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length })
    response.end(answer)
  })
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`listening ${typeof address === 'object' ? address?.port : ''}\n`)
})

import { readFileSync } from 'node:fs'
import https from 'node:https'

/** The floor: a bare Node https server with client certificates that reads the body and answers by itself. */
const [port, ca, cert, key] = process.argv.slice(2) as [string, string, string, string]
const answer = Buffer.from(
  JSON.stringify({
    jsonrpc: '2.0',
    id: 7,
    result: { content: [{ type: 'text', text: 'three documents found' }], isError: false },
  }),
)
const server = https.createServer(
  {
    ca: readFileSync(ca),
    cert: readFileSync(cert),
    key: readFileSync(key),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
  },
  (request, response) => {
    request.resume()
    request.on('end', () => {
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length })
      response.end(answer)
    })
  },
)
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('listening\n'))

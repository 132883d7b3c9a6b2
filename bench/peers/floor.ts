import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { answerFor } from './answers.ts'

/**
 * The floor: a bare Node server with client certificates that reads the body and answers by itself, with a body of the
 * same size. HTTP/1.1 is served as by `https.createServer`, which is what `allowHTTP1` hands over to.
 */
const [port, ca, cert, key] = process.argv.slice(2) as [string, string, string, string]
const server = http2.createSecureServer(
  {
    ca: readFileSync(ca),
    cert: readFileSync(cert),
    key: readFileSync(key),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    allowHTTP1: true,
  },
  (request, response) => {
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
    })
    request.on('end', () => {
      const answer = answerFor(bytes)
      response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': answer.length })
      response.end(answer)
    })
  },
)
// The generators rest while other peers have their turns.
Object.assign(server, { keepAliveTimeout: 600_000 })
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('listening\n'))

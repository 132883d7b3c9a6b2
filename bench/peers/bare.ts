import { readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import http2 from 'node:http2'
import { Http1Upstream } from '../../src/edge/upstream-http1.ts'

/**
 * The floor and the hop to the server, with nothing in between: what Node costs as a proxy that checks nothing and
 * records nothing. The sidecar's own work is what it costs beyond this.
 */
const [port, ca, cert, key, upstreamPort] = process.argv.slice(2) as [string, string, string, string, string]
const upstream = new Http1Upstream({
  target: { kind: 'tcp', host: '127.0.0.1', port: Number(upstreamPort) },
  connectMs: 2000,
  maxConnections: 4000,
})
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
  (request, res) => {
    const response = res as unknown as ServerResponse
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
      let last: Buffer | undefined
      const call = upstream.send(
        {
          method: 'POST',
          path: request.url ?? '/',
          headers: ['Host', 'localhost', 'Content-Type', 'application/json', 'Content-Length', String(body.length)],
          body,
          firstByteMs: 60_000,
          idleMs: 60_000,
        },
        {
          head(status, _headers, bodyLength) {
            response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': bodyLength ?? 0 })
          },
          data(chunk) {
            const before = last
            last = chunk
            return before === undefined || response.write(before)
          },
          end: () => response.end(last),
          fail: () => response.destroy(),
        },
      )
      response.on('drain', () => call.resume())
    })
  },
)
// The generators rest while other peers have their turns.
Object.assign(server, { keepAliveTimeout: 600_000 })
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('listening\n'))

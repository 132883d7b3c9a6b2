import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import https from 'node:https'

/**
 * Opens event streams and holds them until it is stopped: each on an HTTP/1.1 connection of its own, or a hundred on
 * each HTTP/2 connection. Says how many are open, then nothing.
 */
export interface StreamOptions {
  readonly port: number
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly count: number
  readonly isHttp2: boolean
  readonly headers: Readonly<Record<string, string>>
}

const { port, pki, count, isHttp2, headers } = JSON.parse(process.argv[2] ?? '{}') as StreamOptions
const STREAMS_A_CONNECTION = 100
const secrets = {
  ca: readFileSync(pki.ca),
  cert: readFileSync(pki.cert),
  key: readFileSync(pki.key),
  servername: 'localhost',
}
const accept = { Accept: 'text/event-stream', ...headers }

let open = 0
if (isHttp2) {
  for (let at = 0; at < count; at += STREAMS_A_CONNECTION) {
    const session = http2.connect(`https://127.0.0.1:${port}`, secrets)
    session.on('error', () => undefined)
    await Promise.all(
      Array.from({ length: Math.min(STREAMS_A_CONNECTION, count - at) }, () => {
        const stream = session.request({ ':path': '/mcp', ':authority': 'localhost', ...lowerCased(accept) })
        return begun(stream, ok => stream.once('response', answer => ok(answer[':status'] === 200)))
      }),
    )
  }
} else {
  const lanes = 32
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let i = lane; i < count; i += lanes) {
        const request = https.request({
          ...secrets,
          host: '127.0.0.1',
          port,
          path: '/mcp',
          agent: false,
          headers: { Host: 'localhost', ...accept },
        })
        request.end()
        await begun(request, ok =>
          request.once('response', answer => {
            answer.on('data', () => undefined)
            answer.on('error', () => undefined)
            ok(answer.statusCode === 200)
          }),
        )
      }
    }),
  )
}
process.stdout.write(`${open}\n`)
setInterval(() => undefined, 60_000)

function begun(
  stream: { on(event: 'error' | 'data', heard: () => void): unknown },
  listen: (ok: (isOk: boolean) => void) => void,
): Promise<void> {
  return new Promise(resolve => {
    const answered = (isOk: boolean): void => {
      if (isOk) open++
      resolve()
    }
    stream.on('error', () => resolve())
    if (isHttp2) stream.on('data', () => undefined)
    listen(answered)
  })
}

function lowerCased(lines: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(lines).map(([name, value]) => [name.toLowerCase(), value]))
}

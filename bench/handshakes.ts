import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import tls from 'node:tls'

/** Full TLS 1.3 handshakes with a client certificate, one after the other on some lanes, for a fixed time. */
export interface HandshakeOptions {
  readonly port: number
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly parallel: number
  readonly seconds: number
}

export interface HandshakeResult {
  readonly handshakes: number
  readonly seconds: number
}

const { port, pki, parallel, seconds } = JSON.parse(process.argv[2] ?? '{}') as HandshakeOptions
const secureContext = tls.createSecureContext({
  ca: readFileSync(pki.ca),
  cert: readFileSync(pki.cert),
  key: readFileSync(pki.key),
})
let handshakes = 0
let isOver = false

process.stdout.write('measuring\n')
const start = performance.now()
await Promise.race([Promise.all(Array.from({ length: parallel }, lane)), sleep(seconds * 1000)])
isOver = true
const took = (performance.now() - start) / 1000
process.stdout.write('measured\n')
await sleep(100)
process.stdout.write(`${JSON.stringify({ handshakes, seconds: took } satisfies HandshakeResult)}\n`)
process.exit()

async function lane(): Promise<void> {
  while (!isOver) {
    await new Promise<void>(resolve => {
      const socket = tls.connect({
        host: '127.0.0.1',
        port,
        servername: 'localhost',
        secureContext,
        ALPNProtocols: ['http/1.1'],
      })
      socket.once('secureConnect', () => {
        if (!isOver) handshakes++
        socket.destroy()
        resolve()
      })
      socket.once('error', () => {
        socket.destroy()
        setTimeout(resolve, 5)
      })
    })
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

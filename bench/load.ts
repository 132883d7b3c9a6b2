import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { performance } from 'node:perf_hooks'
import tls from 'node:tls'

/**
 * Load from a process of its own: keep-alive mTLS connections, one call at a time on each, for a fixed time. HTTP/1.1 is
 * spoken by hand so that the generator's own cost stays small and even; HTTP/2 is Node's client, one stream at a time.
 * Says `measuring` and `measured` around the measured time, then one JSON line, a `LoadResult`.
 *
 * argv: JSON of `LoadOptions`.
 */
export interface LoadOptions {
  readonly port: number
  readonly connections: number
  readonly seconds: number
  readonly bodyBytes: number
  readonly isHttp2: boolean
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly headers: Readonly<Record<string, string>>
  /** Calls a second in all; absent: as many as it takes. */
  readonly rate?: number
  /** Nothing is measured before this many ms and calls, whichever is later, but for at most a minute. */
  readonly warmupMs: number
  readonly warmupCalls: number
}

export interface LoadResult {
  readonly requests: number
  readonly errors: number
  readonly seconds: number
  /** Latencies in µs. A call that was due while its connection was still busy counts from when it was due. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

export function callBody(id: number, bytes: number): string {
  const base = {
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name: 'search_docs', arguments: { query: '', limit: 10 } },
  }
  const text = JSON.stringify(base)
  base.params.arguments.query = 'q'.repeat(Math.max(1, bytes - text.length))
  return JSON.stringify(base)
}

/** A connection that can send the call again; `done` is called with each answer. */
export type Connect = (options: LoadOptions, body: Buffer, done: (isGood: boolean) => void) => Promise<Wire>

export interface Wire {
  send(): void
  destroy(): void
}

async function main(options: LoadOptions): Promise<void> {
  const body = Buffer.from(callBody(7, options.bodyBytes))
  const latencies: number[] = []
  let errors = 0
  let calls = 0
  let state: 'warming' | 'measuring' | 'over' = 'warming'
  const pauseMs = options.rate === undefined ? 0 : (1000 * options.connections) / options.rate
  const connect: Connect = options.isHttp2 ? connectHttp2 : connectHttp1

  async function run(): Promise<Wire> {
    let sentAt = 0
    let due = performance.now() + Math.random() * pauseMs
    const wire = await connect(options, body, isGood => {
      calls++
      if (state === 'measuring') {
        latencies.push((performance.now() - sentAt) * 1000)
        if (!isGood) errors++
      }
      if (state === 'over') return
      if (pauseMs === 0) return send(performance.now())
      due += pauseMs
      const waitMs = due - performance.now()
      if (waitMs <= 0) send(due)
      else setTimeout(() => send(performance.now()), waitMs)
    })
    function send(from: number): void {
      if (state === 'over') return
      sentAt = from
      wire.send()
    }
    setTimeout(() => send(performance.now()), Math.max(0, due - performance.now()))
    return wire
  }

  const wires = await Promise.all(Array.from({ length: options.connections }, run))
  const from = performance.now()
  await sleep(options.warmupMs)
  while (calls < options.warmupCalls && performance.now() - from < 60_000) await sleep(20)
  process.stdout.write('measuring\n')
  state = 'measuring'
  const start = performance.now()
  await sleep(options.seconds * 1000)
  const seconds = (performance.now() - start) / 1000
  const requests = latencies.length
  process.stdout.write('measured\n')
  // The parent reads the CPU clocks after each of the two lines; load goes on until it has.
  await sleep(100)
  state = 'over'
  for (const wire of wires) wire.destroy()
  latencies.length = requests
  latencies.sort((a, b) => a - b)
  const at = (q: number): number => Math.round(latencies[Math.min(requests - 1, Math.floor(requests * q))] ?? 0)
  const result: LoadResult = { requests, errors, seconds, p50: at(0.5), p99: at(0.99), p999: at(0.999) }
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

export const connectHttp1: Connect = async (options, body, done) => {
  let head = 'POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
  head += `Accept: application/json, text/event-stream\r\nContent-Length: ${body.length}\r\n`
  for (const [name, value] of Object.entries(options.headers)) head += `${name}: ${value}\r\n`
  const request = Buffer.concat([Buffer.from(`${head}\r\n`), body])
  const socket = tls.connect({ ...tlsOptions(options), ALPNProtocols: ['http/1.1'] })
  socket.setNoDelay(true)
  await new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve)
    socket.once('error', reject)
  })
  let held: Buffer | undefined
  /** Bytes of the answer that are still to come, once its head has been read. */
  let left = -1
  let isGood = false
  socket.on('error', () => done(false))
  socket.on('data', (chunk: Buffer) => {
    if (left < 0) {
      const bytes = held === undefined ? chunk : Buffer.concat([held, chunk])
      const end = bytes.indexOf('\r\n\r\n')
      if (end < 0) {
        held = bytes
        return
      }
      held = undefined
      const length = /\r\ncontent-length: *([0-9]+)/i.exec(bytes.toString('latin1', 0, end))
      if (length === null) throw new Error(`an answer without Content-Length: ${bytes.toString('latin1', 0, end)}`)
      isGood = bytes.toString('latin1', 9, 12) === '200' && !bytes.includes('"error"', end)
      left = Number(length[1]) - (bytes.length - end - 4)
    } else left -= chunk.length
    if (left > 0) return
    left = -1
    done(isGood)
  })
  return { send: () => socket.write(request), destroy: () => socket.destroy() }
}

export const connectHttp2: Connect = async (options, body, done) => {
  const { host, port, ...rest } = tlsOptions(options)
  const session = http2.connect(`https://${host}:${port}`, {
    ...rest,
    settings: { initialWindowSize: 1024 * 1024, enablePush: false },
  })
  await new Promise<void>((resolve, reject) => {
    session.once('connect', () => resolve())
    session.once('error', reject)
  })
  session.on('error', () => done(false))
  const headers = {
    ':method': 'POST',
    ':path': '/mcp',
    ':authority': 'localhost',
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'content-length': String(body.length),
    ...Object.fromEntries(Object.entries(options.headers).map(([name, value]) => [name.toLowerCase(), value])),
  }
  function send(): void {
    if (session.destroyed) return
    const stream = session.request(headers)
    let isGood = false
    stream.on('response', answer => {
      isGood = answer[':status'] === 200
    })
    stream.on('data', (chunk: Buffer) => {
      if (chunk.length < 4096 && chunk.includes('"error"')) isGood = false
    })
    stream.on('error', () => undefined)
    stream.on('close', () => done(isGood))
    stream.end(body)
  }
  return { send, destroy: () => session.destroy() }
}

function tlsOptions({ port, pki }: LoadOptions): {
  host: string
  port: number
  servername: string
  ca: Buffer
  cert: Buffer
  key: Buffer
} {
  return {
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ca: readFileSync(pki.ca),
    cert: readFileSync(pki.cert),
    key: readFileSync(pki.key),
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as LoadOptions)

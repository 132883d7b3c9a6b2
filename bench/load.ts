import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import tls from 'node:tls'

/**
 * Load from a process of its own: keep-alive mTLS connections, one request at a time on each, for a fixed time.
 * Speaks HTTP/1.1 by hand so that its own cost stays small and even. Prints one JSON line.
 *
 * argv: JSON of `LoadOptions`.
 */
export interface LoadOptions {
  port: number
  connections: number
  seconds: number
  bodyBytes: number
  pki: { ca: string; cert: string; key: string }
  servername: string
  headers: Record<string, string>
  /** Requests a second in all; absent: as many as it takes. */
  rate?: number
}

export interface LoadResult {
  requests: number
  errors: number
  seconds: number
  /** Microseconds. */
  p50: number
  p99: number
  p999: number
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

async function main(options: LoadOptions): Promise<void> {
  const body = Buffer.from(callBody(7, options.bodyBytes))
  let head = `POST /mcp HTTP/1.1\r\nHost: ${options.servername}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: ${body.length}\r\n`
  for (const [name, value] of Object.entries(options.headers)) head += `${name}: ${value}\r\n`
  const request = Buffer.concat([Buffer.from(`${head}\r\n`), body])

  const latencies: number[] = []
  let errors = 0
  let running = true
  let measuring = false
  const secrets = {
    ca: readFileSync(options.pki.ca),
    cert: readFileSync(options.pki.cert),
    key: readFileSync(options.pki.key),
  }
  const sockets = await Promise.all(
    Array.from({ length: options.connections }, async () => {
      const socket = tls.connect({
        host: '127.0.0.1',
        port: options.port,
        servername: options.servername,
        ...secrets,
        ALPNProtocols: ['http/1.1'],
      })
      socket.setNoDelay(true)
      await new Promise<void>((resolve, reject) => {
        socket.once('secureConnect', resolve)
        socket.once('error', reject)
      })
      return socket
    }),
  )
  const pauseMs = options.rate === undefined ? 0 : (1000 * options.connections) / options.rate
  for (const socket of sockets) {
    let sentAt = 0
    let due = performance.now() + Math.random() * pauseMs
    let held: Buffer | undefined
    const send = (): void => {
      if (!running) return
      sentAt = performance.now()
      socket.write(request)
    }
    const next = (): void => {
      if (pauseMs === 0) return send()
      due += pauseMs
      const wait = due - performance.now()
      if (wait <= 0) send()
      else setTimeout(send, wait)
    }
    socket.on('error', () => {
      if (running) errors++
    })
    socket.on('data', (chunk: Buffer) => {
      const all = held === undefined ? chunk : Buffer.concat([held, chunk])
      if (!isWhole(all)) {
        held = all
        return
      }
      held = undefined
      if (measuring) {
        latencies.push((performance.now() - sentAt) * 1000)
        if (all.toString('latin1', 9, 12) !== '200' || all.includes('"error"')) errors++
      }
      next()
    })
    if (pauseMs === 0) send()
    else setTimeout(send, due - performance.now())
  }
  await sleep(Number(process.env['BENCH_WARMUP_MS'] ?? 500))
  process.stdout.write('measuring\n')
  measuring = true
  const start = performance.now()
  await sleep(options.seconds * 1000)
  const seconds = (performance.now() - start) / 1000
  measuring = false
  process.stdout.write('measured\n')
  // The parent reads the CPU clocks between these two lines; load goes on until it has.
  await sleep(150)
  running = false
  for (const socket of sockets) socket.destroy()
  latencies.sort((a, b) => a - b)
  const at = (q: number): number =>
    Math.round(latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? 0)
  const result: LoadResult = {
    requests: latencies.length,
    errors,
    seconds,
    p50: at(0.5),
    p99: at(0.99),
    p999: at(0.999),
  }
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

function isWhole(bytes: Buffer): boolean {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) return false
  const head = bytes.toString('latin1', 0, end).toLowerCase()
  const length = /\r\ncontent-length: *([0-9]+)/.exec(head)
  if (length !== null) return bytes.length >= end + 4 + Number(length[1])
  return bytes.subarray(-5).toString('latin1') === '0\r\n\r\n'
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as LoadOptions)

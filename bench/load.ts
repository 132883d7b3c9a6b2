import { readFileSync } from 'node:fs'
import http2 from 'node:http2'
import { performance } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import tls from 'node:tls'
import { Worker } from 'node:worker_threads'

/**
 * Load from a process of its own: keep-alive mTLS connections, one call at a time on each. HTTP/1.1 is spoken by hand so
 * that the generator's own cost stays small and even; HTTP/2 is Node's client, one stream at a time.
 *
 * It connects, makes one call on each connection, and says `ready`. Then each line of stdin, a `TurnOrder`, is one turn,
 * answered by a line with a `TurnResult` when the last answer of the turn is there: nothing is left for the next one.
 *
 * argv: JSON of `LoadOptions`.
 */
export interface LoadOptions {
  readonly port: number
  readonly connections: number
  readonly bodyBytes: number
  readonly isHttp2: boolean
  readonly pki: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly headers: Readonly<Record<string, string>>
}

export interface TurnOrder {
  readonly ms: number
  /** Calls a second in all, at random times; absent: as many as it takes. */
  readonly rate?: number | undefined
  /** How long calls are made before it, whose latencies do not count: the peer has slept while others had their turns. */
  readonly leadMs?: number | undefined
}

export interface TurnResult {
  readonly calls: number
  readonly errors: number
  /** To the last answer. */
  readonly seconds: number
  /** Latencies in µs. A call that was due while all connections were busy counts from when it was due. */
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
  const connect = options.isHttp2 ? connectHttp2 : connectHttp1
  const body = Buffer.from(callBody(7, options.bodyBytes))
  const lanes: Lane[] = []
  while (lanes.length < options.connections) {
    const some = Math.min(AT_ONCE, options.connections - lanes.length)
    lanes.push(...(await Promise.all(Array.from({ length: some }, () => openLane(connect, options, body)))))
  }
  process.stdout.write('ready\n')
  for await (const line of createInterface(process.stdin)) {
    process.stdout.write(`${JSON.stringify(await turn(lanes, JSON.parse(line) as TurnOrder))}\n`)
  }
  isDone = true
  for (const { wire } of lanes) wire.destroy()
}

let isDone = false

/** Without it a turn would wait for its last answer for ever. */
function onClose(): void {
  if (!isDone) throw new Error('a connection was closed')
}

/** Handshakes under way. */
const AT_ONCE = 50

/** One connection, and what is to be done when its call has been answered. */
interface Lane {
  readonly wire: Wire
  answered: (isGood: boolean) => void
  /** Since when the call that is under way has been waiting. */
  from: number
}

async function openLane(connect: Connect, options: LoadOptions, body: Buffer): Promise<Lane> {
  const wire = await connect(options, body, isGood => lane.answered(isGood))
  const lane: Lane = { wire, answered: () => undefined, from: 0 }
  // A connection that asks for nothing is a stranger to some servers.
  await new Promise<void>((resolve, reject) => {
    lane.answered = isGood => (isGood ? resolve() : reject(new Error('the first call of a connection went wrong')))
    wire.send()
  })
  return lane
}

async function turn(lanes: readonly Lane[], { ms, rate, leadMs = 0 }: TurnOrder): Promise<TurnResult> {
  const tally = new Tally(leadMs)
  const wholeMs = leadMs + ms
  await (rate === undefined ? asFastAsItGoes(lanes, wholeMs, tally) : atRandom(lanes, wholeMs, rate, tally))
  return tally.result()
}

/** On each connection the next call follows the answer to the last one. */
function asFastAsItGoes(lanes: readonly Lane[], ms: number, tally: Tally): Promise<void> {
  const end = performance.now() + ms
  let busy = lanes.length
  return new Promise(resolve => {
    for (const lane of lanes) {
      let from = performance.now()
      lane.answered = isGood => {
        tally.note(from, isGood)
        from = performance.now()
        if (from < end) return lane.wire.send()
        busy -= 1
        if (busy === 0) resolve()
      }
      lane.wire.send()
    }
  })
}

/** Calls that come as many callers make them, at random and whether or not the last one has been answered. */
function atRandom(lanes: readonly Lane[], ms: number, rate: number, tally: Tally): Promise<void> {
  const idle = [...lanes]
  /** When each call was due that found all connections busy. */
  const waiting: number[] = []
  let isOver = false
  return new Promise(resolve => {
    for (const lane of lanes) {
      lane.answered = isGood => {
        tally.note(lane.from, isGood)
        const due = waiting.shift()
        if (due !== undefined) return send(lane, due)
        idle.push(lane)
        if (isOver && idle.length === lanes.length) resolve()
      }
    }
    const beat = new Worker(new URL('./metronome.ts', import.meta.url), { workerData: { ms, rate } })
    beat.on('message', () => {
      const lane = idle.shift()
      if (lane === undefined) waiting.push(performance.now())
      else send(lane, performance.now())
    })
    beat.on('exit', () => {
      isOver = true
      if (idle.length === lanes.length) resolve()
    })
  })
  function send(lane: Lane, from: number): void {
    lane.from = from
    lane.wire.send()
  }
}

class Tally {
  readonly #start = performance.now()
  readonly #countsFrom: number
  readonly #latencies: number[] = []
  #calls = 0
  #errors = 0

  constructor(leadMs: number) {
    this.#countsFrom = this.#start + leadMs
  }

  note(from: number, isGood: boolean): void {
    this.#calls += 1
    if (from >= this.#countsFrom) this.#latencies.push((performance.now() - from) * 1000)
    if (!isGood) this.#errors += 1
  }

  result(): TurnResult {
    const seconds = (performance.now() - this.#start) / 1000
    const latencies = this.#latencies.sort((a, b) => a - b)
    const at = (q: number): number => Math.round(latencies[Math.floor(latencies.length * q)] ?? 0)
    return { calls: this.#calls, errors: this.#errors, seconds, p50: at(0.5), p99: at(0.99), p999: at(0.999) }
  }
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
  socket.on('close', onClose)
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
  session.on('close', onClose)
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

if (import.meta.main) await main(JSON.parse(process.argv[2] ?? '{}') as LoadOptions)

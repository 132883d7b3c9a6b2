import http2 from 'node:http2'
import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { USER_HEADERS } from './request.ts'

/** What the gateways of a load present and trust; they take both up for each connection that they open. */
export interface Credential {
  readonly cert: string
  readonly key: string
  /** CAs of the sidecar's certificate. */
  readonly ca: string
}

export interface LoadCounts {
  /** Answered as asked. */
  answered: number
  /** Opened again because of GOAWAY, `connection: close` or an own wish. */
  connected: number
  /** Sent once more, because the connection was going and it was said that nothing of the request had been taken. */
  repeated: number
  /** Refused because the sidecar had too much to do: before TLS had begun, or with 503 and that reason. */
  turnedAway: number
}

export interface GatewayLoad {
  readonly counts: Readonly<LoadCounts>
  /** Every request that was not answered as it should be; nothing is repeated that may have been taken. */
  readonly failures: readonly string[]
  /** New connections present and trust this from now on; those that are open stay as they are. */
  offer(credential: Credential): void
  /** Every connection ends after the answer that it waits for, and a new one is opened. Resolves when all have served. */
  reconnect(): Promise<void>
  /** Lets what is under way end. */
  stop(): Promise<void>
}

export interface GatewayLoadOptions {
  readonly port: number
  readonly credential: Credential
  readonly connections: number
  /** One half of each when absent. */
  readonly protocol?: 'HTTP/1.1' | 'HTTP/2'
  /** Between an answer and the next request of the same connection, ms. */
  readonly pauseMs: number
  /** Who is turned away comes again, as gateways do, and it is only counted; it is a failure when absent. */
  readonly retriesTurnedAway?: boolean
  /** After so many a connection is closed and another opened, each at a random one near it; absent: never. */
  readonly callsPerConnection?: number
}

/**
 * Constant load over connections that live on, each with one request after the
 * other, as gateways with warm pools do: who is told to go finishes, opens a new connection and goes on there.
 */
export function startGatewayLoad(options: GatewayLoadOptions): GatewayLoad {
  const load = new Load(options)
  load.start()
  return load
}

class Load implements GatewayLoad {
  readonly counts: LoadCounts = { answered: 0, connected: 0, repeated: 0, turnedAway: 0 }
  readonly failures: string[] = []
  readonly #options: GatewayLoadOptions
  #credential: Credential
  #epoch = 0
  #isStopped = false
  #lanes: { epoch: number }[] = []
  #running: Promise<void>[] = []

  constructor(options: GatewayLoadOptions) {
    this.#options = options
    this.#credential = options.credential
  }

  start(): void {
    for (let i = 0; i < this.#options.connections; i++) {
      const lane = { epoch: -1 }
      this.#lanes.push(lane)
      this.#running.push(this.#drive(i, lane))
    }
  }

  offer(credential: Credential): void {
    this.#credential = credential
  }

  async reconnect(): Promise<void> {
    const epoch = ++this.#epoch
    while (this.#lanes.some(lane => lane.epoch < epoch)) {
      if (this.failures.length > 0) throw new Error(this.failures[0])
      await sleep(2)
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#running)
  }

  async #drive(index: number, lane: { epoch: number }): Promise<void> {
    const open = (this.#options.protocol ?? PROTOCOLS[index % 2]) === 'HTTP/1.1' ? openHttp1 : openHttp2
    let connection: Lane | undefined
    let epoch = 0
    let last = Number.POSITIVE_INFINITY
    for (let n = 1; !this.#isStopped; n++) {
      if (connection === undefined || connection.isGoing() || epoch !== this.#epoch || n > last) {
        connection?.close()
        epoch = this.#epoch
        last = n + (this.#options.callsPerConnection ?? Number.POSITIVE_INFINITY) * (0.5 + Math.random())
        connection = open(this.#options.port, this.#credential)
        this.counts.connected++
      }
      const id = `${index}-${n}`
      try {
        const answer = await connection.ask(JSON.stringify(callOf(id)))
        if (answer === 'not taken') {
          this.counts.repeated++
          continue
        }
        if (this.#options.retriesTurnedAway === true && answer.text.includes('"reason":"sidecar_overloaded"'))
          this.counts.turnedAway++
        else if (answer.status !== 200 || (JSON.parse(answer.text) as { id?: unknown }).id !== id)
          this.failures.push(`${id}: ${answer.status} ${answer.text}`)
        else this.counts.answered++
        lane.epoch = epoch
      } catch (error) {
        if (this.#options.retriesTurnedAway === true && !connection.hasBegun()) this.counts.turnedAway++
        else this.failures.push(`${id} on ${connection.name}: ${String(error)}`)
        connection.close()
        connection = undefined
        // A server that is gone for good must not be asked a thousand times a second.
        await sleep(20)
      }
      await sleep(this.#options.pauseMs)
    }
    connection?.close()
  }
}

const PROTOCOLS = ['HTTP/1.1', 'HTTP/2'] as const

/** One connection; asked one thing at a time. */
interface Lane {
  readonly name: string
  isGoing(): boolean
  /** TLS was once established as far as the client can tell, so that something of a request may have been sent. */
  hasBegun(): boolean
  ask(body: string): Promise<{ status: number; text: string } | 'not taken'>
  close(): void
}

function openHttp1(port: number, credential: Credential): Lane {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  let isGoing = false
  let hasBegun = false
  return {
    name: 'HTTP/1.1',
    isGoing: () => isGoing,
    hasBegun: () => hasBegun,
    ask: body =>
      new Promise((resolve, reject) => {
        const request = https.request(
          { agent, host: '127.0.0.1', port, path: '/mcp', method: 'POST', ...tlsOf(credential), headers: HEADERS },
          response => {
            const chunks: Buffer[] = []
            response.on('data', (chunk: Buffer) => chunks.push(chunk))
            response.on('error', reject)
            response.on('end', () => {
              isGoing = response.headers.connection === 'close'
              resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() })
            })
          },
        )
        if (!hasBegun) request.on('socket', socket => socket.once('secureConnect', () => (hasBegun = true)))
        // An idle connection that has ended is no longer in the agent's pool; one that ends just now is a failure.
        request.on('error', reject)
        request.end(body)
      }),
    close: () => agent.destroy(),
  }
}

function openHttp2(port: number, credential: Credential): Lane {
  const session = http2.connect(`https://localhost:${port}`, { host: '127.0.0.1', ...tlsOf(credential) } as object)
  let isGoing = false
  let lastTaken = Number.POSITIVE_INFINITY
  let failed: Error | undefined
  let hasBegun = false
  session.on('connect', () => (hasBegun = true))
  session.on('goaway', (_code, lastStreamId) => {
    isGoing = true
    lastTaken = lastStreamId
  })
  session.on('error', error => {
    failed = error
  })
  let isOver = false
  session.on('close', () => {
    isGoing = true
    isOver = true
  })
  return {
    name: 'HTTP/2',
    isGoing: () => isGoing || session.closed || session.destroyed,
    hasBegun: () => hasBegun,
    ask: body =>
      new Promise((resolve, reject) => {
        if (failed !== undefined) return reject(failed)
        const stream = session.request({ ':method': 'POST', ':path': '/mcp', ...HEADERS })
        let status = 0
        const chunks: Buffer[] = []
        stream.on('response', headers => {
          status = headers[':status'] ?? 0
        })
        stream.on('data', (chunk: Buffer) => chunks.push(chunk))
        stream.on('error', () => {})
        stream.on('close', () => {
          const text = Buffer.concat(chunks).toString()
          if (status !== 0 && stream.rstCode === http2.constants.NGHTTP2_NO_ERROR) return resolve({ status, text })
          // RFC 9113 §6.8, §8.7: these have not been taken, and may be sent again whatever they ask for.
          const isRefused = stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM
          if (isRefused || (stream.id !== undefined && stream.id > lastTaken)) return resolve('not taken')
          const ended = new Error(`the stream ended with code ${stream.rstCode} and status ${status}`)
          // A session that fails ends its streams first, all with code 2, and says afterwards why it did.
          if (session.destroyed && !isOver) session.once('close', () => reject(failed ?? ended))
          else reject(failed ?? ended)
        })
        stream.end(body)
      }),
    close: () => session.close(),
  }
}

function tlsOf({ cert, key, ca }: Credential) {
  return { cert, key, ca, servername: 'localhost' }
}

const HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  ...Object.fromEntries(Object.entries(USER_HEADERS).map(([name, value]) => [name.toLowerCase(), value])),
}

function callOf(id: string) {
  return { jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'search_docs', arguments: { query: 'x' } } }
}

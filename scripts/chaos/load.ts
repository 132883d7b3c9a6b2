import http2 from 'node:http2'
import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { answerFor, type Refusal } from '../../src/core/refusal.ts'
import type { Credential, GatewayLoad, LoadCounts } from '../../test/support/gateway-load.ts'
import { toolCall, USER_HEADERS } from '../../test/support/request.ts'

/** What a client has seen of one call. */
export type Seen =
  /** The upstream's own answer, to its end. */
  | 'answered'
  /** A refusal of the table. */
  | 'refused'
  /** An answer that ended as broken. */
  | 'broken'
  /** No answer: the connection went first. */
  | 'unanswered'

/** Calls of gateways that go on whatever happens, each with an id by which it is found again in every log. */
export class ChaosLoad implements GatewayLoad {
  readonly counts: LoadCounts = { answered: 0, connected: 0, repeated: 0, turnedAway: 0 }
  readonly failures: string[] = []
  readonly seen = new Map<string, Seen>()
  readonly reasons = new Map<string, number>()
  readonly latencies: number[] = []
  /** Tools that are called now, at random. */
  tools: readonly string[] = ['search_docs']
  /** Share of the calls that are broken off by their client. */
  resets = 0
  /** A connection may end without an answer to what it carries: it is what is being done. */
  mayEnd = false
  readonly #port: number
  readonly #name: string
  #credential: Credential
  #isStopped = false
  #isLeaving = false
  #epoch = 0
  #next = 0
  readonly #lanes: { epoch: number }[] = []
  readonly #running: Promise<void>[] = []

  /** @param name  Begins the id of each of its calls. */
  constructor(name: string, port: number, credential: Credential) {
    this.#name = name
    this.#port = port
    this.#credential = credential
  }

  start(lanes: number, streams: number, pauseMs: number): void {
    for (let i = 0; i < lanes; i++) {
      const lane = { epoch: -1 }
      this.#lanes.push(lane)
      this.#running.push(this.#call(i % 2 === 0 ? openHttp1 : openHttp2, lane, pauseMs))
    }
    for (let i = 0; i < streams; i++) this.#running.push(this.#stream())
  }

  offer(credential: Credential): void {
    this.#credential = credential
  }

  async reconnect(): Promise<void> {
    const epoch = ++this.#epoch
    const until = Date.now() + 10_000
    while (this.#lanes.some(lane => lane.epoch < epoch) && Date.now() < until) await sleep(5)
  }

  /** The sidecar is going: nothing is called any more, what waits is waited for. */
  leave(): void {
    this.#isLeaving = true
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all(this.#running)
  }

  count(what: Seen): number {
    let n = 0
    for (const seen of this.seen.values()) if (seen === what) n += 1
    return n
  }

  async #call(open: typeof openHttp1, lane: { epoch: number }, pauseMs: number): Promise<void> {
    let connection: Lane | undefined
    let epoch = 0
    while (!this.#isStopped && !this.#isLeaving) {
      if (connection === undefined || connection.isGoing() || epoch !== this.#epoch) {
        connection?.close()
        epoch = this.#epoch
        connection = open(this.#port, this.#credential)
        this.counts.connected += 1
      }
      const id = `${this.#name}-${this.#next++}`
      const tool = this.tools[Math.floor(Math.random() * this.tools.length)] as string
      const leavesAfterMs = Math.random() < this.resets ? Math.random() * 20 : undefined
      const begun = performance.now()
      const answer = await connection.ask(id, toolCall(tool, { query: 'tea' }, id), leavesAfterMs)
      if (leavesAfterMs === undefined) {
        this.latencies.push(performance.now() - begun)
        const seen = this.#judge(id, tool, answer)
        if (seen === undefined) this.counts.repeated += 1
        else this.seen.set(id, seen)
        lane.epoch = epoch
      }
      if (answer.status === 0) {
        connection.close()
        connection = undefined
        await sleep(20)
      }
      await sleep(pauseMs)
    }
    connection?.close()
  }

  #judge(id: string, tool: string, answer: Answer): Seen | undefined {
    if (answer.status === 0) {
      if (answer.isNotTaken) return undefined
      if (!this.mayEnd) this.failures.push(`${id} ${tool}: no answer: ${answer.error}`)
      return 'unanswered'
    }
    if (answer.isBroken) {
      if (tool !== 'search_reset' && !this.mayEnd)
        this.failures.push(`${id} ${tool}: broken after ${answer.text.length} bytes`)
      return 'broken'
    }
    if (answer.isUpstreams) {
      this.counts.answered += 1
      if (answer.status === 200 && !answer.text.includes(`"id":"${id}"`))
        this.failures.push(`${id} ${tool}: somebody else's answer`)
      return 'answered'
    }
    const reason = reasonOf(answer.text, id)
    if (reason === undefined) this.failures.push(`${id} ${tool}: ${answer.status} ${answer.text.slice(0, 200)}`)
    else this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1)
    return 'refused'
  }

  async #stream(): Promise<void> {
    while (!this.#isStopped && !this.#isLeaving) {
      await new Promise<void>(resolve => {
        const request = https.request(
          {
            ...tlsOf(this.#credential),
            host: '127.0.0.1',
            port: this.#port,
            path: '/mcp',
            agent: false,
            headers: { ...HEADERS, accept: 'text/event-stream' },
          },
          response => {
            response.resume()
            response.on('error', () => {})
            response.on('close', resolve)
          },
        )
        request.on('error', () => resolve())
        request.end()
        setTimeout(() => request.destroy(), 300 + Math.random() * 1000)
      })
      await sleep(50)
    }
  }
}

/** The reason in a refusal of ours; undefined when it is none, or not in the table. */
function reasonOf(text: string, id: string): string | undefined {
  try {
    const { error, id: answered } = JSON.parse(text) as { id: string; error: { data: { reason: string } } }
    if (answered !== id) return undefined
    const { reason } = error.data
    // Whatever else the table asks of a refusal, an empty list is as good as a text.
    const refusal = new Proxy({ reason }, { get: (_target, name) => (name === 'reason' ? reason : []) })
    return answerFor(refusal as unknown as Refusal) === undefined ? undefined : reason
  } catch {
    return undefined
  }
}

interface Answer {
  /** 0: there was none. */
  readonly status: number
  readonly text: string
  readonly isBroken: boolean
  readonly isUpstreams: boolean
  /** It was said that nothing of the request had been taken. */
  readonly isNotTaken: boolean
  readonly error: string
}

interface Lane {
  isGoing(): boolean
  ask(id: string, body: string, leavesAfterMs: number | undefined): Promise<Answer>
  close(): void
}

const NONE: Answer = { status: 0, text: '', isBroken: false, isUpstreams: false, isNotTaken: false, error: '' }

function openHttp1(port: number, credential: Credential): Lane {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  let isGoing = false
  return {
    isGoing: () => isGoing,
    ask: (id, body, leavesAfterMs) =>
      new Promise(resolve => {
        const request = https.request(
          {
            ...tlsOf(credential),
            agent,
            host: '127.0.0.1',
            port,
            path: '/mcp',
            method: 'POST',
            headers: { ...HEADERS, 'x-request-id': id },
          },
          response => {
            let text = ''
            response.on('data', chunk => (text += String(chunk)))
            response.on('error', () => {})
            response.on('close', () => {
              isGoing = response.headers.connection === 'close' || !response.complete
              resolve({
                ...NONE,
                status: response.statusCode ?? 0,
                text,
                isBroken: !response.complete,
                isUpstreams: response.headers['x-upstream'] === '1',
              })
            })
          },
        )
        request.on('error', error => {
          isGoing = true
          // An idle connection that ends just as it is used: HTTP/1.1 cannot say that nothing was taken, the log can.
          resolve({ ...NONE, error: `HTTP/1.1 ${String(error)} ${request.reusedSocket ? 'reused' : 'new'}` })
        })
        request.end(body)
        if (leavesAfterMs !== undefined) setTimeout(() => request.destroy(), leavesAfterMs)
      }),
    close: () => agent.destroy(),
  }
}

function openHttp2(port: number, credential: Credential): Lane {
  const session = http2.connect(`https://localhost:${port}`, { host: '127.0.0.1', ...tlsOf(credential) } as object)
  let isGoing = false
  let lastTaken = Number.POSITIVE_INFINITY
  session.on('goaway', (_code, last) => {
    isGoing = true
    lastTaken = last
  })
  session.on('error', () => (isGoing = true))
  session.on('close', () => (isGoing = true))
  return {
    isGoing: () => isGoing || session.closed || session.destroyed,
    ask: (id, body, leavesAfterMs) =>
      new Promise(resolve => {
        if (session.destroyed || session.closed) return resolve({ ...NONE, isNotTaken: true, error: 'HTTP/2 gone' })
        const stream = session.request({ ':method': 'POST', ':path': '/mcp', ...HEADERS, 'x-request-id': id })
        let status = 0
        let isUpstreams = false
        let text = ''
        let hasEnded = false
        stream.on('response', headers => {
          status = headers[':status'] ?? 0
          isUpstreams = headers['x-upstream'] === '1'
        })
        stream.on('data', chunk => (text += String(chunk)))
        stream.on('end', () => (hasEnded = true))
        stream.on('error', () => {})
        stream.on('close', () => {
          const isRefused = stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM
          const isNotTaken = isRefused || stream.id === undefined || stream.id > lastTaken
          const isBroken = status !== 0 && (!hasEnded || stream.rstCode !== 0)
          resolve({ status, text, isUpstreams, isBroken, isNotTaken, error: `HTTP/2 code ${stream.rstCode}` })
        })
        stream.end(body)
        if (leavesAfterMs !== undefined) setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), leavesAfterMs)
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

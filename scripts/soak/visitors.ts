import http2 from 'node:http2'
import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Credential } from '../../test/support/gateway-load.ts'
import { toolCall, USER_HEADERS } from '../../test/support/request.ts'

/**
 * Clients that come for one event stream each, on a new connection, and go: every second one listens for a while and
 * leaves in the middle, the others call a tool that answers with events and read it to its end.
 */
export class Visitors {
  /** Streams of listeners that began, and calls whose events ended with the answer. */
  readonly counts = { listened: 0, called: 0, turnedAway: 0 }
  readonly failures: string[] = []
  readonly #port: number
  readonly #longestMs: number
  #credential: Credential
  #isStopped = false
  readonly #leave = new Set<() => void>()
  readonly #running: Promise<void>[]

  /** @param longestMs  Longest that one listens. */
  constructor(port: number, credential: Credential, visitors: number, longestMs: number) {
    this.#port = port
    this.#credential = credential
    this.#longestMs = longestMs
    this.#running = Array.from({ length: visitors }, (_, i) => this.#comeAndGo(i))
  }

  offer(credential: Credential): void {
    this.#credential = credential
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    for (const leave of this.#leave) leave()
    await Promise.all(this.#running)
  }

  async #comeAndGo(visitor: number): Promise<void> {
    const open = visitor % 2 === 0 ? openHttp1 : openHttp2
    for (let n = 0; !this.#isStopped; n++) {
      const id = `visitor-${visitor}-${n}`
      const body = n % 2 === 0 ? undefined : toolCall('count', {}, id)
      const { status, text, isWhole, error } = await this.#visit(open, body)
      const isTurnedAway = (status === 503 && text.includes('"sidecar_overloaded"')) || (status === 0 && error.isEarly)
      if (isTurnedAway) this.counts.turnedAway++
      else if (status !== 200) this.failures.push(`${id}: ${status} ${text.slice(0, 300)} ${error.said}`)
      else if (body === undefined) this.counts.listened++
      else if (isWhole && text.includes(`"id":"${id}"`)) this.counts.called++
      else this.failures.push(`${id}: its events ended before the answer: ${text.slice(-300)}`)
      await sleep(50 + Math.random() * 100)
    }
  }

  #visit(open: Open, body: string | undefined): Promise<Visit> {
    return new Promise(resolve => {
      let timer: NodeJS.Timeout | undefined
      const leave = open(
        this.#port,
        this.#credential,
        body,
        () => {
          if (body === undefined) timer = setTimeout(leave, Math.random() * this.#longestMs)
          // It was told to go before it had come in.
          if (body === undefined && this.#isStopped) setImmediate(leave)
        },
        visit => {
          clearTimeout(timer)
          this.#leave.delete(leave)
          resolve(visit)
        },
      )
      // A call is always read to its end.
      if (body === undefined) this.#leave.add(leave)
    })
  }
}

interface Visit {
  /** 0: there was no answer. */
  readonly status: number
  readonly text: string
  readonly isWhole: boolean
  /** What went wrong; `isEarly` when nothing of the request can have been sent. */
  readonly error: { readonly said: string; readonly isEarly: boolean }
}

/** @returns how to leave; `over` is called once, in any case. */
type Open = (
  port: number,
  credential: Credential,
  body: string | undefined,
  begun: () => void,
  over: (visit: Visit) => void,
) => () => void

const openHttp1: Open = (port, { cert, key, ca }, body, begun, over) => {
  const told = { status: 0, text: '', isWhole: false, said: '', isEarly: true }
  const request = https.request(
    {
      ...{ cert, key, ca, servername: 'localhost', host: '127.0.0.1', port, path: '/mcp', agent: false },
      ...{ method: body === undefined ? 'GET' : 'POST', headers: headersFor(body) },
    },
    response => {
      told.status = response.statusCode ?? 0
      begun()
      response.on('data', chunk => (told.text = keep(told.text, String(chunk))))
      response.on('error', () => {})
      response.on('end', () => (told.isWhole = response.complete))
    },
  )
  request.on('socket', socket => socket.once('secureConnect', () => (told.isEarly = false)))
  request.on('error', error => (told.said = String(error)))
  request.on('close', () => over(visitOf(told)))
  request.end(body)
  return () => {
    // Who leaves before there is an answer would not know whether there is a line for it.
    if (told.status !== 0) request.destroy()
  }
}

const openHttp2: Open = (port, { cert, key, ca }, body, begun, over) => {
  const told = { status: 0, text: '', isWhole: false, said: '', isEarly: true }
  const session = http2.connect(`https://localhost:${port}`, { host: '127.0.0.1', cert, key, ca } as object)
  session.on('connect', () => (told.isEarly = false))
  session.on('error', error => (told.said = String(error)))
  session.on('close', () => over(visitOf(told)))
  const method = body === undefined ? 'GET' : 'POST'
  const stream = session.request({ ':method': method, ':path': '/mcp', ...headersFor(body) })
  stream.on('response', headers => {
    told.status = headers[':status'] ?? 0
    begun()
  })
  stream.on('data', chunk => (told.text = keep(told.text, String(chunk))))
  stream.on('end', () => (told.isWhole = stream.rstCode === http2.constants.NGHTTP2_NO_ERROR))
  stream.on('error', () => {})
  stream.on('close', () => session.close())
  stream.end(body)
  return () => {
    if (told.status !== 0 && !stream.closed) stream.close(http2.constants.NGHTTP2_CANCEL)
  }
}

function visitOf({ said, isEarly, ...visit }: Omit<Visit, 'error'> & { said: string; isEarly: boolean }): Visit {
  return { ...visit, error: { said, isEarly } }
}

/** The end is what counts, and a stream is long. */
function keep(before: string, chunk: string): string {
  return (before + chunk).slice(-4096)
}

function headersFor(body: string | undefined): Record<string, string> {
  const headers: Record<string, string> = { accept: 'text/event-stream' }
  for (const [name, value] of Object.entries(USER_HEADERS)) headers[name.toLowerCase()] = value
  if (body === undefined) return headers
  return { ...headers, accept: 'application/json, text/event-stream', 'content-type': 'application/json' }
}

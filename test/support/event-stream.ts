import type { ClientRequest, IncomingMessage } from 'node:http'
import https from 'node:https'
import type { TestIdentity } from './pki.ts'
import { type Target, USER_HEADERS } from './request.ts'

/** An answer that is read as it comes. */
export interface OpenStream {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  /** All bytes so far. */
  text(): string
  /** How it ended: `undefined` while it is open, `complete` in order, `broken` otherwise. */
  ending(): 'complete' | 'broken' | undefined
  readonly ended: Promise<'complete' | 'broken'>
  leave(): void
  pause(): void
  resume(): void
}

export interface StreamOptions {
  readonly method?: string
  readonly path?: string
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly identity?: Pick<TestIdentity, 'tls'>
  readonly agent?: https.Agent
}

/** Sends a request and resolves at the head of its answer. */
export function openStream(running: Target, options: StreamOptions = {}): Promise<OpenStream> {
  return new Promise((resolve, reject) => {
    const method = options.method ?? (options.body === undefined ? 'GET' : 'POST')
    const request: ClientRequest = https.request(
      {
        host: '127.0.0.1',
        port: running.sidecar.ports.mtls,
        servername: 'localhost',
        ca: running.pki.ca.cert,
        ...(options.identity ?? running.pki.gateway).tls,
        method,
        path: options.path ?? '/mcp',
        agent: options.agent ?? false,
        headers: {
          Host: 'localhost',
          Accept: 'application/json, text/event-stream',
          ...(options.body === undefined ? {} : { 'Content-Type': 'application/json' }),
          ...USER_HEADERS,
          ...options.headers,
        },
      },
      response => {
        let text = ''
        let ending: 'complete' | 'broken' | undefined
        response.on('data', chunk => {
          text += String(chunk)
        })
        response.on('error', () => {})
        const ended = new Promise<'complete' | 'broken'>(done => {
          response.on('close', () => {
            ending = response.complete ? 'complete' : 'broken'
            done(ending)
          })
        })
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: () => text,
          ending: () => ending,
          ended,
          leave: () => request.destroy(),
          pause: () => response.pause(),
          resume: () => response.resume(),
        })
      },
    )
    request.on('error', reject)
    request.end(options.body)
  })
}

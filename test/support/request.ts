import type { IncomingHttpHeaders } from 'node:http'
import https from 'node:https'
import type { TestIdentity, TestPki } from './pki.ts'

/** A sidecar that is running, in this process or in its own. */
export interface Target {
  readonly sidecar: { readonly ports: { readonly mtls: number | undefined } }
  readonly pki: TestPki
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever JSON they expect.
  readonly json: any
  /** The answer ended before it was complete. */
  readonly broken: boolean
}

export interface RequestOptions {
  readonly method?: string
  readonly path?: string
  readonly headers?: Record<string, string | string[]>
  readonly body?: string | Buffer
  readonly identity?: Pick<TestIdentity, 'tls'>
  readonly agent?: https.Agent
}

export const USER_HEADERS = { 'X-User-ID': 'ada', 'X-Org-ID': 'acme', 'X-User-Scopes': 'mcp.read' }

/** One HTTP/1.1 request over mTLS on a connection of its own, as a gateway would send it. */
export function send(running: Target, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = https.request(
      {
        host: '127.0.0.1',
        port: running.sidecar.ports.mtls,
        servername: 'localhost',
        ca: running.pki.ca.cert,
        ...(options.identity ?? running.pki.gateway).tls,
        method: options.method ?? 'POST',
        path: options.path ?? '/mcp',
        agent: options.agent ?? false,
        headers: {
          Host: 'localhost',
          'Content-Type': 'application/json',
          Accept: 'application/json, text/event-stream',
          ...USER_HEADERS,
          ...options.headers,
        },
      },
      response => {
        const chunks: Buffer[] = []
        let broken = false
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', () => {
          broken = true
        })
        response.on('close', () => {
          const text = Buffer.concat(chunks).toString()
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            get json() {
              return JSON.parse(text)
            },
            broken: broken || !response.complete,
          })
        })
      },
    )
    request.on('error', reject)
    request.end(options.body)
  })
}

export function toolCall(name: string, args: Record<string, unknown> = {}, id: string | number = 1): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: args } })
}

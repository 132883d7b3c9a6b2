import { type ChildProcess, spawn } from 'node:child_process'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import express from 'express'

/** What a server took a request for, in its own parser's words. */
export interface Reading {
  readonly requestId: string
  readonly method: string | undefined
  readonly name: string | undefined
  readonly uri: string | undefined
}

export interface ReadingUpstream {
  readonly url: string
  /** By the X-Request-ID that came with it; several for a batch. */
  readings(): ReadonlyMap<string, Reading[]>
  stop(): Promise<void>
}

/** SDK v2: every method ends in the fallback handler, after the SDK has parsed and validated the message. */
export async function startSdkReader(): Promise<ReadingUpstream> {
  const seen = new Readings()
  let current = ''
  const handler = toNodeHandler(
    createMcpHandler(() => {
      const requestId = current
      const mcp = new McpServer({ name: 'reader', version: '1' })
      mcp.server.fallbackRequestHandler = async request => {
        seen.note(requestId, request.method, request.params)
        return {}
      }
      return mcp
    }),
  )
  const server = http.createServer((request, response) => {
    current = String(request.headers['x-request-id'])
    void handler(request as never, response)
  })
  return listening(server, seen)
}

/** `express.json()`: the body parser that most Node servers have. */
export async function startExpressReader(): Promise<ReadingUpstream> {
  const seen = new Readings()
  const app = express()
  app.use(express.json({ limit: '8mb' }))
  app.post('/mcp', (request, response) => {
    const { body } = request as { body: unknown }
    for (const message of Array.isArray(body) ? body : [body]) {
      const { method, params } = (message ?? {}) as { method?: string; params?: unknown }
      seen.note(String(request.headers['x-request-id']), method, params)
    }
    response.json({ jsonrpc: '2.0', id: 1, result: {} })
  })
  return listening(http.createServer(app), seen)
}

/** Python's `http.server` and `json`. Undefined when there is no python3. */
export async function startPythonReader(): Promise<ReadingUpstream | undefined> {
  const script = new URL('./reading-upstream.py', import.meta.url).pathname
  const child: ChildProcess = spawn('python3', [script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const seen = new Readings()
  let rest = ''
  const port = await new Promise<number | undefined>(resolve => {
    child.once('error', () => resolve(undefined))
    child.stdout?.on('data', chunk => {
      rest += String(chunk)
      const lines = rest.split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const value = JSON.parse(line) as { port?: number; requestId: string; method?: string; params?: unknown }
        if (value.port !== undefined) resolve(value.port)
        else seen.note(value.requestId, value.method, value.params)
      }
    })
  })
  if (port === undefined) return undefined
  return {
    url: `http://127.0.0.1:${port}`,
    readings: () => seen.all,
    stop: async () => {
      child.kill('SIGTERM')
    },
  }
}

class Readings {
  readonly all = new Map<string, Reading[]>()

  note(requestId: string, method: string | undefined, params: unknown): void {
    const { name, uri } = (typeof params === 'object' && params !== null ? params : {}) as {
      name?: string
      uri?: string
    }
    const list = this.all.get(requestId) ?? []
    list.push({ requestId, method, name, uri })
    this.all.set(requestId, list)
  }
}

async function listening(server: http.Server, seen: Readings): Promise<ReadingUpstream> {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    readings: () => seen.all,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

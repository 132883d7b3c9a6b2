import { randomUUID } from 'node:crypto'
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js'
import { type EventStore, StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { createMcpHandler, McpServer as ModernServer } from '@modelcontextprotocol/server'
import * as z from 'zod'

/** A real MCP server on loopback. */
export interface TestUpstream {
  readonly port: number
  readonly url: string
  /** Header lines of every request, newest last. */
  readonly seen: { method: string; url: string; headers: string[] }[]
  /** Requests whose connection closed before the answer was complete. */
  readonly cancelled: string[]
  stop(): Promise<void>
}

/** SDK v2: stateless, answers both eras from one factory. */
export function startModernServer(): Promise<TestUpstream> {
  const handler = toNodeHandler(
    createMcpHandler(() => {
      const server = new ModernServer({ name: 'modern-under-test', version: '1.0.0' })
      server.registerTool(
        'search_docs',
        { description: 'Finds documents', inputSchema: z.object({ query: z.string(), limit: z.number().optional() }) },
        async ({ query }) => ({ content: [{ type: 'text', text: `found: ${query}` }] }),
      )
      server.registerTool('get_user', { description: 'Reads a user', inputSchema: z.object({}) }, async () => ({
        content: [{ type: 'text', text: 'ada' }],
      }))
      server.registerTool('delete_row', { description: 'Deletes', inputSchema: z.object({}) }, async () => ({
        content: [{ type: 'text', text: 'deleted' }],
      }))
      server.registerTool('fail', { description: 'Fails', inputSchema: z.object({}) }, async () => ({
        content: [{ type: 'text', text: 'it did not work' }],
        isError: true,
      }))
      server.registerTool(
        'count',
        {
          description: 'Counts with progress',
          inputSchema: z.object({ to: z.number(), pauseMs: z.number().optional() }),
        },
        async ({ to, pauseMs }, context) => {
          const token = context.mcpReq._meta?.progressToken
          for (let i = 1; i <= to; i++) {
            if (token !== undefined) {
              await context.mcpReq.notify({
                method: 'notifications/progress',
                params: { progressToken: token, progress: i, total: to },
              })
            }
            if (pauseMs !== undefined) await new Promise(resolve => setTimeout(resolve, pauseMs))
          }
          return { content: [{ type: 'text', text: `counted to ${to}` }] }
        },
      )
      server.registerTool(
        'big',
        { description: 'Answers with so many bytes', inputSchema: z.object({ bytes: z.number() }) },
        async ({ bytes }) => ({ content: [{ type: 'text', text: 'x'.repeat(bytes) }] }),
      )
      server.registerResource('notes', 'notes://today', { mimeType: 'text/plain' }, async uri => ({
        contents: [{ uri: uri.href, text: 'notes' }],
      }))
      server.registerPrompt('greet', { description: 'Greets' }, async () => ({
        messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }],
      }))
      return server
    }),
  )
  return listen((request, response) => void handler(request as never, response))
}

/** SDK v1: sessions, GET streams, resumption from an event store, requests to the client. */
export function startSessionServer(): Promise<TestUpstream> {
  const sessions = new Map<string, StreamableHTTPServerTransport>()
  return listen(async (request, response) => {
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? sessions.get(id) : undefined
    if (known !== undefined) return known.handleRequest(request, response)
    if (typeof id === 'string') return plain(response, 404, 'Session not found')
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: memoryEventStore(),
      retryInterval: 100,
      onsessioninitialized: session => void sessions.set(session, transport),
      onsessionclosed: session => void sessions.delete(session),
    })
    await legacyServer().connect(transport)
    await transport.handleRequest(request, response)
  })
}

/** SDK v1 on the older HTTP+SSE transport: `GET /sse`, `POST /messages?sessionId=`. */
export function startSseServer(): Promise<TestUpstream> {
  const sessions = new Map<string, SSEServerTransport>()
  return listen(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost')
    if (request.method === 'GET' && url.pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', response)
      sessions.set(transport.sessionId, transport)
      await legacyServer().connect(transport)
      return
    }
    const transport = sessions.get(url.searchParams.get('sessionId') ?? '')
    if (request.method === 'POST' && transport !== undefined) return transport.handlePostMessage(request, response)
    plain(response, 404, 'no such session')
  })
}

function legacyServer(): McpServer {
  const server = new McpServer({ name: 'legacy-under-test', version: '1.0.0' }, { capabilities: { logging: {} } })
  server.registerTool(
    'search_docs',
    { description: 'Finds documents', inputSchema: { query: z.string(), limit: z.number().optional() } },
    async ({ query }) => ({ content: [{ type: 'text' as const, text: `found: ${query}` }] }),
  )
  server.registerTool('delete_row', { description: 'Deletes', inputSchema: {} }, async () => ({
    content: [{ type: 'text' as const, text: 'deleted' }],
  }))
  server.registerTool(
    'count',
    { description: 'Counts with progress', inputSchema: { to: z.number(), pauseMs: z.number().optional() } },
    async ({ to, pauseMs }, extra) => {
      const token = extra._meta?.progressToken
      for (let i = 1; i <= to; i++) {
        if (token !== undefined) {
          await extra.sendNotification({
            method: 'notifications/progress',
            params: { progressToken: token, progress: i, total: to },
          })
        }
        if (pauseMs !== undefined) await new Promise(resolve => setTimeout(resolve, pauseMs))
      }
      return { content: [{ type: 'text' as const, text: `counted to ${to}` }] }
    },
  )
  server.registerTool('ask', { description: 'Asks the client to sample', inputSchema: {} }, async () => {
    const answer = await server.server.createMessage({
      messages: [{ role: 'user', content: { type: 'text', text: 'say something' } }],
      maxTokens: 10,
    })
    const text = answer.content.type === 'text' ? answer.content.text : ''
    return { content: [{ type: 'text' as const, text: `the client said: ${text}` }] }
  })
  return server
}

function memoryEventStore(): EventStore {
  const events: { id: string; stream: string; message: unknown }[] = []
  return {
    async storeEvent(stream, message) {
      const id = `${stream}_${events.length}`
      events.push({ id, stream, message })
      return id
    },
    async replayEventsAfter(lastEventId, { send }) {
      const at = events.findIndex(event => event.id === lastEventId)
      const stream = events[at]?.stream ?? ''
      for (const event of events.slice(at + 1)) {
        if (event.stream === stream) await send(event.id, event.message as never)
      }
      return stream
    },
  }
}

/** Any handler as an upstream, with what it has seen. */
export async function listen(
  handle: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<TestUpstream> {
  const seen: TestUpstream['seen'] = []
  const cancelled: string[] = []
  const server = http.createServer((request, response) => {
    seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.rawHeaders })
    response.on('close', () => {
      if (!response.writableFinished) cancelled.push(`${request.method} ${request.url}`)
    })
    void Promise.resolve(handle(request, response)).catch(error => {
      if (!response.headersSent) plain(response, 500, String(error))
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    seen,
    cancelled,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain' }).end(text)
}

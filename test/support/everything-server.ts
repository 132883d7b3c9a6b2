import { randomUUID } from 'node:crypto'
import { localhostHostValidation, toNodeHandler } from '@modelcontextprotocol/node'
import {
  createMcpHandler,
  type EventStore,
  isLegacyRequest,
  McpServer,
  type ServerNotifier,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server'
import { addAskingTools } from './everything/asking-tools.ts'
import { addContentTools } from './everything/content-tools.ts'
import { addInputRequiredTools, stateCodec } from './everything/input-required.ts'
import { addPrompts, addResources, addUtilities } from './everything/objects.ts'
import { addStreamTools } from './everything/stream-tools.ts'
import { listen, type TestUpstream } from './mcp-upstreams.ts'

/**
 * An MCP server that has something of everything, in both eras on one endpoint, `/mcp`: stateless for 2026-07-28,
 * sessions with resumable streams for what came before. Its tools, prompts and resources have the names for which the
 * official conformance suite asks.
 */
export function startEverythingServer(): Promise<TestUpstream> {
  // One event bus for all: a change that a call makes reaches the subscriptions of others.
  const modern = createMcpHandler(() => everything(modern.notify), { legacy: 'reject' })
  const sessions = new Sessions(() => everything(modern.notify))
  const handle = toNodeHandler({
    fetch: async (request, options) =>
      (await isLegacyRequest(request)) ? sessions.handle(request) : modern.fetch(request, options),
  })
  const hasLocalHost = localhostHostValidation()
  return listen((request, response) => {
    if (!hasLocalHost(request, response)) return undefined
    if (request.url !== '/mcp') return response.writeHead(404).end()
    return handle(request as never, response as never)
  })
}

function everything(notify: ServerNotifier): McpServer {
  const server = new McpServer(
    { name: 'everything-under-test', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        resources: { listChanged: true, subscribe: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
      // State comes back through the client: what has not been minted here is refused before a tool sees it.
      requestState: { verify: stateCodec.verify },
    },
  )
  addContentTools(server)
  addStreamTools(server, notify)
  addAskingTools(server)
  addInputRequiredTools(server)
  addResources(server)
  addPrompts(server)
  addUtilities(server)
  return server
}

/** The legacy era: one server and one transport for each session. */
class Sessions {
  readonly #open = new Map<string, WebStandardStreamableHTTPServerTransport>()
  readonly #make: () => McpServer

  constructor(make: () => McpServer) {
    this.#make = make
  }

  async handle(request: Request): Promise<Response> {
    const id = request.headers.get('mcp-session-id')
    if (id === null) return this.#begin(request)
    const transport = this.#open.get(id)
    if (transport === undefined) {
      const error = { code: -32001, message: 'Session not found' }
      return Response.json({ jsonrpc: '2.0', error, id: null }, { status: 404 })
    }
    return transport.handleRequest(request)
  }

  /** Anything but `initialize` is refused by the transport, which then is forgotten with its server. */
  async #begin(request: Request): Promise<Response> {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new MemoryEvents(),
      retryInterval: 200,
      onsessioninitialized: id => void this.#open.set(id, transport),
      onsessionclosed: id => void this.#open.delete(id),
    })
    await this.#make().connect(transport)
    return transport.handleRequest(request)
  }
}

/** Events of one session in their order; the id of an event is its place. */
class MemoryEvents implements EventStore {
  readonly #events: { stream: string; message: Parameters<EventStore['storeEvent']>[1] }[] = []

  async storeEvent(stream: string, message: Parameters<EventStore['storeEvent']>[1]): Promise<string> {
    return `${stream}~${this.#events.push({ stream, message }) - 1}`
  }

  async replayEventsAfter(...[last, { send }]: Parameters<EventStore['replayEventsAfter']>): Promise<string> {
    const at = last.lastIndexOf('~')
    const stream = last.slice(0, at)
    for (let i = Number(last.slice(at + 1)) + 1; i < this.#events.length; i++) {
      const event = this.#events[i]
      // The event that primes a stream is stored too, but says nothing.
      if (event?.stream === stream && 'jsonrpc' in event.message) await send(`${stream}~${i}`, event.message)
    }
    return stream
  }
}

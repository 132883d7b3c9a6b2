import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import * as z from 'zod'

export interface DemoServer {
  readonly port: number
  stop(): Promise<void>
}

/** A real MCP server, made with the official SDK, on loopback. It knows nothing of TLS, users or quotas. */
export async function startDemoServer(): Promise<DemoServer> {
  const handler = toNodeHandler(createMcpHandler(demoServer))
  const server = createServer((request, response) => void handler(request as never, response))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const DOCUMENTS = ['Holiday calendar', 'How to rotate a certificate', 'Menu of the canteen', 'On-call handbook']

function demoServer(): McpServer {
  const server = new McpServer({ name: 'demo-documents', version: '1.0.0' })
  server.registerTool(
    'search_docs',
    { description: 'Finds documents by a word in their title', inputSchema: z.object({ query: z.string() }) },
    async ({ query }) => {
      const found = DOCUMENTS.filter(title => title.toLowerCase().includes(query.toLowerCase()))
      return { content: [{ type: 'text', text: found.length > 0 ? found.join(', ') : 'nothing found' }] }
    },
  )
  server.registerTool(
    'delete_doc',
    { description: 'Deletes a document for good', inputSchema: z.object({ title: z.string() }) },
    async ({ title }) => ({ content: [{ type: 'text', text: `deleted: ${title}` }] }),
  )
  return server
}

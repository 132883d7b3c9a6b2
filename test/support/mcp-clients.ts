import { Client as ModernClient, StreamableHTTPClientTransport as ModernTransport } from '@modelcontextprotocol/client'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { Agent, fetch as undiciFetch } from 'undici'
import type { TestIdentity } from './pki.ts'

export interface ClientOptions {
  readonly port: number
  readonly ca: string
  readonly identity: Pick<TestIdentity, 'tls'>
  /** Headers as a gateway forwards them; X-User-ID and the like. */
  readonly headers?: Record<string, string>
  readonly path?: string
}

/** `fetch` over mTLS, as the SDKs take it. */
export function mtlsFetch(options: ClientOptions): { fetch: typeof fetch; close(): Promise<void> } {
  const agent = new Agent({
    allowH2: false,
    bodyTimeout: 0,
    headersTimeout: 0,
    connect: { ca: options.ca, ...options.identity.tls, servername: 'localhost' },
  })
  const send = (url: unknown, init?: RequestInit): Promise<unknown> => {
    const headers = new Headers(init?.headers)
    for (const [name, value] of Object.entries(options.headers ?? USER)) headers.set(name, value)
    return undiciFetch(url as string, { ...(init as object), headers: Object.fromEntries(headers), dispatcher: agent })
  }
  return { fetch: send as typeof fetch, close: () => agent.destroy() }
}

export const USER = { 'X-User-ID': 'ada', 'X-Org-ID': 'acme', 'X-User-Scopes': 'mcp.read mcp.write' }

export async function connectModern(
  options: ClientOptions,
  mode: 'legacy' | 'auto' | { pin: '2026-07-28' } = { pin: '2026-07-28' },
): Promise<{ client: ModernClient; close(): Promise<void> }> {
  const { fetch, close } = mtlsFetch(options)
  const client = new ModernClient({ name: 'modern-client', version: '1.0.0' }, { versionNegotiation: { mode } })
  await client.connect(new ModernTransport(urlOf(options, '/mcp'), { fetch }))
  return {
    client,
    close: async () => {
      await client.close()
      await close()
    },
  }
}

export async function connectLegacy(
  options: ClientOptions,
  capabilities: ConstructorParameters<typeof Client>[1] = {},
): Promise<{ client: Client; transport: StreamableHTTPClientTransport; close(): Promise<void> }> {
  const { fetch, close } = mtlsFetch(options)
  const client = new Client({ name: 'legacy-client', version: '1.0.0' }, capabilities)
  const transport = new StreamableHTTPClientTransport(urlOf(options, '/mcp'), { fetch })
  await client.connect(transport as never)
  return {
    client,
    transport,
    close: async () => {
      await client.close()
      await close()
    },
  }
}

export async function connectSse(options: ClientOptions): Promise<{ client: Client; close(): Promise<void> }> {
  const { fetch, close } = mtlsFetch(options)
  const client = new Client({ name: 'sse-client', version: '1.0.0' })
  await client.connect(new SSEClientTransport(urlOf(options, '/sse'), { fetch, eventSourceInit: { fetch } }) as never)
  return {
    client,
    close: async () => {
      await client.close()
      await close()
    },
  }
}

function urlOf(options: ClientOptions, path: string): URL {
  return new URL(`https://localhost:${options.port}${options.path ?? path}`)
}

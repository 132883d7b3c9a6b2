import { readFileSync } from 'node:fs'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Agent, fetch as fetchWith } from 'undici'
import type { DevName, DevPki } from '../../edge/pki.ts'
import { identityOf } from './setting.ts'

/** What came of one attempt, as the client sees it. */
export type Attempt =
  | { readonly kind: 'answer'; readonly text: string }
  | { readonly kind: 'rpc-error'; readonly code: number; readonly message: string }
  | { readonly kind: 'no-connection'; readonly message: string }

export interface DemoCaller {
  call(tool: string, args: Record<string, string>): Promise<Attempt>
  close(): Promise<void>
}

/** What the gateway says of the user whose calls it forwards. */
const ADA = { 'X-User-ID': 'ada', 'X-Org-ID': 'acme', 'X-User-Scopes': 'docs.read' }

/** A real MCP client, made with the official SDK, that shows one of the certificates. It connects with its first call. */
export function demoCaller(pki: DevPki, name: DevName, port: number): DemoCaller {
  const identity = identityOf(pki, name)
  const dispatcher = new Agent({
    allowH2: false,
    connect: { ca: readFileSync(pki.ca.cert), cert: readFileSync(identity.cert), key: readFileSync(identity.key) },
  })
  const overMtls = (url: unknown, init?: RequestInit): Promise<unknown> => {
    const headers = { ...Object.fromEntries(new Headers(init?.headers)), ...ADA }
    return fetchWith(url as string, { ...(init as object), headers, dispatcher })
  }
  const client = new Client(
    { name: 'demo-client', version: '1.0.0' },
    { versionNegotiation: { mode: { pin: '2026-07-28' } } },
  )
  const transport = new StreamableHTTPClientTransport(new URL(`https://localhost:${port}/mcp`), {
    fetch: overMtls as typeof fetch,
  })
  let connected: Promise<void> | undefined
  return {
    call: async (tool, args) => {
      try {
        connected ??= client.connect(transport)
        await connected
        const { content } = await client.callTool({ name: tool, arguments: args })
        const texts = (content as { type: string; text?: string }[]).map(({ text }) => text ?? '')
        return { kind: 'answer', text: texts.join(' ') }
      } catch (error) {
        return attemptOf(error as Error & { code?: unknown })
      }
    },
    close: async () => {
      await client.close().catch(() => undefined)
      await dispatcher.destroy()
    },
  }
}

function attemptOf(error: Error & { code?: unknown }): Attempt {
  if (typeof error.code === 'number') return { kind: 'rpc-error', code: error.code, message: error.message }
  return { kind: 'no-connection', message: innermost(error) }
}

/** What the TLS layer said; `fetch` wraps it several times. */
function innermost(error: Error): string {
  let inner = error
  while (inner.cause instanceof Error) inner = inner.cause
  const { code } = inner as NodeJS.ErrnoException
  return typeof code === 'string' ? `${code}: ${inner.message}` : inner.message
}

import type { ServerResponse } from 'node:http'
import { listen, type TestUpstream } from './mcp-upstreams.ts'

/** An MCP server that does what the name of the tool says, with next to no work of its own, for tests with many calls. */
export interface ScriptedServer extends TestUpstream {
  /** Calls of `search_later` that wait for their answers. */
  waiting(): number
  /** Answers them. */
  release(): void
}

/**
 * `fail`: a tool error · `count`: an answer as an event stream · `get_user`: a JSON-RPC error with the text of the
 * argument `say` · `search_later`: waits for `release` · everything else: a result with the text of `say`.
 */
export async function startScriptedServer(): Promise<ScriptedServer> {
  const held: (() => void)[] = []
  const server = await listen(async (request, response) => {
    if (request.method === 'GET') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).write(': open\n\n')
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = JSON.parse(Buffer.concat(chunks).toString()) as Called | Called[]
    if (Array.isArray(body)) return json(response, body.map(answerTo))
    const tool = body.params?.name
    if (tool === 'search_later') {
      held.push(() => json(response, answerTo(body)))
    } else if (tool === 'count') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('event: message\ndata: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n')
      response.end(`event: message\ndata: ${JSON.stringify(answerTo(body))}\n\n`)
    } else {
      json(response, answerTo(body))
    }
  })
  return Object.assign(server, {
    waiting: () => held.length,
    release: () => {
      for (const answer of held.splice(0)) answer()
    },
  })
}

interface Called {
  readonly id?: string | number
  readonly params?: { readonly name?: string; readonly arguments?: Readonly<Record<string, unknown>> }
}

function answerTo({ id, params }: Called): object {
  const say = params?.arguments?.['say']
  const said = typeof say === 'string' ? say : 'done'
  if (params?.name === 'get_user') return { jsonrpc: '2.0', id, error: { code: -32000, message: said } }
  const isError = params?.name === 'fail'
  return { jsonrpc: '2.0', id, result: { content: [{ type: 'text', text: said }], ...(isError ? { isError } : {}) } }
}

function json(response: ServerResponse, answer: object): void {
  const body = JSON.stringify(answer)
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }).end(body)
}

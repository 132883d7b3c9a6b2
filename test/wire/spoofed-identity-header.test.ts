import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { connect, type TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { HEADER_TRICKS, linesOf } from '../support/header-tricks.ts'
import { isInstalled } from '../support/programs.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const CALL = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'search_docs', arguments: {} },
})

const SERVERS = isInstalled('python3') ? ['node', 'python'] : ['node']

let node: Server
let python: ChildProcess | undefined
const behind: Record<string, RunningSidecar> = {}

beforeAll(async () => {
  node = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { id } = JSON.parse(Buffer.concat(chunks).toString()) as { id: number }
      response.setHeader('content-type', 'application/json')
      // Both what Node makes of the lines and the lines themselves.
      response.end(
        JSON.stringify({ jsonrpc: '2.0', id, result: { ...request.headers, raw: request.rawHeaders.join('\n') } }),
      )
    })
  })
  await new Promise<void>(resolve => node.listen(0, '127.0.0.1', resolve))
  behind['node'] = await startTestSidecar(`http://127.0.0.1:${(node.address() as AddressInfo).port}`, acceptHost)
  if (!isInstalled('python3')) return
  const script = fileURLToPath(new URL('../support/echo-wsgi.py', import.meta.url))
  python = spawn('python3', [script], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [port] = (await once(createInterface({ input: python.stdout as NodeJS.ReadableStream }), 'line')) as [string]
  behind['python'] = await startTestSidecar(`http://127.0.0.1:${port}`, acceptHost)
})
afterAll(async () => {
  python?.kill()
  for (const socket of idle.values()) socket.destroy()
  for (const running of Object.values(behind)) await running.stop()
  node.closeAllConnections()
  node.close()
})

function acceptHost(config: Record<string, unknown>): void {
  config['listen'] = { address: '127.0.0.1:0', hosts: ['mcp.example.org'] }
  const [gateway] = config['peers'] as { mayAssert: { forwardedFor: boolean } }[]
  if (gateway !== undefined) gateway.mayAssert.forwardedFor = false
}

interface Answer {
  readonly status: number
  /** What the upstream was told, when it was reached. */
  readonly told: Record<string, string> | undefined
}

/** Connections that carry another request, by the port of the sidecar. */
const idle = new Map<number, TLSSocket>()

async function connectTo(running: RunningSidecar): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port: running.port,
    ca: running.pki.ca.cert,
    ...running.pki.gateway.tls,
    servername: 'localhost',
    ALPNProtocols: ['http/1.1'],
  })
  await once(socket, 'secureConnect')
  return socket
}

/** Sends the lines as they are. */
async function send(running: RunningSidecar, lines: readonly string[]): Promise<Answer> {
  const before = idle.get(running.port)
  idle.delete(running.port)
  const socket = before === undefined || before.destroyed ? await connectTo(running) : before
  let head = 'POST /mcp HTTP/1.1\r\n'
  for (let at = 0; at < lines.length; at += 2) head += `${lines[at]}: ${lines[at + 1]}\r\n`
  head += `Content-Length: ${CALL.length}\r\n\r\n`
  const text = await exchange(socket, Buffer.concat([asBytes(head), Buffer.from(CALL)]))
  const body = text.slice(text.indexOf('\r\n\r\n') + 4)
  if (!/\r\nconnection: close/i.test(text) && text.startsWith('HTTP/1.1 200')) idle.set(running.port, socket)
  else socket.destroy()
  const message = body.startsWith('{') ? (JSON.parse(body) as { result?: Record<string, string> }) : {}
  return { status: Number(text.slice(9, 12)), told: message.result }
}

/** The whole answer, or what there was of it when the connection closed. */
function exchange(socket: TLSSocket, request: Buffer | string): Promise<string> {
  return new Promise(resolve => {
    let text = ''
    const finish = (): void => {
      socket.removeAllListeners()
      socket.on('error', () => {})
      resolve(text)
    }
    socket.on('error', finish)
    socket.on('close', finish)
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1')
      if (isComplete(text)) finish()
    })
    socket.write(request)
  })
}

/** One byte for each character, as far as there is one; beyond that UTF-8. */
function asBytes(text: string): Buffer {
  return /^[\0-\xff]*$/.test(text) ? Buffer.from(text, 'latin1') : Buffer.from(text, 'utf8')
}

function isComplete(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  const length = /\r\ncontent-length: *([0-9]+)/i.exec(text.slice(0, end))?.[1]
  return end > 0 && length !== undefined && text.length >= end + 4 + Number(length)
}

// A few tricks are about what has no bytes of its own: on the wire they are other headers.
const onTheWire = HEADER_TRICKS.filter(
  ({ lines }) => !lines.some(([name, value]) => name.includes(':') || /[\u0100-\uffff]/.test(value)),
)

describe.each(SERVERS)('in front of a real server: %s', upstream => {
  const user = upstream === 'node' ? 'x-user-id' : 'HTTP_X_USER_ID'
  const refused: string[] = []

  test.each(onTheWire)('$name', async trick => {
    const { status, told } = await send(behind[upstream] as RunningSidecar, linesOf(trick))
    if (told === undefined) {
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
      if (trick.want === 'gone') refused.push(trick.name)
      return
    }
    expect(trick.want).toBe('gone')
    expect(told[user]).toBe('alice')
    expect(JSON.stringify(told).toLowerCase()).not.toContain('evil')
  })

  test('what is refused besides, by what reads the request and the message', () => {
    expect(refused).toEqual(
      [
        'Upgrade',
        'Content_Type',
        'CONTENT.TYPE',
        'Content_Encoding',
        'Last_Event_ID',
        'Mcp_Session_Id',
        'mcp.session.id',
        'MCP_METHOD',
        'Mcp_Name',
        'Mcp_Protocol_Version',
        'Origin',
      ].map(name => `${name} of the peer's own`),
    )
  })
})

describe('over HTTP/2', () => {
  // Node's client lower-cases names and refuses what HTTP/2 does not allow; what it sends are the aliases and repeats.
  const sendable = onTheWire.filter(
    ({ lines, instead }) =>
      instead !== true &&
      lines.every(([name, value]) => /^[!-~]+$/.test(name) && !/[:/]/.test(name) && /^[ -~]*$/.test(value)) &&
      !lines.some(([name]) => /^(connection|keep-alive|te|upgrade|proxy-connection|http2-settings|host)$/i.test(name)),
  )

  test('no trick brings anything to the upstream', async () => {
    const running = behind['node'] as RunningSidecar
    const session = connectHttp2(`https://127.0.0.1:${running.port}`, {
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
      servername: 'localhost',
    })
    let reached = 0
    onTestFinished(() => session.destroy())
    for (const trick of sendable) {
      const headers: Record<string, string | string[]> = {
        ':method': 'POST',
        ':path': '/mcp',
        ':authority': 'mcp.example.org',
      }
      const lines = linesOf(trick).slice(2)
      for (let at = 0; at < lines.length; at += 2) {
        const name = (lines[at] as string).toLowerCase()
        const before = headers[name]
        headers[name] = before === undefined ? (lines[at + 1] as string) : [before, lines[at + 1] as string].flat()
      }
      let stream: ReturnType<typeof session.request>
      try {
        stream = session.request(headers)
      } catch {
        continue // A single-valued header twice: Node's client does not send that.
      }
      stream.end(CALL)
      const [response] = (await once(stream, 'response')) as [{ ':status': number }]
      let body = ''
      for await (const chunk of stream) body += chunk
      if (response[':status'] !== 200) continue
      reached++
      expect(trick.want, trick.name).toBe('gone')
      const { result } = JSON.parse(body) as { result: Record<string, string> }
      expect(result['x-user-id'], trick.name).toBe('alice')
      expect(JSON.stringify(result).toLowerCase(), trick.name).not.toContain('evil')
    }
    expect(sendable.length).toBeGreaterThan(150)
    expect(reached).toBeGreaterThan(80)
  })
})

describe('an identity in trailers', () => {
  test.each(SERVERS)('does not arrive: %s', async upstream => {
    const running = behind[upstream] as RunningSidecar
    const socket = await connectTo(running)
    const head = [
      'POST /mcp HTTP/1.1',
      'Host: mcp.example.org',
      'Content-Type: application/json',
      'Accept: application/json, text/event-stream',
      'X-User-ID: alice',
      'X-User-Scopes: mcp.read',
      'Transfer-Encoding: chunked',
      'Trailer: X-User-ID, X-User-Roles',
    ].join('\r\n')
    const chunks = `${CALL.length.toString(16)}\r\n${CALL}\r\n0\r\nX-User-ID: evil\r\nX-User-Roles: evil\r\n\r\n`
    const text = await exchange(socket, `${head}\r\n\r\n${chunks}`)
    socket.destroy()
    expect(text).toMatch(/^HTTP\/1\.1 200/)
    expect(text).toContain('alice')
    expect(text).not.toContain('evil')
  })
})

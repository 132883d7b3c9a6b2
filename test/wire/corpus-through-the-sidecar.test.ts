import https from 'node:https'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bodyOf, type CorpusRequest, readCorpus } from '../support/corpus.ts'
import {
  type ReadingUpstream,
  startExpressReader,
  startPythonReader,
  startSdkReader,
} from '../support/reading-upstreams.ts'
import { type AuditLine, type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const requests = [...readCorpus().values()].flat()

describe.each([
  { parser: 'the SDK', start: startSdkReader },
  { parser: 'express.json()', start: startExpressReader },
  { parser: 'Python', start: startPythonReader },
])('in front of $parser', ({ parser, start }) => {
  let upstream: ReadingUpstream | undefined
  let running: RunningSidecar
  const outcomes = new Map<string, { status: number; requestId: string }>()

  beforeAll(async () => {
    upstream = await start()
    if (upstream === undefined) return
    running = await startTestSidecar(upstream.url, config => {
      config['policy'] = { default: 'allow' }
      // Lines are to show what was decided on, e-mail addresses in URIs too.
      config['audit'] = { args: 'none', redact: { patterns: ['private-key'] } }
    })
    const agent = new https.Agent({ keepAlive: true, maxSockets: 8 })
    await Promise.all(
      requests.filter(usual).map(async (request, index) => {
        const requestId = `corpus-${index}`
        outcomes.set(request.name, { status: await post(running, request, requestId, agent), requestId })
      }),
    )
    agent.destroy()
  }, 60_000)
  afterAll(async () => {
    await running?.stop()
    await upstream?.stop()
  })

  test('nothing that is refused has reached it, and what has is what policy decided on', async context => {
    if (upstream === undefined) return context.skip(`${parser} is not installed`)
    const readings = upstream.readings()
    const wrong: string[] = []
    for (const request of requests.filter(usual)) {
      const { requestId } = outcomes.get(request.name) ?? { requestId: '' }
      const read = readings.get(requestId) ?? []
      if (request.verdict !== 'read' && read.length > 0)
        wrong.push(`${request.name}: refused, and read as ${JSON.stringify(read)}`)
      const line = lineOf(running.lines, requestId)
      for (const { method, name, uri } of read) {
        if (request.verdict !== 'read') continue
        const decided = line?.['mcp'] ?? {}
        const object = decided.tool ?? decided.prompt ?? decided.resource
        if (method !== undefined && method !== decided.method)
          wrong.push(`${request.name}: ${method} was decided on as ${decided.method}`)
        const named = decided.tool ?? decided.prompt ?? (decided.resource === undefined ? undefined : uri)
        if (object !== undefined && (name ?? uri) !== undefined && decided.resource === undefined && name !== named) {
          wrong.push(`${request.name}: ${name} was decided on as ${named}`)
        }
        if (decided.resource !== undefined && uri !== undefined && uri !== decided.resource)
          wrong.push(`${request.name}: ${uri} was decided on as ${decided.resource}`)
      }
    }
    expect(wrong).toEqual([])
    expect(readings.size).toBeGreaterThan(50)
  })

  test('every verdict is the one that the corpus names', async context => {
    if (upstream === undefined) return context.skip(`${parser} is not installed`)
    const served = requests.filter(usual).filter(request => request.verdict === 'read')
    expect(served.length).toBeGreaterThan(100)
    const passed = served.filter(request => (outcomes.get(request.name)?.status ?? 0) !== 0)
    expect(passed.length).toBe(served.length)
    const refused = requests.filter(usual).filter(request => request.verdict !== 'read')
    const wrong = refused.filter(request => (outcomes.get(request.name)?.status ?? 200) < 400).map(({ name }) => name)
    expect(wrong).toEqual([])
  })
})

/** Those that hold under the default limits; the others are held against the reader by its own test. */
function usual(request: CorpusRequest): boolean {
  return request.limits === undefined
}

function lineOf(lines: readonly AuditLine[], requestId: string): AuditLine | undefined {
  return lines.find(line => line['requestId'] === requestId)
}

function post(running: RunningSidecar, request: CorpusRequest, requestId: string, agent: https.Agent): Promise<number> {
  const body = bodyOf(request)
  const headers = [
    'Host',
    'localhost',
    'X-User-ID',
    requestId,
    'X-Org-ID',
    'acme',
    'X-Request-ID',
    requestId,
    'Accept',
    'application/json, text/event-stream',
    'Content-Length',
    String(body.length),
    ...request.headers.flat(),
  ]
  return new Promise((resolve, reject) => {
    const sent = https.request(
      {
        host: '127.0.0.1',
        port: running.port,
        servername: 'localhost',
        ca: running.pki.ca.cert,
        ...running.pki.gateway.tls,
        method: 'POST',
        path: '/mcp',
        headers: headers as never,
        agent,
      },
      response => {
        response.resume()
        response.on('close', () => resolve(response.statusCode ?? 0))
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

import https from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { cli } from '../support/cli.ts'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { hasRedis, redisTitle, startRedis, type TestRedis } from '../support/redis.ts'
import { type Answer, send, type Target, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import { inParallel, SidecarProcess } from '../support/sidecar-process.ts'

let server: ScriptedServer

beforeAll(async () => {
  server = await startScriptedServer()
})
afterAll(() => server.stop())

const by = (user: string) => ({ 'X-User-ID': user })
const call = (target: Target, user: string, tool: string, headers: Record<string, string> = {}): Promise<Answer> =>
  send(target, { headers: { ...by(user), ...headers }, body: toolCall(tool, {}, 7) })
const isServed = ({ json }: Answer): boolean => json.result !== undefined

/** On a busy machine a sidecar sheds what is new before it looks at it: such a call is made once more. */
async function untilTaken(attempt: () => Promise<Answer>): Promise<Answer> {
  for (let tries = 0; tries < 200; tries++) {
    const answer = await attempt().catch((error: NodeJS.ErrnoException) => error)
    if (!(answer instanceof Error) && !answer.text.includes('sidecar_overloaded')) return answer
    await sleep(50)
  }
  throw new Error('shed for 10 s')
}

/** A call whose client can leave; it waits at the server, or wherever it is held before. */
function callAndLeave(target: Target, user: string, id: string): { leave(): void } {
  const request = https.request({
    host: '127.0.0.1',
    port: target.sidecar.ports.mtls,
    servername: 'localhost',
    ca: target.pki.ca.cert,
    ...target.pki.gateway.tls,
    agent: false,
    method: 'POST',
    path: '/mcp',
    headers: {
      Host: 'localhost',
      'Content-Type': 'application/json',
      Accept: 'application/json',
      'X-User-ID': user,
      'X-Org-ID': 'acme',
      'X-User-Scopes': 'mcp.read',
      'X-Request-ID': id,
    },
  })
  request.on('error', () => {})
  request.end(toolCall('search_later'))
  return { leave: () => request.destroy() }
}

describe('quotas in memory', () => {
  let running: SidecarProcess

  beforeAll(async () => {
    running = await SidecarProcess.start(server.url, config => {
      config['limits'] = { batch: 10 }
      config['quotas'] = [
        { name: 'per-user', key: 'user', match: { tools: ['search_docs'] }, windows: [{ limit: 3, per: '1h' }] },
        { name: 'short', key: 'user', match: { tools: ['big'] }, windows: [{ limit: 2, per: '1s' }] },
        { name: 'slots', key: 'user', match: { tools: ['search_later'] }, concurrent: 1 },
        { name: 'streams', key: 'user', match: { methods: ['stream/open'] }, concurrent: 1 },
      ]
    })
  })
  afterAll(() => running.end())

  const change = async (to: (config: Record<string, unknown>) => void): Promise<void> => {
    const loaded = async () =>
      Number(/^mcp_sidecar_generation\{what="config"\} (\d+)$/m.exec((await running.probe('/metrics')).text)?.[1])
    const before = await loaded()
    running.rewrite(to)
    await eventually(async () => (await loaded()) > before)
  }

  test('a refusal is in band, with the headers of the draft and all that there is to know', async () => {
    const answers: Answer[] = []
    for (let i = 0; i < 4; i++) answers.push(await call(running, 'ada', 'search_docs'))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    expect(answers.slice(0, 3).map(isServed)).toEqual([true, true, true])
    expect(answers.slice(0, 3).map(({ headers }) => String(headers['ratelimit']).replace(/;t=.*/, ''))).toEqual([
      '"per-user";r=2',
      '"per-user";r=1',
      '"per-user";r=0',
    ])
    const { headers, json } = answers[3] as Answer
    const { retryAfterMs } = json.error.data
    expect(json).toEqual({
      jsonrpc: '2.0',
      id: 7,
      error: {
        code: 429,
        message: expect.any(String),
        data: {
          reason: 'quota_exhausted',
          quota: 'per-user',
          limit: 3,
          windowMs: 3_600_000,
          retryAfterMs: expect.any(Number),
          requestId: expect.any(String),
        },
      },
    })
    const seconds = Math.ceil(retryAfterMs / 1000)
    expect(headers['retry-after']).toBe(String(seconds))
    expect(headers['ratelimit']).toBe(`"per-user";r=0;t=${seconds}`)
    expect(headers['ratelimit-policy']).toBe('"per-user";q=3;w=3600')
    expect(headers['cache-control']).toBe('no-store')
  })

  test('what cannot have an answer in band is refused by status', async () => {
    const open = await openStream(running, { headers: by('eve') })
    expect(open.status).toBe(200)
    const second = await send(running, { method: 'GET', headers: { ...by('eve'), Accept: 'text/event-stream' } })
    expect([second.status, second.json.error.code, second.json.error.data.reason]).toEqual([
      429,
      429,
      'quota_concurrency',
    ])
    expect(second.headers['retry-after']).toBe('1')
    open.leave()
    await eventually(async () => {
      const again = await openStream(running, { headers: by('eve') })
      again.leave()
      return again.status === 200
    })
  })

  test('a retry after retryAfterMs is served', async () => {
    for (let round = 0; round < 3; round++) {
      let answer: Answer
      do answer = await call(running, 'tim', 'big')
      while (isServed(answer))
      const { retryAfterMs } = answer.json.error.data
      expect(retryAfterMs).toBeGreaterThan(0)
      expect(retryAfterMs).toBeLessThanOrEqual(1000 + 1000 / 32 + 1)
      await sleep(retryAfterMs + 1)
      expect(isServed(await call(running, 'tim', 'big'))).toBe(true)
    }
  })

  test('each message of a batch counts, and a batch is served whole or not at all', async () => {
    const batch = (n: number) =>
      send(running, {
        headers: by('bea'),
        body: `[${Array.from({ length: n }, (_, i) => toolCall('search_docs', {}, i)).join(',')}]`,
      })
    const first = await batch(2)
    expect(first.json.map((answer: { result?: object }) => answer.result !== undefined)).toEqual([true, true])
    const second = await batch(2)
    expect(
      second.json.map((answer: { id: number; error: { code: number } }) => [answer.id, answer.error.code]),
    ).toEqual([
      [0, 429],
      [1, 429],
    ])
    expect(isServed(await call(running, 'bea', 'search_docs'))).toBe(true)
    expect(isServed(await call(running, 'bea', 'search_docs'))).toBe(false)
  })

  test('a slot is free again once its client has left, and not before', async () => {
    const waiting = server.waiting()
    const first = callAndLeave(running, 'sol', 'leaves-at-the-server')
    await eventually(() => server.waiting() > waiting)
    const refused = await call(running, 'sol', 'search_later')
    expect(refused.json.error.data).toMatchObject({ reason: 'quota_concurrency', quota: 'slots' })
    first.leave()
    await eventually(async () => {
      const next = call(running, 'sol', 'search_later')
      const timer = setInterval(() => server.release(), 20)
      const answer = await next
      clearInterval(timer)
      return isServed(answer)
    })
    await eventually(() => running.lines().some(({ requestId }) => requestId === 'leaves-at-the-server'))
    const lines = running.lines().filter(({ requestId }) => requestId === 'leaves-at-the-server')
    expect(lines).toMatchObject([{ event: 'mcp.call', outcome: 'aborted' }])
  })

  test('a reload keeps what has been used, and the headers are sent as it says', async () => {
    for (let i = 0; i < 2; i++) expect(isServed(await call(running, 'kim', 'search_docs'))).toBe(true)
    await change(config => {
      config['quotaHeaders'] = 'refused'
    })
    const third = await call(running, 'kim', 'search_docs')
    expect([isServed(third), third.headers['ratelimit'], third.headers['ratelimit-policy']]).toEqual([
      true,
      undefined,
      undefined,
    ])
    const fourth = await call(running, 'kim', 'search_docs')
    expect([isServed(fourth), fourth.headers['ratelimit-policy']]).toEqual([false, '"per-user";q=3;w=3600'])
    await change(config => {
      config['quotaHeaders'] = 'never'
    })
    const fifth = await call(running, 'kim', 'search_docs')
    expect([isServed(fifth), fifth.headers['ratelimit'], fifth.headers['ratelimit-policy']]).toEqual([
      false,
      undefined,
      undefined,
    ])
    expect(fifth.headers['retry-after']).toMatch(/^\d+$/)
    await change(config => {
      config['quotas'] = [
        { name: 'per-user', key: 'user', match: { tools: ['search_docs'] }, windows: [{ limit: 5, per: '1h' }] },
      ]
      config['policy'] = { ...(config['policy'] as object), refusals: 'http' }
    })
    const rest = [await call(running, 'kim', 'search_docs'), await call(running, 'kim', 'search_docs')]
    expect(rest.map(isServed)).toEqual([true, true])
    const last = await call(running, 'kim', 'search_docs')
    expect([last.status, last.json.error.code, last.json.id]).toEqual([429, 429, 7])
  })

  test('quotas explain says over the socket what has been used', async () => {
    for (let i = 0; i < 2; i++) await call(running, 'zoe', 'search_docs')
    const { code, stdout } = await cli([
      'quotas',
      'explain',
      '--socket',
      running.socket,
      '--user',
      'zoe',
      '--org',
      'acme',
    ])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^per-user {2}user zoe of acme\n {2}2 of \d in 1h, \d left, empty in 1h/)
  })
})

describe.skipIf(!hasRedis)(redisTitle('quotas in Redis'), () => {
  let redis: TestRedis
  let sidecars: SidecarProcess[]

  beforeEach(async () => {
    redis = await startRedis()
    sidecars = []
  })
  afterEach(async () => {
    for (const sidecar of sidecars) sidecar.end()
    await redis.close()
  })

  const start = async (quota: object, store: object = {}): Promise<SidecarProcess> => {
    const started = await SidecarProcess.start(server.url, config => {
      config['quotas'] = [{ name: 'shared', key: 'user', match: { methods: ['tools/call'] }, ...quota }]
      config['quotaStore'] = { kind: 'redis', url: redis.url, onFailure: 'local', ...store }
    })
    sidecars.push(started)
    return started
  }

  test('three processes never admit more than one limit between them', async () => {
    const quota = { windows: [{ limit: 60, per: '1h' }] }
    await Promise.all([1, 2, 3].map(() => start(quota, { deadline: '10s' })))
    const agent = new https.Agent({ keepAlive: true })
    const reasons = new Map<string, number>()
    await inParallel(150, 15, async i => {
      const target = sidecars[i % 3] as SidecarProcess
      const { json } = await untilTaken(() => send(target, { agent, body: toolCall('search_docs') }))
      const word = json.result === undefined ? json.error.data.reason : 'served'
      reasons.set(word, (reasons.get(word) ?? 0) + 1)
    })
    agent.destroy()
    expect(Object.fromEntries(reasons)).toEqual({ served: 60, quota_exhausted: 90 })
  }, 60_000)

  test('killed under load, and back: no request fails, the state is visible, the sidecar stays ready', async () => {
    const running = await start({ windows: [{ limit: 1_000_000, per: '1h' }] })
    const agent = new https.Agent({ keepAlive: true })
    const storeUp = async () => /^mcp_sidecar_quota_store_up (\d)$/m.exec((await running.probe('/metrics')).text)?.[1]
    let isOver = false
    const others: string[] = []
    let served = 0
    const load = inParallel(8, 8, async () => {
      while (!isOver) {
        const answer = await untilTaken(() => send(running, { agent, body: toolCall('search_docs') }))
        if (isServed(answer)) served++
        else others.push(answer.text)
      }
    })
    await eventually(() => served > 50)
    await redis.kill()
    const atKill = served
    await eventually(async () => served > atKill + 50 && (await storeUp()) === '0', 10_000)
    expect((await running.probe('/readyz')).status).toBe(200)
    await redis.start()
    await eventually(async () => (await storeUp()) === '1', 10_000)
    const atReturn = served
    await eventually(() => served > atReturn + 50)
    isOver = true
    await load
    agent.destroy()
    expect(others).toEqual([])
  }, 60_000)

  test('a client that leaves while Redis is being asked: nothing is sent, the slot is free, one line', async () => {
    const running = await start({ windows: [{ limit: 100, per: '1h' }], concurrent: 1 }, { deadline: '10s' })
    expect(isServed(await call(running, 'ada', 'search_docs'))).toBe(true)
    const [sent, id] = [server.seen.length, 'leaves-at-redis']
    redis.signal('SIGSTOP')
    const first = callAndLeave(running, 'ada', id)
    // The slot is taken before Redis is asked: once it is, the call waits there.
    await eventually(async () => {
      const { json } = await call(running, 'ada', 'search_docs').then(answer => answer)
      return json.error?.data.reason === 'quota_concurrency'
    })
    first.leave()
    await sleep(100)
    redis.signal('SIGCONT')
    await eventually(async () => isServed(await call(running, 'ada', 'search_docs')))
    const withId = () => running.lines().filter(({ requestId }) => requestId === id)
    await eventually(() => withId().length > 0)
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    expect(withId()).toMatchObject([{ event: 'mcp.call', outcome: 'aborted', error: 'the client left' }])
    expect(server.seen.slice(sent).filter(({ headers }) => headers.includes(id))).toEqual([])
  }, 60_000)
})

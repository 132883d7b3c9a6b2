import { afterAll, beforeAll, expect, test } from 'vitest'
import { AdminServer, type Check } from '../../src/edge/admin.ts'

let ready: Check[] = []
let url: string
const faults: Error[] = []
const admin = new AdminServer(
  { host: '127.0.0.1', port: 0 },
  {
    live: () => [{ name: 'process', ok: true, detail: 'the event loop turns' }],
    ready: () => ready,
    started: () => {
      throw new Error('with a secret in it')
    },
    metrics: async openMetrics => ({ body: `openMetrics ${openMetrics}\n`, contentType: 'text/plain; version=0.0.4' }),
    appHealth: async (container, probe) =>
      container === 'app' ? { status: 503, body: `${probe} says no\n` } : undefined,
    fault: error => faults.push(error),
  },
)

beforeAll(async () => {
  url = `http://127.0.0.1:${await admin.start()}`
})

afterAll(() => admin.stop())

async function ask(path: string, init?: RequestInit): Promise<string> {
  const answer = await fetch(url + path, init)
  return `${answer.status} ${answer.headers.get('content-type')} ${await answer.text()}`
}

test.each([
  ['/livez', '200 application/json {"status":"ok","checks":{"process":{"ok":true,"detail":"the event loop turns"}}}'],
  [
    '/health?from=lb',
    '200 application/json {"status":"ok","checks":{"process":{"ok":true,"detail":"the event loop turns"}}}',
  ],
  ['/metrics', '200 text/plain; version=0.0.4 openMetrics false\n'],
  ['/app-health/app/readyz', '503 text/plain; charset=UTF-8 readyz says no\n'],
  ['/app-health/other/readyz', '404 text/plain; charset=UTF-8 no such probe\n'],
  ['/app-health/app', '404 text/plain; charset=UTF-8 not found\n'],
  ['/app-health/app/readyz/more', '404 text/plain; charset=UTF-8 not found\n'],
  ['/readyz/', '404 text/plain; charset=UTF-8 not found\n'],
  ['/constructor', '404 text/plain; charset=UTF-8 not found\n'],
  ['/startupz', '500 text/plain; charset=UTF-8 internal fault, see the log\n'],
])('GET %s', async (path, want) => {
  expect(await ask(path)).toBe(want)
})

test('not ready is 503, and what only informs does not turn it', async () => {
  ready = [{ name: 'upstream', ok: false, informational: true, detail: 'refuses' }]
  expect(await ask('/readyz')).toMatch(/^200 /)
  ready = [{ name: 'trust', ok: false, detail: 'no certificate' }]
  expect(await ask('/ready')).toBe(
    '503 application/json {"status":"unavailable","checks":{"trust":{"ok":false,"detail":"no certificate"}}}',
  )
})

test('OpenMetrics for who accepts it', async () => {
  const accept = 'application/openmetrics-text; version=1.0.0,text/plain;q=0.5'
  expect(await ask('/metrics', { headers: { accept } })).toContain('openMetrics true')
})

test('HEAD is answered without the body, everything else but GET is refused', async () => {
  expect(await ask('/metrics', { method: 'HEAD' })).toBe('200 text/plain; version=0.0.4 ')
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const answer = await fetch(`${url}/livez`, { method })
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET'])
  }
})

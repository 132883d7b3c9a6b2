import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { builtProgram } from '../support/built-program.ts'
import { eventually } from '../support/eventually.ts'
import { Issuer, type SigningKey, signingKey, tokenFor } from '../support/issuer.ts'
import { temporaryFolder } from '../support/pki.ts'
import { hasRedis, redisTitle, startRedis, type TestRedis } from '../support/redis.ts'
import { send, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import { SidecarProcess } from '../support/sidecar-process.ts'

/**
 * What is installed is the bundle, and what a bundle loads only when it is needed is not in it by itself: everything of
 * that kind is asked for here, of the program that users run.
 */
const folder = temporaryFolder('mcp-sidecar-late-')
const spans: string[] = []
let upstream: ScriptedServer
let collector: Server
let issuer: Issuer
let key: SigningKey
let redis: TestRedis | undefined
let running: SidecarProcess

beforeAll(async () => {
  upstream = await startScriptedServer()
  key = await signingKey('k1')
  issuer = await Issuer.start([key.jwk])
  redis = hasRedis ? await startRedis() : undefined
  collector = createServer((request, response) => {
    request.setEncoding('utf8').on('data', text => spans.push(text))
    request.on('end', () => response.end('{}'))
  })
  await new Promise<void>(resolve => collector.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  running = await SidecarProcess.start(
    upstream.url,
    config => {
      const signing = join(folder, 'audit.key')
      const { privateKey } = generateKeyPairSync('ed25519')
      writeFileSync(signing, privateKey.export({ type: 'pkcs8', format: 'pem' }))
      config['audit'] = { signingKey: signing }
      const jwt = { issuer: 'https://login.example.org/tenant/v2.0', audience: 'api://mcp', jwks: issuer.url }
      config['identity'] = { source: 'jwt', required: true, jwt }
      const rule = { id: 'readers', effect: 'allow', when: { scopes: ['mcp.read'] }, tools: ['search_*'] }
      config['policy'] = { rules: [{ ...rule, args: { query: { pattern: '[a-z ]+' } } }] }
      config['quotas'] = [
        { name: 'few', key: 'user', windows: [{ limit: 3, per: '1h' }], match: { methods: ['tools/call'] } },
      ]
      if (redis !== undefined) config['quotaStore'] = { kind: 'redis', url: redis.url, onFailure: 'deny' }
    },
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '100' },
  )
}, 120_000)
afterAll(async () => {
  running?.end()
  await Promise.all([upstream?.stop(), issuer?.stop(), redis?.close()])
  collector?.close()
})

async function call(query: string): ReturnType<typeof send> {
  const headers = { Authorization: `Bearer ${await tokenFor(key)}` }
  return send(running, { headers, body: toolCall('search_docs', { query }) })
}

describe('the bundle', () => {
  test('verifies a token with keys that it fetches', async () => {
    expect((await call('how to rotate')).status).toBe(200)
    expect(issuer.asked).toBe(1)
  })

  test('compares an argument with a pattern', async () => {
    expect((await call('NOT LIKE THIS')).json.error.data.reason).toBe('tool_not_permitted')
  })

  test(redisTitle('draws from a quota in Redis'), async ({ skip }) => {
    if (redis === undefined) return skip()
    const reasons = [await call('two'), await call('three'), await call('four')].map(
      ({ json }) => json.error?.data.reason,
    )
    expect(reasons).toEqual([undefined, undefined, 'quota_exhausted'])
    expect(await redis.command('DBSIZE')).not.toBe(':0')
  })

  test.each([
    ['text/plain', /^mcp_sidecar_policy_decisions_total\{.*\} [1-9]/m],
    ['application/openmetrics-text', /^# EOF$/m],
  ])('shows its metrics as %s', async (accept, expected) => {
    const response = await fetch(`${running.admin}/metrics`, { headers: { accept } })
    expect([response.status, response.headers.get('content-type')]).toEqual([200, expect.stringContaining(accept)])
    expect(await response.text()).toMatch(expected)
  })

  test('sends spans to a collector', async () => {
    expect(await eventually(() => spans.find(text => text.includes('tools/call search_docs')))).toBeDefined()
  })

  test('signs the end of its audit log, and verifies it', async () => {
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    expect(await running.allText()).toContain('"event":"audit.checkpoint"')
    const told = execFileSync(process.execPath, [builtProgram(), 'audit', 'verify', running.auditFile], {
      encoding: 'utf8',
    })
    expect(told).toContain('intact')
  })
})

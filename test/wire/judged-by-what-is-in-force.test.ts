import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { Issuer, signingKey, tokenFor } from '../support/issuer.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A server whose answers wait until the test goes on with them. */
async function inFrontOfWaiting(
  change: (config: Record<string, unknown>) => void = () => {},
): Promise<{ running: RunningSidecar; waiting: ServerResponse[] }> {
  const waiting: ServerResponse[] = []
  const upstream = await listen((request, response) => {
    request.resume()
    waiting.push(response)
  })
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return { running, waiting }
}

const isReloaded = (running: RunningSidecar) => (): boolean =>
  running.lines.some(line => line['event'] === 'config.reloaded')

test('a stream that begins after its caller was denied ends before its first event', async () => {
  const { running, waiting } = await inFrontOfWaiting()
  const opening = openStream(running, { headers: { 'X-User-ID': 'mallory' }, body: toolCall('search_docs') })
  const response = await eventually(() => waiting[0])
  running.rewrite(config => {
    ;(config['policy'] as { rules: unknown[] }).rules.push({
      id: 'kill',
      effect: 'deny',
      when: { users: ['mallory'] },
    })
  })
  await eventually(isReloaded(running))
  response?.writeHead(200, { 'Content-Type': 'text/event-stream' })
  response?.write('data: {"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"secret"}]}}\n\n')
  const stream = await opening
  await stream.ended
  expect(stream.text()).not.toContain('secret')
  const line = await eventually(() => running.lines.find(({ outcome }) => outcome === 'aborted'))
  expect(line).toMatchObject({ user: { id: 'mallory' }, error: 'stream ended: tool_not_permitted' })
})

test('a stream that a token opened ends when tokens are judged by other rules', async () => {
  const key = await signingKey('k1')
  const issuer = await Issuer.start([key.jwk])
  cleanups.push(() => issuer.stop())
  const jwt = { issuer: 'https://login.example.org/tenant/v2.0', audience: 'api://mcp', jwks: issuer.url }
  const { running, waiting } = await inFrontOfWaiting(config => {
    config['identity'] = { source: 'jwt', required: true, jwt }
  })
  const opening = openStream(running, { headers: { Authorization: `Bearer ${await tokenFor(key)}` } })
  const response = await eventually(() => waiting[0])
  response?.writeHead(200, { 'Content-Type': 'text/event-stream' })
  response?.write('data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n')
  const stream = await opening
  await eventually(() => stream.text().includes('list_changed'))
  running.rewrite(config => {
    config['identity'] = { source: 'jwt', required: true, jwt: { ...jwt, requiredScopes: ['mcp.admin'] } }
  })
  expect(await stream.ended).toBe('complete')
  const line = await eventually(() => running.lines.find(entry => entry['event'] === 'mcp.stream.close'))
  expect(line).toMatchObject({ user: { id: 'alice' }, error: 'stream ended: user_token_invalid' })
})

describe('the metadata of the resource', () => {
  const path = '/.well-known/oauth-protected-resource/mcp'

  test('is for listed peers, whoever their user is, and for nobody else', async () => {
    const { running } = await inFrontOfWaiting(config => {
      config['identity'] = { ...(config['identity'] as object), resource: 'https://localhost/mcp' }
    })
    const served = await send(running, { method: 'GET', path, headers: { 'X-User-ID': '' } })
    expect([served.status, served.json.resource]).toEqual([200, 'https://localhost/mcp'])

    const refused = await send(running, { method: 'GET', path, identity: running.pki.secondGateway })
    expect([refused.status, refused.json.error.data.reason]).toEqual([403, 'peer_not_listed'])
    const line = await eventually(() => running.lines.find(entry => entry['event'] === 'mcp.refused'))
    expect(line).toMatchObject({ decision: { reason: 'peer_not_listed' }, status: 403 })
  })
})

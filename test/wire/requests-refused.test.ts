import http2 from 'node:http2'
import net from 'node:net'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { startModernServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import type { TestIdentity } from '../support/pki.ts'
import { type RequestOptions, send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

let upstream: TestUpstream
let running: RunningSidecar

beforeAll(async () => {
  upstream = await startModernServer()
  running = await startTestSidecar(upstream.url, config => {
    config['limits'] = { body: '64KiB', headers: '16KiB' }
    config['listen'] = { address: '127.0.0.1:0', origins: ['https://app.example.org'] }
  })
})
afterAll(async () => {
  await running?.stop()
  await upstream?.stop()
})

const UUID = /^[0-9a-f-]{36}$/
const call = toolCall('search_docs', { query: 'tea' }, 41)

describe('every refusal has its status, its code and its line', () => {
  test.each([
    { name: 'no user', headers: { 'X-User-ID': '' }, status: 401, reason: 'user_missing' },
    { name: 'a repeated user', headers: { 'X-User-ID': ['ada', 'eve'] }, status: 400, reason: 'user_header_ambiguous' },
    { name: 'an alias of the user', headers: { x_user_id: 'eve' }, status: 400, reason: 'user_header_ambiguous' },
    {
      name: 'an organisation that the peer may not assert',
      headers: { 'X-Org-ID': 'evil' },
      status: 403,
      reason: 'peer_may_not_assert',
    },
    { name: 'a foreign Host', headers: { Host: 'evil.example.com' }, status: 421, reason: 'request_host_not_accepted' },
    {
      name: 'a foreign Origin',
      headers: { Origin: 'https://evil.example.com' },
      status: 403,
      reason: 'request_origin_not_accepted',
    },
    { name: 'another path', path: '/admin', status: 404, reason: 'request_path_unknown' },
    { name: 'a dot segment', path: '/mcp/../admin', status: 400, reason: 'request_path_malformed' },
    { name: 'an encoded slash', path: '/mcp%2fadmin', status: 400, reason: 'request_path_malformed' },
    { name: 'a token in the query', path: '/mcp?access_token=x', status: 400, reason: 'request_token_in_query' },
    { name: 'PUT', method: 'PUT', status: 405, reason: 'request_method_not_allowed' },
    {
      name: 'an upgrade',
      headers: { Upgrade: 'websocket', Connection: 'upgrade' },
      status: 400,
      reason: 'request_upgrade_refused',
    },
    {
      name: 'another media type',
      headers: { 'Content-Type': 'text/plain' },
      status: 415,
      reason: 'message_media_type',
    },
    { name: 'a compressed body', headers: { 'Content-Encoding': 'gzip' }, status: 415, reason: 'message_encoding' },
    { name: 'a batch', body: `[${call}]`, status: 400, reason: 'message_batch_refused' },
    { name: 'no JSON', body: 'nonsense', status: 400, reason: 'message_unparseable' },
    {
      name: 'a repeated key',
      body: '{"jsonrpc":"2.0","id":41,"method":"ping","method":"tools/call"}',
      status: 400,
      reason: 'message_ambiguous',
    },
    {
      name: 'a header that disagrees',
      headers: { 'Mcp-Method': 'ping' },
      status: 400,
      reason: 'message_header_mismatch',
    },
    {
      name: 'a session that nobody was given',
      headers: { 'Mcp-Session-Id': 'abc' },
      status: 404,
      reason: 'session_unknown',
    },
    {
      name: 'a body that is too large',
      body: toolCall('search_docs', { query: 'x'.repeat(70_000) }),
      status: 413,
      reason: 'message_too_large',
    },
    {
      name: 'a tool that no rule allows',
      body: toolCall('delete_row', {}, 41),
      status: 200,
      reason: 'tool_not_permitted',
    },
  ])('$name', async ({ headers, path, method, body, status, reason }) => {
    const answer = await send(running, {
      ...(headers === undefined ? {} : { headers: headers as Record<string, string | string[]> }),
      ...(path === undefined ? {} : { path }),
      ...(method === undefined ? {} : { method }),
      body: body ?? call,
    })
    expect(answer.status).toBe(status)
    expect(answer.json.error.data.reason).toBe(reason)
    if (body === undefined && method === undefined) expect(answer.json.id).toBe(41)
    expect(answer.headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    // Refusals that are identical in caller and reason share a line for 10 s, so it may be an earlier one.
    const line = running.lines.find(entry => entry['event'] === 'mcp.refused' && entry['decision'].reason === reason)
    expect(line).toMatchObject({ outcome: 'refused' })
    expect(upstream.seen.filter(({ method: sent }) => sent === 'PUT')).toEqual([])
  })

  test.each([
    { name: 'that nothing waits for', headers: {}, reason: 'message_response_unsolicited' },
    { name: 'of nobody', headers: { 'X-User-ID': '' }, reason: 'user_missing' },
    { name: 'in a session that nobody was given', headers: { 'Mcp-Session-Id': 'abc' }, reason: 'session_unknown' },
    { name: 'that is no JSON', headers: {}, more: ',', reason: 'message_unparseable' },
  ])('a response $name is not answered with its id, which is the server\u2019s', async ({ headers, more, reason }) => {
    const body = `{"jsonrpc":"2.0","id":41,"result":{}${more ?? ''}}`
    const { status, json } = await send(running, { headers, body })
    expect(json).toEqual({ jsonrpc: '2.0', error: expect.objectContaining({ data: expect.anything() }) })
    expect([status >= 400, json.error.data.reason]).toEqual([true, reason])
  })

  test('401 says where the metadata would be found, and how to authenticate', async () => {
    const answer = await send(running, { headers: { 'X-User-ID': '' }, body: call })
    expect(answer.headers['www-authenticate']).toBe('Bearer')
  })

  test('an accepted Origin does not reach the server', async () => {
    await send(running, { headers: { Origin: 'https://app.example.org' }, body: call })
    expect(upstream.seen.at(-1)?.headers.map(name => name.toLowerCase())).not.toContain('origin')
  })
})

describe('what is refused before the user is asked for', () => {
  // Refusals that are identical in caller and reason share a line, and these want their own.
  let fresh: RunningSidecar
  beforeAll(async () => {
    fresh = await startTestSidecar(upstream.url)
  })
  afterAll(() => fresh.stop())

  const cases: (Pick<RequestOptions, 'headers' | 'method' | 'path'> & { reason: string })[] = [
    { reason: 'request_host_not_accepted', headers: { Host: 'evil.example.com' } },
    { reason: 'request_method_not_allowed', method: 'PUT' },
    { reason: 'request_path_unknown', path: '/admin' },
    { reason: 'user_header_ambiguous', headers: { 'X-User-ID': ['ada', 'eve'] } },
  ]
  async function refused({ reason, headers, ...rest }: (typeof cases)[number], identity: TestIdentity, id: string) {
    const { json } = await send(fresh, { ...rest, identity, headers: { 'X-Request-ID': id, ...headers }, body: call })
    expect(json.error.data.reason).toBe(reason)
    const { requestId } = json.error.data as { requestId: string }
    return { requestId, line: await eventually(() => fresh.lines.find(line => line['requestId'] === requestId)) }
  }

  test.each(cases)('$reason: a listed peer has its name in the line, and its request id', async each => {
    const { requestId, line } = await refused(each, fresh.pki.gateway, `of-gateway.${each.reason}`)
    expect(requestId).toBe(`of-gateway.${each.reason}`)
    expect(line['peer'].name).toBe('gateway')
  })

  test.each(cases)('$reason: of a peer that is not listed nothing is believed', async each => {
    const { requestId, line } = await refused(each, fresh.pki.secondGateway, 'of-nobody')
    expect(requestId).toMatch(UUID)
    expect(line['peer']).not.toHaveProperty('name')
  })

  test('without a user, a peer that may say for whom it forwards is believed in that', async () => {
    const headers = { 'X-User-ID': '', 'X-Forwarded-For': '203.0.113.7', 'X-Request-ID': 'forwarded' }
    expect((await send(fresh, { headers, body: call })).status).toBe(401)
    const line = await eventually(() => fresh.lines.find(({ requestId }) => requestId === 'forwarded'))
    expect(line?.['client'].forwardedFor).toBe('203.0.113.7')
  })

  test('one of several request ids is not believed either', async () => {
    const headers = { Host: 'evil.example.com', 'X-Request-ID': ['one', 'two'] }
    const { json } = await send(fresh, { headers, body: call })
    expect(json.error.data.requestId).toMatch(UUID)
  })
})

describe('what never becomes a request', () => {
  test.each([
    { name: 'no certificate', identity: undefined, reason: 'PEER_DID_NOT_RETURN_A_CERTIFICATE' },
    { name: 'another CA', identity: 'stranger' as const, reason: /VERIFY|ISSUER/ },
    { name: 'expired', identity: 'expired' as const, reason: 'CERT_HAS_EXPIRED' },
    { name: 'not yet valid', identity: 'early' as const, reason: 'CERT_NOT_YET_VALID' },
    { name: 'a certificate for servers only', identity: 'serverOnly' as const, reason: 'INVALID_PURPOSE' },
    { name: 'self-signed', identity: 'selfSigned' as const, reason: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
  ])('$name: closed before a byte of HTTP, with the exact reason', async ({ identity, reason }) => {
    const secrets = identity === undefined ? {} : running.pki[identity].tls
    const socket = tls.connect({
      host: '127.0.0.1',
      port: running.port,
      servername: 'localhost',
      ca: running.pki.ca.cert,
      ...secrets,
    })
    let received = ''
    socket.on('error', () => {})
    socket.on('data', chunk => {
      received += String(chunk)
    })
    socket.on('secureConnect', () => socket.write('POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n'))
    await new Promise(resolve => socket.once('close', resolve))
    expect(received).toBe('')
    const line = await eventually(() => running.lines.findLast(entry => entry['event'] === 'connection.refused'))
    expect(line['decision'].reason).toMatch(reason)
  })

  test('a listed CA, an unlisted peer: 403 for each request', async () => {
    const answer = await send(running, { identity: running.pki.secondGateway, body: call })
    expect([answer.status, answer.json.error.data.reason, answer.json.id]).toEqual([403, 'peer_not_listed', 41])
  })

  test('garbage on the TLS port, and half-open connections, cost nobody anything', async () => {
    const sockets = Array.from({ length: 20 }, (_, i) => {
      const socket = net.connect(running.port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(i % 2 === 0 ? 'GET / HTTP/1.1\r\n\r\n' : '\x16\x03\x01')
      return socket
    })
    expect((await send(running, { body: call })).status).toBe(200)
    for (const socket of sockets) socket.destroy()
    await eventually(() =>
      running.lines.some(
        line => line['event'] === 'connection.refused' && /SSL|HTTP|RESET/.test(line['decision'].reason),
      ),
    )
  })

  test('a request that HTTP does not allow is a 400 with a line', async () => {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: running.port,
      servername: 'localhost',
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
    })
    let received = ''
    socket.on('data', chunk => {
      received += String(chunk)
    })
    socket.write('POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n')
    await new Promise(resolve => socket.once('close', resolve))
    expect(received).toMatch(/^HTTP\/1\.1 400 /)
    await eventually(() => running.lines.some(line => line['decision']?.reason === 'request_malformed'))
  })

  test('CONNECT over HTTP/2 is refused', async () => {
    const session = http2.connect(`https://localhost:${running.port}`, {
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
    })
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'localhost' })
    const status = await new Promise(resolve => {
      stream.on('response', headers => resolve(headers[':status']))
      stream.on('error', () => resolve('reset'))
      stream.on('close', () => resolve('closed'))
    })
    expect([405, 400, 404]).toContain(status)
    session.destroy()
  })
})

describe('HTTP/2', () => {
  test('carries calls beside one another, each with its own user', async () => {
    const session = http2.connect(`https://localhost:${running.port}`, {
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
    })
    const answers = await Promise.all(
      ['ada', 'bob', 'eve'].map(
        user =>
          new Promise<string>((resolve, reject) => {
            const stream = session.request({
              ':method': 'POST',
              ':path': '/mcp',
              'content-type': 'application/json',
              accept: 'application/json, text/event-stream',
              'x-user-id': user,
              'x-org-id': 'acme',
              'x-user-scopes': 'mcp.read',
            })
            let text = ''
            stream.on('data', chunk => {
              text += String(chunk)
            })
            stream.on('end', () => resolve(text))
            stream.on('error', reject)
            stream.end(toolCall('search_docs', { query: user }, user))
          }),
      ),
    )
    expect(answers.map(text => text.includes('found: '))).toEqual([true, true, true])
    const users = upstream.seen.slice(-3).map(({ headers }) => headers[headers.indexOf('X-User-ID') + 1])
    expect(new Set(users)).toEqual(new Set(['ada', 'bob', 'eve']))
    session.close()
  })
})

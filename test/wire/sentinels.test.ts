import https from 'node:https'
import { connect as connectTcp } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { Issuer, signingKey, tokenFor } from '../support/issuer.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { type RequestOptions, send, toolCall } from '../support/request.ts'
import { Sentinels } from '../support/sentinels.ts'
import { inParallel, SidecarProcess } from '../support/sidecar-process.ts'

let server: TestUpstream
let running: SidecarProcess
let secrets: Sentinels

beforeAll(async () => {
  server = await startLeakyServer()
})
afterAll(() => server.stop())
afterEach(() => running.end())

/** A server that says secrets wherever a server can say something that ends up in front of an operator. */
function startLeakyServer(): Promise<TestUpstream> {
  return listen(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString() || '{}')
    const say = params?.arguments?.say ?? 'done'
    const answer = (body: object, headers: Record<string, string> = {}) =>
      response
        .writeHead(200, { 'Content-Type': 'application/json', ...headers })
        .end(JSON.stringify({ jsonrpc: '2.0', id, ...body }))
    if (method === 'initialize') {
      const session = String(request.headers['x-wanted-session'])
      return answer({ result: { protocolVersion: '2025-06-18', capabilities: {} } }, { 'Mcp-Session-Id': session })
    }
    switch (params?.name) {
      case 'get_user':
        return answer({ error: { code: -32000, message: say, data: say } })
      case 'fail':
        return answer({ result: { isError: true, content: [{ type: 'text', text: say }] } })
      case 'count':
        response.writeHead(200, { 'Content-Type': 'text/event-stream' })
        return response.end(
          `id: ${say}\ndata: ${JSON.stringify({ jsonrpc: '2.0', id, error: { code: 1, message: say } })}\n\n`,
        )
      case 'big':
        return response.writeHead(200, { 'Content-Encoding': say }).end(say)
      case 'ask':
        return response.socket?.end(`HTTP/1.1 2${say} ${say}\r\n${say}\r\n\r\n`)
      default:
        return answer({ result: { content: [{ type: 'text', text: say }] } })
    }
  })
}

const NAMES = [
  'password',
  'accessToken',
  'client-secret',
  'X_API_KEY',
  'Authorization',
  'cookie',
  'credential',
  'private key',
]

/** Objects and lists, so deep, with secrets under telling names, in telling texts, and as names. */
function secretArgs(deep: number): Record<string, unknown> {
  const name = NAMES[deep % NAMES.length] as string
  return {
    [name]: secrets.plain('the value of a telling name'),
    [`${name}s`]: [secrets.plain('a list of a telling name'), { any: secrets.plain('deep below a telling name') }],
    text: secrets.shaped('a text in arguments'),
    long: 'x'.repeat(900 + deep * 13) + secrets.shaped('a text in arguments, where it is cut'),
    [secrets.shaped('a name in arguments')]: 1,
    ...(deep === 0 ? {} : { more: secretArgs(deep - 1), list: [[secretArgs(Math.min(1, deep - 1))]] }),
  }
}

/** Every place that a caller controls, or a server. */
function requests(i: number): RequestOptions[] {
  const call = (name: string, args: Record<string, unknown> = {}, id: string | number = 1) => ({
    body: toolCall(name, args, id),
  })
  const posted = (message: object) => ({ body: JSON.stringify({ jsonrpc: '2.0', id: 1, ...message }) })
  const said = (tool: string) => call(tool, { say: secrets.shaped(`what the server says: ${tool}`) })
  const plain = secrets.plain.bind(secrets)
  const shaped = secrets.shaped.bind(secrets)
  const word = secrets.word.bind(secrets)
  const header = (name: string, value: string) => ({ ...call('search_docs'), headers: { [name]: value } })
  const oneLine = (text: string) => text.replaceAll('\n', ' ')
  return [
    call('search_docs', secretArgs(i % 9)),
    call(`search_${word('a tool name')}`),
    call(shaped('the name of a forbidden tool')),
    call('search_docs', {}, shaped('an id')),
    posted({
      method: 'prompts/get',
      params: { name: shaped('a prompt name'), arguments: { token: plain('arguments of a prompt') } },
    }),
    posted({
      method: 'resources/read',
      params: { uri: `https://ada:${plain('a URI')}@host/x?access_token=${plain('a URI')}&a=1` },
    }),
    posted({ method: 'resources/read', params: { uri: `file:///srv/${word('a URI')}` } }),
    posted({ method: word('a method') }),
    posted({
      method: 'initialize',
      params: {
        protocolVersion: '2025-06-18',
        capabilities: { experimental: { [plain('capabilities')]: {} } },
        clientInfo: { name: shaped('the name of a client'), version: word('the version of a client') },
      },
    }),
    ...['get_user', 'fail', 'count', 'search_docs'].map(said),
    ...['big', 'ask'].map(tool => call(tool, { say: word(`what a broken server says: ${tool}`) })),
    ...[
      'Authorization',
      'Proxy-Authorization',
      'Cookie',
      'X-API-Key',
      'DPoP',
      'tracestate',
      'traceparent',
      'baggage',
    ].map(name => header(name, plain(name))),
    ...['Mcp-Param-Region', 'Mcp-Session-Id', 'Last-Event-ID', 'Mcp-Name', 'Mcp-Method', 'X-Anything'].map(name =>
      header(name, plain(name)),
    ),
    ...['Content-Type', 'Accept', 'Content-Encoding', 'Expect', 'Upgrade', 'TE'].map(name => header(name, plain(name))),
    header('MCP-Protocol-Version', word('MCP-Protocol-Version')),
    header('User-Agent', oneLine(shaped('User-Agent'))),
    header('X-Request-ID', word('X-Request-ID')),
    header('Origin', `https://ada:${plain('Origin')}@evil.example`),
    header('X-User-Email', `${plain('an address that may not be asserted')}@other.example`),
    header('X-User-Roles', `developer ${word('a role that may not be asserted')}`),
    header('X_User_ID', plain('an alias of an identity header')),
    { ...call('search_docs'), path: `/mcp?access_token=${plain('access_token in the query')}` },
    { ...call('search_docs'), path: `/mcp?${plain('a query')}=${plain('a query')}` },
    { ...call('search_docs'), path: `/elsewhere?${plain('a query')}` },
    { ...call('search_docs'), path: `/${word('a path')}` },
    { ...call('search_docs'), path: `/messages?sessionId=${plain('sessionId of /messages')}` },
    { ...call('search_docs'), path: `/mcp/%2e%2e/${plain('a path with dots')}` },
    {
      method: 'GET',
      headers: { 'Mcp-Session-Id': plain('Mcp-Session-Id of a GET'), 'Last-Event-ID': plain('Last-Event-ID of a GET') },
    },
    { method: 'DELETE', headers: { 'Mcp-Session-Id': plain('Mcp-Session-Id of a DELETE') } },
    { method: 'PUT', path: '/mcp', body: plain('the body of a PUT') },
    ...malformed().map(body => ({ body })),
  ]
}

function malformed(): (string | Buffer)[] {
  let n = 0
  const secret = () => secrets.plain(`malformed body ${++n}`)
  return [
    secret(),
    `"${secret()}"`,
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"a":${secret()}}}}`,
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_docs","arguments":{"a":"${secret()}`,
    `{"jsonrpc":"2.0","id":1,"${secrets.word('the name of a member')}":1,"method":"tools/call","params":{"name":"search_docs"}}`,
    `{"jsonrpc":"${secret()}","id":1,"method":"tools/call","params":{"name":"search_docs"}}`,
    `{"jsonrpc":"2.0","id":{"a":"${secret()}"},"method":"tools/call","params":{"name":"search_docs"}}`,
    `{"jsonrpc":"2.0","id":1,"method":["${secret()}"]}`,
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"${secret()}"}`,
    `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":{"a":"${secret()}"}}}`,
    `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${secret()}"}}]`,
    `{"jsonrpc":"2.0","id":1,"result":{"a":"${secret()}"}}`,
    `{"a":"${secret()}\\ud800"}`,
    Buffer.concat([Buffer.from(`{"a":"${secret()}`), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]),
    '['.repeat(200) + secret(),
  ]
}

/** What never becomes a request, below TLS and above it. */
async function garbage(): Promise<void> {
  const secret = (place: string) => secrets.plain(place)
  const below = [
    secret('no TLS at all'),
    `GET /${secret('plain HTTP')} HTTP/1.1\r\nAuthorization: ${secret('plain HTTP')}\r\n\r\n`,
  ]
  const above = [
    `${secret('no HTTP')}\r\n\r\n`,
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\n${secret('a bad header')} x: ${secret('a bad header')}\r\n\r\n`,
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-A: ${secret('too long a header')}${'x'.repeat(40_000)}\r\n\r\n`,
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz${secret('a bad chunk')}\r\n`,
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${secret('a bad length')}\r\n\r\n`,
    `${secret('a made-up method')} /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    `CONNECT ${secret('CONNECT')}:443 HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  ]
  const { ca, gateway, otherCa } = running.pki
  const target = { host: '127.0.0.1', port: running.port }
  for (const text of below) await ended(connectTcp(target), text)
  for (const text of above) {
    await ended(
      connectTls({ ...target, servername: 'localhost', ca: ca.cert, ...gateway.tls, ALPNProtocols: ['http/1.1'] }),
      text,
    )
  }
  const servername = `${secret('a server name')}.example`
  await ended(
    connectTls({ ...target, servername, ca: ca.cert, ...gateway.tls, checkServerIdentity: () => undefined }),
    'GET',
  )
  await ended(connectTls({ ...target, ca: otherCa.cert, servername }), secret('a client that trusts nobody'))
}

function ended(socket: ReturnType<typeof connectTcp>, text: string): Promise<void> {
  return new Promise(resolve => {
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.setTimeout(1500, () => socket.destroy())
    socket.resume().write(text)
  })
}

/** Sessions as the server gives them out, used by their owner and by nobody. */
async function sessions(agent: https.Agent, i: number): Promise<void> {
  const session = secrets.plain('a session id of the server')
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'initialize',
    params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'x', version: '1' } },
  })
  await send(running, { agent, headers: { 'X-Wanted-Session': session }, body })
  const answer = await send(running, {
    agent,
    headers: { 'Mcp-Session-Id': session },
    body: toolCall('search_docs', {}, i),
  })
  expect(answer.json.result).toBeDefined()
}

/** All of it, so many times over. @returns what stdout and stderr have got. */
async function everything(rounds: number, change: (config: Record<string, unknown>) => void): Promise<string> {
  secrets = new Sentinels()
  running = await SidecarProcess.start(server.url, change)
  const agent = new https.Agent({ keepAlive: true })
  const all = Array.from({ length: rounds }, (_, i) => requests(i)).flat()
  await inParallel(all.length, 16, i => send(running, { agent, ...all[i] }).catch(() => undefined))
  await inParallel(rounds, 8, i => sessions(agent, i))
  await garbage()
  agent.destroy()
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(0)
  return (await running.allText()) + running.log()
}

const found = (text: string): Record<string, number> => Object.fromEntries(secrets.placesIn(text))

test('no secret that a caller or the server has put anywhere is on stdout or stderr', async () => {
  const text = await everything(30, () => {})
  console.info(`${secrets.size} secrets, ${text.split('\n').length} lines`)
  expect(found(text)).toEqual({})
  expect(secrets.size).toBeGreaterThan(3000)
  // It was all really called and written.
  expect(text).toContain('[redacted:jwt]')
  expect(text).toContain('"tool_error"')
}, 120_000)

test.each(['digest', 'none'])(
  'args: %s: nothing of the arguments is there, whatever it looks like',
  async args => {
    secrets = new Sentinels()
    running = await SidecarProcess.start(server.url, config => {
      config['audit'] = { args }
    })
    const agent = new https.Agent({ keepAlive: true })
    const deep = (n: number): object => ({
      [secrets.plain('a name')]: secrets.plain('a value'),
      comment: [secrets.plain('in a list')],
      ...(n === 0 ? {} : { more: deep(n - 1) }),
    })
    await inParallel(200, 16, async i => {
      const tool = i % 3 === 0 ? 'delete_row' : 'search_docs'
      await send(running, { agent, body: toolCall(tool, deep(i % 6) as Record<string, unknown>) })
    })
    agent.destroy()
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    const text = (await running.allText()) + running.log()
    expect(found(text)).toEqual({})
    expect(secrets.size).toBeGreaterThan(1000)
    expect(text.includes('"argsDigest"')).toBe(args === 'digest')
  },
  60_000,
)

test('nothing of a token is there, good or bad', async () => {
  secrets = new Sentinels()
  const key = await signingKey('key-1')
  const issuer = await Issuer.start([key.jwk])
  running = await SidecarProcess.start(server.url, config => {
    config['identity'] = {
      source: 'jwt',
      jwt: {
        issuer: 'https://login.example.org/tenant/v2.0',
        audience: 'api://mcp',
        jwks: issuer.url,
        algorithms: ['RS256'],
        claims: { user: 'sub', org: 'tid', scopes: 'scp' },
      },
    }
  })
  const agent = new https.Agent({ keepAlive: true })
  const plain = secrets.plain.bind(secrets)
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const past = Math.floor(Date.now() / 1000) - 7200
  let answered = 0
  for (let i = 0; i < 20; i++) {
    const good = await tokenFor(key, { jti: plain('a claim'), nonce: [plain('a claim')] }, { cty: plain('a header') })
    const tokens = [
      good,
      `${good.slice(0, -12)}${plain('a signature')}`,
      await tokenFor(key, { iss: plain('a wrong issuer') }),
      await tokenFor(key, { aud: plain('a wrong audience') }),
      await tokenFor(key, { exp: past, jti: plain('a claim of an expired token') }),
      await tokenFor(key, { scp: [{ a: plain('scopes of a wrong type') }] }),
      await tokenFor(key, { sub: { a: plain('a user of a wrong type') } }),
      await tokenFor(key, {}, { kid: plain('an unknown key') }),
      `${part({ alg: plain('an unknown algorithm') })}.${part({ sub: plain('an unknown algorithm') })}.${plain('a signature')}`,
      `${part({ alg: 'none' })}.${part({ sub: plain('no algorithm') })}.`,
      plain('no token at all'),
    ]
    for (const token of tokens) {
      const answer = await send(running, {
        agent,
        headers: { Authorization: `Bearer ${token}`, 'X-User-ID': [], 'X-Org-ID': [], 'X-User-Scopes': [] },
        body: toolCall('search_docs'),
      })
      if (answer.json.result !== undefined) answered++
    }
  }
  agent.destroy()
  await issuer.stop()
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(0)
  const text = (await running.allText()) + running.log()
  expect(answered).toBeGreaterThan(0)
  expect(text).toContain('user_token_invalid')
  expect(found(text)).toEqual({})
}, 60_000)

test('control: with redaction all but off the same secrets are seen, place by place', async () => {
  const text = await everything(3, config => {
    config['audit'] = { redact: { keys: ['nothing that occurs'], patterns: ['card'] } }
  })
  const places = found(text)
  for (const place of [
    'the value of a telling name',
    'a list of a telling name',
    'deep below a telling name',
    'a text in arguments',
    'a name in arguments',
    'a tool name',
    'the name of a forbidden tool',
    'an id',
    'a prompt name',
    'arguments of a prompt',
    'a URI',
    'a method',
    'the name of a client',
    'what the server says: get_user',
    'what the server says: count',
    'User-Agent',
    'X-Request-ID',
    'Origin',
    'a path',
  ]) {
    expect(places[place], place).toBeGreaterThan(0)
  }
}, 60_000)

import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { Client, ClientCredentialsProvider, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type SigningKey, signingKey, tokenFor } from '../support/issuer.ts'
import { mtlsFetch } from '../support/mcp-clients.ts'
import { startModernServer, type TestUpstream } from '../support/mcp-upstreams.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

let upstream: TestUpstream
let authorization: Server
let issuer: string
let running: RunningSidecar
let key: SigningKey
let resource: string
/** Scopes and resources of the tokens that were asked for. */
const asked: { scope: string | null; resource: string | null }[] = []

beforeAll(async () => {
  key = await signingKey('k1')
  authorization = await startAuthorizationServer(key)
  issuer = `http://127.0.0.1:${(authorization.address() as AddressInfo).port}`
  upstream = await startModernServer()
  const port = await freePort()
  resource = `https://localhost:${port}/mcp`
  running = await startTestSidecar(upstream.url, config => {
    config['listen'] = { address: `127.0.0.1:${port}` }
    config['identity'] = {
      source: 'jwt',
      required: true,
      resource,
      jwt: { issuer, audience: resource, jwks: `${issuer}/keys`, requiredScopes: ['mcp.read'] },
    }
    const rules = (config['policy'] as { rules: object[] }).rules
    rules.push({
      id: 'writers',
      effect: 'allow',
      when: { scopes: ['mcp.read', 'mcp.write'] },
      methods: ['tools/call'],
      tools: ['delete_*'],
    })
    for (const [id, scope, tool] of [
      ['exporters', 'mcp.write', 'export_*'],
      ['admins', 'mcp.admin', 'drop_*'],
    ] as const) {
      rules.push({ id, effect: 'allow', when: { scopes: [scope] }, methods: ['tools/call'], tools: [tool] })
    }
  })
})
afterAll(async () => {
  await running?.stop()
  await upstream?.stop()
  authorization.closeAllConnections()
  authorization.close()
})

/** Client credentials for whoever asks; what is asked for is what the token holds. */
async function startAuthorizationServer(key: SigningKey): Promise<Server> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', async () => {
      const answer = (body: object): void => {
        response.setHeader('content-type', 'application/json')
        response.end(JSON.stringify(body))
      }
      if (request.url?.startsWith('/.well-known/oauth-authorization-server')) {
        return answer({
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          response_types_supported: ['code'],
          grant_types_supported: ['client_credentials'],
          code_challenge_methods_supported: ['S256'],
          token_endpoint_auth_methods_supported: ['client_secret_basic'],
        })
      }
      if (request.url === '/keys') return answer({ keys: [key.jwk] })
      if (request.url === '/token') {
        const form = new URLSearchParams(Buffer.concat(chunks).toString())
        asked.push({ scope: form.get('scope'), resource: form.get('resource') })
        const token = await tokenFor(key, {
          iss: issuer,
          aud: form.get('resource'),
          scp: form.get('scope'),
          sub: 'agent-1',
        })
        return answer({ access_token: token, token_type: 'Bearer', expires_in: 3600, scope: form.get('scope') })
      }
      response.statusCode = 404
      response.end()
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return server
}

/** The metadata has to name the port before there is one. */
function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createTcpServer()
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function fetchOf(): ReturnType<typeof mtlsFetch> {
  return mtlsFetch({ port: running.port, ca: running.pki.ca.cert, identity: running.pki.gateway, headers: {} })
}

describe('a real client that knows only the address', () => {
  test('finds the authorization server by our 401, and steps up by our 403', async () => {
    const { fetch, close } = fetchOf()
    const provider = new ClientCredentialsProvider({ clientId: 'agent-1', clientSecret: 's', expectedIssuer: issuer })
    const client = new Client(
      { name: 'oauth-client', version: '1.0.0' },
      { versionNegotiation: { mode: { pin: '2026-07-28' } } },
    )
    await client.connect(new StreamableHTTPClientTransport(new URL(resource), { fetch, authProvider: provider }))

    const found = await client.callTool({ name: 'search_docs', arguments: { query: 'tea' } })
    expect(found.content).toEqual([{ type: 'text', text: 'found: tea' }])
    // The scope that every token needs came with the challenge, the resource with the metadata.
    expect(asked).toEqual([{ scope: 'mcp.read', resource }])

    const deleted = await client.callTool({ name: 'delete_row', arguments: {} })
    expect(deleted.content).toEqual([{ type: 'text', text: 'deleted' }])
    expect(asked).toHaveLength(2)
    expect(new Set(asked[1]?.scope?.split(' '))).toEqual(new Set(['mcp.read', 'mcp.write']))
    await client.close()
    await close()

    const refused = running.lines.filter(line => line['event'] === 'mcp.refused')
    const reasons = new Set(refused.map(line => line['decision']?.reason as string))
    expect(reasons).toEqual(new Set(['user_token_missing', 'user_scope_missing']))
    const calls = running.lines.filter(line => line['event'] === 'mcp.call' && line['mcp'].tool !== undefined)
    expect(calls.map(line => [line['mcp'].tool, line['user'].id, line['user'].source])).toEqual([
      ['search_docs', 'agent-1', 'jwt'],
      ['delete_row', 'agent-1', 'jwt'],
    ])
  })
})

describe('the challenge on the wire', () => {
  const metadata = (): string => {
    const url = new URL(resource)
    return `resource_metadata="${url.origin}/.well-known/oauth-protected-resource${url.pathname}"`
  }
  // biome-ignore lint/suspicious/noExplicitAny: looked at member by member.
  type Told = { status: number; challenge: string | null; body: any }

  async function post(headers: Record<string, string>, name = 'search_docs'): Promise<Told> {
    const call = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name, arguments: { query: 'x' } } }
    const { fetch, close } = fetchOf()
    const response = await fetch(resource, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
      body: JSON.stringify(call),
    })
    const body = await response.json()
    await close()
    return { status: response.status, challenge: response.headers.get('www-authenticate'), body }
  }

  test('without a token: 401, the scope and where the metadata is', async () => {
    const { status, challenge, body } = await post({})
    expect(status).toBe(401)
    expect(challenge).toBe(`Bearer scope="mcp.read", ${metadata()}`)
    expect(body).toMatchObject({ jsonrpc: '2.0', error: { code: 401, data: { reason: 'user_token_missing' } } })
  })

  test('with a bad one: 401 and invalid_token', async () => {
    const { status, challenge } = await post({ authorization: 'Bearer not.a.token' })
    expect(status).toBe(401)
    expect(challenge).toBe(`Bearer error="invalid_token", scope="mcp.read", ${metadata()}`)
  })

  const withScopes = async (scp: string) => ({
    authorization: `Bearer ${await tokenFor(key, { iss: issuer, aud: resource, scp, sub: 'agent-2' })}`,
  })

  test.each([
    { name: 'that a rule asks for', scp: 'mcp.read', tool: 'export_all' },
    { name: 'that every token needs', scp: 'mcp.write', tool: 'search_docs' },
  ])('without a scope $name: 403, and header and body name the same scopes', async ({ scp, tool }) => {
    const { status, challenge, body } = await post(await withScopes(scp), tool)
    const scopes = body.error.data.requiredScopes as string[]
    expect([status, body.error.data.reason, scopes[0]]).toEqual([403, 'user_scope_missing', 'mcp.read'])
    expect(challenge).toBe(`Bearer error="insufficient_scope", scope="${scopes.join(' ')}", ${metadata()}`)
    expect(scopes.length).toBe(scp === 'mcp.read' ? 2 : 1)
  })

  test.each([
    { name: 'that the token has', scp: 'mcp.read mcp.admin' },
    { name: 'that the token lacks too', scp: 'mcp.read' },
  ])('a scope $name and the peer may not assert is not asked for: no other token would do', async ({ scp }) => {
    const { status, challenge, body } = await post(await withScopes(scp), `drop_${scp.length}`)
    expect([status, challenge]).toEqual([200, null])
    expect(body.error.data).toEqual({ reason: 'tool_not_permitted', rule: 'default', requestId: expect.any(String) })
    const line = running.lines.find(({ mcp }) => mcp?.tool === `drop_${scp.length}`)
    expect(line).toMatchObject({
      decision: { reason: 'tool_not_permitted', rule: 'default' },
      error: 'peer gateway may not assert scope mcp.admin (mayAssert.scopes)',
    })
  })

  test('the metadata is at both well-known paths', async () => {
    const { fetch, close } = fetchOf()
    for (const path of ['/mcp', '']) {
      const response = await fetch(new URL(`/.well-known/oauth-protected-resource${path}`, resource))
      expect(response.status).toBe(200)
      expect(await response.json()).toMatchObject({ resource, authorization_servers: [issuer] })
    }
    await close()
  })
})

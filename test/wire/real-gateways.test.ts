import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { mintLeaf } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { ask, askForStream, curl, type GatewayProgram, startHaproxy, startNginx } from '../support/gateway-programs.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { listen, type TestUpstream } from '../support/mcp-upstreams.ts'
import { GATEWAY_URI, type TestIdentity, type TestPki, temporaryFolder, testPki } from '../support/pki.ts'
import { isInstalled } from '../support/programs.ts'
import { toolCall } from '../support/request.ts'
import { presentedSerial } from '../support/rotation.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

let pki: TestPki
beforeAll(async () => {
  pki = await testPki()
})

interface Setting {
  readonly running: RunningSidecar
  readonly upstream: TestUpstream
  /** Replaces the sidecar's certificate and key, as a renewal does. @returns the new serial. */
  renew(): Promise<string>
}

/** Answers with JSON; `count` with an event stream that goes on until its client leaves. */
async function sidecar(change: (config: Record<string, unknown>) => void = () => {}): Promise<Setting> {
  const upstream = await listen(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { id, params } = JSON.parse(Buffer.concat(chunks).toString()) as { id: number; params: { name: string } }
    const content = [{ type: 'text', text: 'found' }]
    if (params.name !== 'count') {
      response.writeHead(200, { 'Content-Type': 'application/json' })
      return response.end(JSON.stringify({ jsonrpc: '2.0', id, result: { content } }))
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const write = () =>
      response.write(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":${n++}}}\n\n`)
    write()
    const timer = setInterval(write, 50)
    return response.on('close', () => clearInterval(timer))
  })
  cleanups.push(() => upstream.stop())
  const volume = new KubeletVolume(join(temporaryFolder(), 'tls'))
  const renew = async (): Promise<string> => {
    const names = { cn: 'mcp-server', dns: ['localhost', 'mcp-server.mcp.svc'], ips: ['127.0.0.1'] }
    const leaf = mintLeaf(pki.ca, names)
    await volume.publish({ 'tls.crt': leaf.chain, 'tls.key': leaf.key })
    return leaf.serial
  }
  await renew()
  const running = await startTestSidecar(upstream.url, config => {
    config['tls'] = { cert: volume.path('tls.crt'), key: volume.path('tls.key'), clientCa: pki.caFile }
    change(config)
  })
  cleanups.push(() => running.stop())
  return { running, upstream, renew }
}

/** What a gateway is told of one way to reach the sidecar. */
interface Way {
  readonly tls: 'TLSv1.2' | 'TLSv1.3'
  readonly http: '1.1' | '2'
}

const allowTls12 = (config: Record<string, unknown>): void => {
  ;(config['tls'] as Record<string, unknown>)['minVersion'] = 'TLSv1.2'
}

function nginx(
  port: number,
  { tls }: Pick<Way, 'tls'>,
  to = `https://localhost:${port}`,
  more = '',
): Promise<GatewayProgram> {
  return startNginx(
    own => `
upstream mcp-server { server 127.0.0.1:${port}; keepalive 8; }
upstream pooled { server 127.0.0.1:${port}; keepalive 8; }
server {
  listen 127.0.0.1:${own};
  location /mcp {
    proxy_pass ${to};
    proxy_ssl_certificate ${pki.gateway.certFile};
    proxy_ssl_certificate_key ${pki.gateway.keyFile};
    proxy_ssl_trusted_certificate ${pki.caFile};
    proxy_ssl_verify on;
    proxy_ssl_server_name on;
    proxy_ssl_name localhost;
    proxy_ssl_protocols ${tls};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-User-ID $http_x_auth_user;
    proxy_set_header X-Org-ID acme;
    proxy_set_header X-User-Scopes mcp.read;
    proxy_buffering off;
    ${more}
  }
}`,
  )
}

function haproxy(port: number, { tls, http }: Way): Promise<GatewayProgram> {
  const pem = join(temporaryFolder(), 'gateway.pem')
  writeFileSync(pem, pki.gateway.chain + pki.gateway.key)
  const version = tls === 'TLSv1.2' ? 'ssl-max-ver TLSv1.2' : 'ssl-min-ver TLSv1.3'
  return startHaproxy(
    own => `
frontend clients
  bind 127.0.0.1:${own}
  http-request set-header X-User-ID %[req.hdr(x-auth-user)]
  http-request set-header X-Org-ID acme
  http-request set-header X-User-Scopes mcp.read
  default_backend sidecar
backend sidecar
  http-reuse always
  # Over HTTP/2 a request may cross a GOAWAY; it has not been taken then, and haproxy repeats it only when it is told to.
  retry-on conn-failure empty-response
  server one 127.0.0.1:${port} ssl crt ${pem} verify required ca-file ${pki.caFile} sni str(localhost) verifyhost localhost alpn ${http === '2' ? 'h2' : 'http/1.1'} ${version}
`,
  )
}

const GATEWAYS: { name: string; program: 'nginx' | 'haproxy'; way: Way }[] = [
  { name: 'nginx, TLS 1.3', program: 'nginx', way: { tls: 'TLSv1.3', http: '1.1' } },
  { name: 'nginx, TLS 1.2', program: 'nginx', way: { tls: 'TLSv1.2', http: '1.1' } },
  { name: 'haproxy, TLS 1.3, HTTP/1.1', program: 'haproxy', way: { tls: 'TLSv1.3', http: '1.1' } },
  { name: 'haproxy, TLS 1.3, HTTP/2', program: 'haproxy', way: { tls: 'TLSv1.3', http: '2' } },
  { name: 'haproxy, TLS 1.2, HTTP/1.1', program: 'haproxy', way: { tls: 'TLSv1.2', http: '1.1' } },
  { name: 'haproxy, TLS 1.2, HTTP/2', program: 'haproxy', way: { tls: 'TLSv1.2', http: '2' } },
]

for (const { name, program, way } of GATEWAYS) {
  describe.skipIf(!isInstalled(program))(isInstalled(program) ? name : `${name}: not installed`, () => {
    const start = async (port: number): Promise<GatewayProgram> => {
      const gateway =
        program === 'nginx'
          ? await nginx(port, way, 'https://pooled', 'proxy_set_header Host localhost;')
          : await haproxy(port, way)
      cleanups.push(() => gateway.stop())
      return gateway
    }
    // haproxy hands on the Host of its client.
    const user = { 'X-Auth-User': 'ada', Host: 'localhost' }

    test('a call passes, as the user whom the gateway names', async () => {
      const { running, upstream } = await sidecar(way.tls === 'TLSv1.2' ? allowTls12 : undefined)
      const gateway = await start(running.port)
      const answer = await ask(gateway.port, toolCall('search_docs', {}, 7), user)
      expect(answer).toEqual({ status: 200, text: expect.stringContaining('"id":7') })
      expect(headersSeen(upstream)).toMatchObject({
        'x-user-id': 'ada',
        'x-org-id': 'acme',
        'x-user-scopes': 'mcp.read',
      })
      expect(await eventually(() => running.lines.find(({ event }) => event === 'mcp.call'))).toMatchObject({
        peer: { name: 'gateway', uri: GATEWAY_URI, tls: expect.stringContaining(way.tls) },
        user: { id: 'ada', org: 'acme' },
        outcome: 'success',
      })
      const connection = [...running.sidecar.connections()][0]
      expect(connection?.facts.httpVersion).toBe(way.http)
    })

    test('events pass one by one, and a client that leaves is heard of at the server', async () => {
      const { running, upstream } = await sidecar(way.tls === 'TLSv1.2' ? allowTls12 : undefined)
      const gateway = await start(running.port)
      const stream = await askForStream(gateway.port, toolCall('count'), user)
      await eventually(() => stream.text().includes('"n":3'))
      stream.leave()
      await eventually(() => upstream.cancelled.length === 1)
    })

    test('three renewals of the certificate fail no call, and new connections get the new one', async () => {
      const { running, renew } = await sidecar(way.tls === 'TLSv1.2' ? allowTls12 : undefined)
      const gateway = await start(running.port)
      const calls = callAgainAndAgain(gateway, user)
      for (let renewal = 1; renewal <= 3; renewal++) {
        const serial = await renew()
        await eventually(async () => (await presentedSerial(running.port, credential())) === serial)
        const before = calls.count(200)
        await eventually(() => calls.count(200) >= before + 8)
      }
      expect(await calls.stop()).toEqual([200])
      // Nobody was asked to leave for it: the gateway keeps the connections that it has.
      expect(running.lines.filter(({ event }) => event === 'connection.closed')).toEqual([])
    })

    test('connections that grow old are replaced, and no call fails', async () => {
      const { running } = await sidecar(config => {
        if (way.tls === 'TLSv1.2') allowTls12(config)
        ;(config['tls'] as Record<string, unknown>)['maxConnectionAge'] = '1s'
      })
      const gateway = await start(running.port)
      const calls = callAgainAndAgain(gateway, user)
      await eventually(() => running.lines.filter(({ event }) => event === 'connection.closed').length >= 3, 10_000)
      expect(await calls.stop()).toEqual([200])
    })
  })
}

/** Four clients, each with one call after the other. */
function callAgainAndAgain(gateway: GatewayProgram, headers: Record<string, string>) {
  const statuses = new Map<number, number>()
  let isOver = false
  const calling = Array.from({ length: 4 }, async () => {
    while (!isOver) {
      const { status } = await ask(gateway.port, toolCall('search_docs'), headers)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  })
  return {
    count: (status: number) => statuses.get(status) ?? 0,
    /** @returns every status that there was. */
    async stop(): Promise<number[]> {
      isOver = true
      await Promise.all(calling)
      return [...statuses.keys()]
    },
  }
}

const credential = () => ({ cert: pki.gateway.chain, key: pki.gateway.key, ca: pki.ca.cert })

describe.skipIf(!isInstalled('nginx'))('the Host that nginx sends is accepted without being configured', () => {
  const resource = (config: Record<string, unknown>): void => {
    ;(config['identity'] as Record<string, unknown>)['resource'] = 'https://mcp.example.org/mcp'
  }
  test.each([
    { name: 'name and port of proxy_pass', to: (port: number) => `https://localhost:${port}`, more: '' },
    { name: 'an IP address', to: (port: number) => `https://127.0.0.1:${port}`, more: '' },
    { name: 'the name of an upstream block that is the name of the Service', to: () => 'https://mcp-server', more: '' },
    {
      name: 'the public name, that of identity.resource',
      to: () => 'https://pooled',
      more: 'proxy_set_header Host mcp.example.org;',
    },
    {
      name: 'the public name with a port',
      to: () => 'https://pooled',
      more: 'proxy_set_header Host mcp.example.org:8443;',
    },
  ])('$name', async ({ to, more }) => {
    const { running } = await sidecar(resource)
    const gateway = await nginx(running.port, { tls: 'TLSv1.3' }, to(running.port), more)
    cleanups.push(() => gateway.stop())
    expect(await ask(gateway.port, toolCall('search_docs'), { 'X-Auth-User': 'ada' })).toMatchObject({ status: 200 })
  })

  test('but the name of an upstream block that is nobody\u2019s is not: 421, and the line says which', async () => {
    const { running } = await sidecar(resource)
    const gateway = await nginx(running.port, { tls: 'TLSv1.3' }, 'https://pooled')
    cleanups.push(() => gateway.stop())
    expect(await ask(gateway.port, toolCall('search_docs'), { 'X-Auth-User': 'ada' })).toMatchObject({ status: 421 })
    expect(await eventually(() => running.lines.find(({ event }) => event === 'mcp.refused'))).toMatchObject({
      decision: { reason: 'request_host_not_accepted' },
    })
  })
})

describe.skipIf(!isInstalled('curl'))('curl', () => {
  const request = ({ running }: Setting, more: string[], identity = pki.gateway) =>
    curl([
      ...['--cacert', pki.caFile, '--cert', identity.certFile, '--key', identity.keyFile],
      ...['-H', 'Content-Type: application/json', '-H', 'Accept: application/json, text/event-stream'],
      ...['-H', 'X-User-ID: ada', '-H', 'X-Org-ID: acme', '-H', 'X-User-Scopes: mcp.read'],
      ...['--data', toolCall('search_docs'), ...more, `https://localhost:${running.port}/mcp`],
    ])

  test.each([
    { tls: '1.3', http: '1.1' },
    { tls: '1.3', http: '2' },
    { tls: '1.2', http: '1.1' },
    { tls: '1.2', http: '2' },
  ])('TLS $tls and HTTP/$http', async ({ tls, http }) => {
    const setting = await sidecar(tls === '1.2' ? allowTls12 : undefined)
    const answer = await request(setting, [`--tlsv${tls}`, '--tls-max', tls, http === '2' ? '--http2' : '--http1.1'])
    expect(answer).toMatchObject({ status: `200 ${http}`, body: expect.stringContaining('"result"') })
  })

  test('TLS 1.2 is refused when it is not asked for', async () => {
    expect((await request(await sidecar(), ['--tls-max', '1.2'])).code).not.toBe(0)
  })

  test('a stranger with the gateway\u2019s names gets no byte of HTTP', async () => {
    const setting = await sidecar()
    expect(await request(setting, [], pki.stranger)).toMatchObject({ status: '000 0' })
    expect(
      await eventually(() => setting.running.lines.find(({ event }) => event === 'connection.refused')),
    ).toMatchObject({
      decision: { reason: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    })
  })
})

const SUBJECTS = [
  {
    name: 'plain',
    subject: [
      ['C', 'DE'],
      ['O', 'Acme'],
      ['OU', 'Gateways'],
      ['CN', 'kong'],
    ],
  },
  {
    name: 'quotation marks',
    subject: [
      ['O', 'the "Acme"'],
      ['CN', 'kong'],
    ],
  },
  {
    name: 'a comma',
    subject: [
      ['O', 'Acme, Inc.'],
      ['CN', 'kong'],
    ],
  },
  {
    name: 'plus, equals, semicolon, angle brackets',
    subject: [
      ['O', 'a+b=c;d<e>f'],
      ['CN', 'kong'],
    ],
  },
  {
    name: 'beyond ASCII',
    subject: [
      ['O', 'Jürgen & Söhne'],
      ['CN', 'kong'],
    ],
  },
  {
    name: 'a number sign and spaces at the ends',
    subject: [
      ['O', '#1 '],
      ['CN', ' kong'],
    ],
  },
] as const

describe('the client certificate is shown as others show it who end TLS themselves', () => {
  test.skipIf(!isInstalled('nginx') || !isInstalled('haproxy')).each(SUBJECTS)('$name', async ({ name, subject }) => {
    const client = await pki.mint(`shown-${name.replaceAll(/\W+/g, '-')}`, {
      subject,
      uris: [GATEWAY_URI],
      dns: ['kong.gateway.svc'],
    })
    const [ours, nginxs, haproxys] = [
      await shownBySidecar(client),
      await shownByNginx(client),
      await shownByHaproxy(client),
    ]

    expect(ours.subject).toBe(nginxs.subject)
    expect(ours.subject).toBe(haproxys.subject)
    expect(ours.clientCert).toBe(`:${haproxys.der}:`)
    expect(ours.hash).toBe(createHash('sha256').update(Buffer.from(haproxys.der, 'base64')).digest('hex'))
    // nginx leaves other characters as they are than Envoy does; what they say is the same.
    expect(ours.certificate).toContain('BEGIN%20CERTIFICATE')
    expect(decodeURIComponent(ours.certificate)).toBe(decodeURIComponent(nginxs.certificate))
  })

  async function shownBySidecar(client: TestIdentity) {
    const setting = await sidecar(config => {
      ;(config['identity'] as Record<string, unknown>)['clientCert'] = ['xfcc-cert', 'rfc9440']
    })
    const answer = await curlAs(client, setting.running.port)
    expect(answer.status).toBe('200 2')
    const headers = headersSeen(setting.upstream)
    const xfcc = headers['x-forwarded-client-cert'] ?? ''
    const field = (key: string) => new RegExp(`(?:^|;)${key}="?(.*?)"?(?=;[A-Z]|$)`).exec(xfcc)?.[1] ?? ''
    return {
      // A quoted string: what is special in it has a backslash as in RFC 4514, which is what the text has anyway.
      subject: /Subject="((?:[^"\\]|\\.)*)"/.exec(xfcc)?.[1] ?? '',
      hash: field('Hash'),
      certificate: field('Cert'),
      clientCert: headers['client-cert'] ?? '',
    }
  }

  async function shownByNginx(client: TestIdentity) {
    const server = await startNginx(
      own => `server {
  listen 127.0.0.1:${own} ssl;
  ssl_certificate ${pki.server.certFile}; ssl_certificate_key ${pki.server.keyFile};
  ssl_client_certificate ${pki.caFile}; ssl_verify_client on;
  location / { return 200 "$ssl_client_s_dn\\n$ssl_client_escaped_cert"; }
}`,
    )
    cleanups.push(() => server.stop())
    const { body } = await curlAs(client, server.port)
    const [subject = '', certificate = ''] = body.split('\n')
    return { subject, certificate }
  }

  async function shownByHaproxy(client: TestIdentity) {
    const pem = join(temporaryFolder(), 'server.pem')
    writeFileSync(pem, pki.server.chain + pki.server.key)
    const server = await startHaproxy(
      own => `
frontend end
  bind 127.0.0.1:${own} ssl crt ${pem} ca-file ${pki.caFile} verify required
  http-request return status 200 content-type text/plain lf-string "%[ssl_c_s_dn(,0,rfc2253)]\\n%[ssl_c_der,base64]"
`,
    )
    cleanups.push(() => server.stop())
    const { body } = await curlAs(client, server.port)
    const [subject = '', der = ''] = body.split('\n')
    return { subject, der }
  }

  const curlAs = (client: TestIdentity, port: number) =>
    curl([
      ...[
        '--cacert',
        pki.caFile,
        '--cert',
        client.certFile,
        '--key',
        client.keyFile,
        '--data',
        toolCall('search_docs'),
      ],
      ...['-H', 'Content-Type: application/json', '-H', 'Accept: application/json, text/event-stream'],
      ...['-H', 'X-User-ID: ada', '-H', 'X-User-Scopes: mcp.read', `https://localhost:${port}/mcp`],
    ])
})

/** Headers of the last request that the server has seen, by lower-case name. */
function headersSeen(upstream: TestUpstream): Record<string, string> {
  const raw = upstream.seen.at(-1)?.headers ?? []
  const headers: Record<string, string> = {}
  for (let i = 0; i < raw.length; i += 2) headers[(raw[i] ?? '').toLowerCase()] = raw[i + 1] ?? ''
  return headers
}

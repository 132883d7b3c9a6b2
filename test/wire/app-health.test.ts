import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createServer as createHttp2Server, type Http2Server } from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AppProbe } from '../../src/core/manifest/app-probes.ts'
import { AppHealth } from '../../src/edge/app-health.ts'

const dir = mkdtempSync(join(tmpdir(), 'app-health-'))
const socketPath = join(dir, 'server.sock')
const seen: { url: string; headers: NodeJS.Dict<string | string[]> }[] = []
let hits = 0

function answer(server: Server): Server {
  return server.on('request', (request, response) => {
    seen.push({ url: request.url ?? '', headers: request.headers })
    hits += 1
    if (request.url === '/slow') return
    const status = Number(/^\/status\/([0-9]+)$/.exec(request.url ?? '')?.[1] ?? 200)
    response.writeHead(status, status === 302 ? { location: '/elsewhere' } : {})
    response.end('secret details of the application')
  })
}

const onTcp = answer(createServer())
const onSocket = answer(createServer())
const tcpOnly: TcpServer = createTcpServer(socket => socket.destroy())
let grpcStatus = 1
let askedService = ''
const grpc: Http2Server = createHttp2Server()
grpc.on('stream', (stream, headers) => {
  const chunks: Buffer[] = []
  stream.on('data', chunk => chunks.push(chunk as Buffer))
  stream.on('end', () => {
    const request = Buffer.concat(chunks)
    askedService = request.subarray(7).toString()
    if (headers[':path'] !== '/grpc.health.v1.Health/Check')
      return stream.respond({ ':status': 404 }, { endStream: true })
    if (askedService === 'unknown') {
      return stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5' },
        { endStream: true },
      )
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(Buffer.from([0, 0, 0, 0, 2, 0x08, grpcStatus]))
  })
})

const listen = (server: TcpServer | Server | Http2Server, on: string | number) =>
  new Promise<number>(resolve => {
    const done = () => resolve(typeof on === 'string' ? 0 : (server.address() as AddressInfo).port)
    if (typeof on === 'string') server.listen(on, done)
    else server.listen(on, '127.0.0.1', done)
  })

let ports: { http: number; tcp: number; grpc: number; closed: number }

beforeAll(async () => {
  await listen(onSocket, socketPath)
  const closed = createTcpServer()
  const closedPort = await listen(closed, 0)
  await new Promise(resolve => closed.close(resolve))
  ports = {
    http: await listen(onTcp, 0),
    tcp: await listen(tcpOnly, 0),
    grpc: await listen(grpc, 0),
    closed: closedPort,
  }
})

afterAll(() => {
  for (const server of [onTcp, onSocket, tcpOnly, grpc]) server.close()
  rmSync(dir, { recursive: true, force: true })
})

function http(path: string, more: Partial<Extract<AppProbe, { kind: 'http' }>> = {}): AppProbe {
  return { kind: 'http', port: 'upstream', path, scheme: 'HTTP', headers: [], timeoutMs: 2000, ...more }
}

function run(probe: AppProbe, target: { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string }) {
  return new AppHealth({ probes: { web: { livez: probe } }, target }).check('web', 'livez')
}

const tcpTarget = () => ({ kind: 'tcp' as const, host: '127.0.0.1', port: ports.http })

describe('an HTTP probe', () => {
  test.each([
    { status: 200, want: 200 },
    { status: 204, want: 200 },
    { status: 302, want: 200 },
    { status: 399, want: 200 },
    { status: 400, want: 503 },
    { status: 500, want: 503 },
  ])('that is answered with $status gives $want', async ({ status, want }) => {
    const answer = await run(http(`/status/${status}`), tcpTarget())
    expect(answer).toEqual({ status: want, body: `HTTP ${status}\n` })
  })

  test('reaches a server on a unix socket', async () => {
    expect(await run(http('/status/200'), { kind: 'unix', path: socketPath })).toEqual({
      status: 200,
      body: 'HTTP 200\n',
    })
  })

  test('may ask another port of the loopback than the upstream', async () => {
    const answer = await run(http('/status/200', { port: ports.http }), { kind: 'unix', path: '/nowhere' })
    expect(answer?.status).toBe(200)
  })

  test('carries the headers that were written for it', async () => {
    await run(
      http('/with-headers', {
        headers: [
          ['X-Probe', 'yes'],
          ['user-agent', 'mine'],
        ],
      }),
      tcpTarget(),
    )
    const request = seen.find(entry => entry.url === '/with-headers')
    expect(request?.headers).toMatchObject({ 'x-probe': 'yes', 'user-agent': 'mine' })
  })

  test('that gets no answer fails within its own timeout', async () => {
    expect(await run(http('/slow', { timeoutMs: 60 }), tcpTarget())).toEqual({
      status: 503,
      body: 'no answer in time\n',
    })
  })

  test('says that nobody listens', async () => {
    const answer = await run(http('/'), { kind: 'tcp', host: '127.0.0.1', port: ports.closed })
    expect(answer).toEqual({ status: 503, body: 'the application does not listen (connection refused)\n' })
  })

  test('says that the socket is not there yet', async () => {
    const answer = await run(http('/'), { kind: 'unix', path: join(dir, 'later.sock') })
    expect(answer).toEqual({ status: 503, body: 'the application has not made its socket yet\n' })
  })

  test('is run once for all who ask at the same time', async () => {
    const health = new AppHealth({ probes: { web: { livez: http('/status/200') } }, target: tcpTarget() })
    const before = hits
    const answers = await Promise.all(Array.from({ length: 20 }, () => health.check('web', 'livez')))
    expect(answers.every(answer => answer?.status === 200)).toBe(true)
    expect(hits - before).toBe(1)
  })
})

test('a TCP probe wants no more than a connection', async () => {
  const probe: AppProbe = { kind: 'tcp', port: ports.tcp, timeoutMs: 1000 }
  expect(await run(probe, tcpTarget())).toEqual({ status: 200, body: 'connected\n' })
  expect((await run({ ...probe, port: ports.closed }, tcpTarget()))?.status).toBe(503)
})

describe('a gRPC probe', () => {
  const probe = (service = ''): AppProbe => ({ kind: 'grpc', port: ports.grpc, service, timeoutMs: 2000 })

  test('wants SERVING', async () => {
    grpcStatus = 1
    expect(await run(probe(), tcpTarget())).toEqual({ status: 200, body: 'SERVING\n' })
  })

  test('fails when the server says NOT_SERVING', async () => {
    grpcStatus = 2
    expect(await run(probe(), tcpTarget())).toEqual({ status: 503, body: 'not serving (status 2)\n' })
  })

  test('asks for the service that it names', async () => {
    grpcStatus = 1
    expect((await run(probe('shop.v1.Web'), tcpTarget()))?.status).toBe(200)
    expect(askedService).toBe('shop.v1.Web')
  })

  test('fails for a service that the server does not know', async () => {
    expect(await run(probe('unknown'), tcpTarget())).toEqual({ status: 503, body: 'gRPC status 5\n' })
  })

  test('fails on a port that speaks no HTTP/2', async () => {
    const answer = await run({ kind: 'grpc', port: ports.http, service: '', timeoutMs: 500 }, tcpTarget())
    expect(answer?.status).toBe(503)
  })

  test('fails when nobody listens', async () => {
    const answer = await run({ kind: 'grpc', port: ports.closed, service: '', timeoutMs: 500 }, tcpTarget())
    expect(answer?.status).toBe(503)
  })
})

describe('what is asked for', () => {
  test('must be a probe that the injector handed over', async () => {
    const health = new AppHealth({ probes: { web: { livez: http('/status/200') } }, target: tcpTarget() })
    for (const [container, path] of [
      ['web', 'readyz'],
      ['other', 'livez'],
      ['constructor', 'livez'],
      ['web', 'toString'],
    ] as const) {
      expect(await health.check(container, path)).toBeUndefined()
    }
  })

  test('while the sidecar drains, the application is not ready, but it lives', async () => {
    const probes = { web: { livez: http('/status/200'), readyz: http('/status/200') } }
    const health = new AppHealth({ probes, target: tcpTarget(), isDraining: () => true })
    expect((await health.check('web', 'readyz'))?.status).toBe(503)
    expect((await health.check('web', 'livez'))?.status).toBe(200)
  })
})

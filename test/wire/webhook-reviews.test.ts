import { randomUUID } from 'node:crypto'
import { Agent, request } from 'node:https'
import { connect } from 'node:net'
import { Registry } from 'prom-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import { defaultInjectOptions } from '../../src/core/manifest/options.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { type ServerPair, type WebhookLogEntry, WebhookMetrics, WebhookServer } from '../../src/edge/webhook.ts'
import { Live } from '../../src/live/live.ts'
import { applyPatch } from '../support/json-patch.ts'

const HOST = 'mcp-sidecar-webhook.mcp-sidecar-system.svc'
const ca = mintCa({ name: 'webhook test CA' })
const newPair = (): ServerPair & { serial: string } => {
  const leaf = mintLeaf(ca, { cn: HOST, dns: [HOST], usages: ['serverAuth'] })
  return {
    cert: Buffer.from(leaf.chain),
    key: Buffer.from(leaf.key),
    notAfterMs: leaf.notAfter.getTime(),
    serial: leaf.serial,
  }
}
const first = newPair()
const certificate = new Live<ServerPair | undefined>(first)
const registry = new Registry()
const log: WebhookLogEntry[] = []
const server = new WebhookServer({
  address: { host: '127.0.0.1', port: 0 },
  admission: {
    inject: { ...defaultInjectOptions('0.0.0'), select: 'annotated', already: 'keep' },
    excludedNamespaces: new Set(['kube-system']),
  },
  certificate,
  metrics: new WebhookMetrics(registry),
  log: entry => log.push(entry),
})
let port = 0
const agent = new Agent({ keepAlive: true, ca: ca.cert, servername: HOST })

beforeAll(async () => {
  port = await server.start()
})
afterAll(async () => {
  agent.destroy()
  await server.stop()
})

interface Answer {
  status: number
  body: string
  serial: string
}

function post(
  body: string | Buffer,
  more: { type?: string; path?: string; method?: string; fresh?: boolean } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: '127.0.0.1',
        port,
        // As an API server calls it.
        path: more.path ?? '/inject?timeout=5s',
        method: more.method ?? 'POST',
        ca: ca.cert,
        servername: HOST,
        agent: more.fresh === true ? false : agent,
        headers: { 'Content-Type': more.type ?? 'application/json', 'Content-Length': Buffer.byteLength(body) },
      },
      response => {
        const socket = response.socket as unknown as { getPeerCertificate(): { serialNumber?: string } }
        const serial = socket.getPeerCertificate().serialNumber ?? ''
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk as Buffer))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString(), serial }),
        )
      },
    )
    call.on('error', reject)
    call.end(body)
  })
}

const pod = (annotations: JsonObject = { 'mcp-sidecar.io/inject': 'true' }, spec: JsonObject = {}): JsonObject => ({
  metadata: {
    generateName: 'web-7d9f8c6b5-',
    labels: { app: 'web', 'pod-template-hash': '7d9f8c6b5' },
    annotations,
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web-7d9f8c6b5', uid: 'u', controller: true }],
  },
  spec: {
    containers: [
      {
        name: 'web',
        image: 'example/web:1',
        ports: [{ containerPort: 3000, protocol: 'TCP' }],
        readinessProbe: { httpGet: { path: '/ready', port: 3000, scheme: 'HTTP' }, timeoutSeconds: 1 },
      },
    ],
    ...spec,
  },
})

function review(object: JsonValue, request: JsonObject = {}): JsonObject {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: randomUUID(),
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      userInfo: { username: 'system:serviceaccount:kube-system:replicaset-controller' },
      object,
      oldObject: null,
      dryRun: true,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...request,
    },
  }
}

interface Response {
  uid: string
  allowed: boolean
  patch?: string
  patchType?: string
  warnings?: string[]
  status?: { message: string; code: number }
}

async function ask(sent: JsonObject, more: { fresh?: boolean } = {}): Promise<Response & { serial: string }> {
  const answer = await post(JSON.stringify(sent), more)
  expect(answer.status).toBe(200)
  const { kind, apiVersion, response } = JSON.parse(answer.body) as {
    kind: string
    apiVersion: string
    response: Response
  }
  expect([kind, apiVersion]).toEqual(['AdmissionReview', 'admission.k8s.io/v1'])
  expect(response.uid).toBe((sent['request'] as JsonObject)['uid'])
  return { ...response, serial: answer.serial }
}

const patched = (object: JsonObject, response: Response): JsonObject =>
  applyPatch(object, JSON.parse(Buffer.from(response.patch ?? '', 'base64').toString()) as never) as JsonObject

describe('a pod of a Deployment', () => {
  test('gets the sidecar as a JSON patch, with the Secret named for the Deployment', async () => {
    const object = pod()
    const response = await ask(review(object))
    expect(response).toMatchObject({ allowed: true, patchType: 'JSONPatch' })
    const spec = patched(object, response)['spec'] as { initContainers: JsonObject[]; volumes: JsonObject[] }
    expect(spec.initContainers.map(container => [container['name'], container['restartPolicy']])).toEqual([
      ['mcp-sidecar', 'Always'],
    ])
    expect(spec.volumes.find(volume => volume['name'] === 'mcp-sidecar-tls')).toEqual({
      name: 'mcp-sidecar-tls',
      secret: { secretName: 'web-mcp-sidecar-tls', defaultMode: 0o444 },
    })
  })

  test('is left as it is when the webhook is called again', async () => {
    const object = pod()
    const once = patched(object, await ask(review(object)))
    const again = await ask(review(once))
    expect(again).toMatchObject({ allowed: true })
    expect(again.patch).toBeUndefined()
  })

  test('shows warnings to whoever creates it', async () => {
    const response = await ask(review(pod(undefined, { shareProcessNamespace: true })))
    expect(response.warnings?.[0]).toContain('spec.shareProcessNamespace')
  })
})

describe('left as it is', () => {
  test.each<{ name: string; object: JsonValue; request?: JsonObject }>([
    { name: 'a pod that does not ask', object: pod({}) },
    { name: 'a pod that opts out', object: pod({ 'mcp-sidecar.io/inject': 'false' }) },
    { name: 'a pod of an excluded namespace', object: pod(), request: { namespace: 'kube-system' } },
    { name: 'an update', object: pod(), request: { operation: 'UPDATE' } },
    { name: 'a deletion', object: null, request: { operation: 'DELETE' } },
    { name: 'another kind', object: {}, request: { kind: { group: 'apps', version: 'v1', kind: 'Deployment' } } },
    { name: 'a subresource', object: pod(), request: { subResource: 'ephemeralcontainers' } },
  ])('$name', async ({ object, request }) => {
    const response = await ask(review(object, request))
    expect(response.allowed).toBe(true)
    expect(response.patch).toBeUndefined()
  })
})

describe('denied, in words', () => {
  test.each<{ name: string; object: JsonValue; says: string }>([
    { name: 'hostNetwork', object: pod(undefined, { hostNetwork: true }), says: 'spec.hostNetwork' },
    { name: 'no port to be found', object: pod(undefined, { containers: [{ name: 'a' }] }), says: 'which port' },
    { name: 'a word for yes', object: pod({ 'mcp-sidecar.io/inject': 'True' }), says: 'must be "true" or "false"' },
    { name: 'no pod at all', object: null, says: 'carries no pod' },
    { name: 'a pod that is a string', object: 'pod', says: 'carries no pod' },
    { name: 'a pod without a spec', object: { metadata: {} }, says: 'carries no pod' },
    { name: 'a spec that is a list', object: { spec: [] }, says: 'carries no pod' },
    { name: 'containers that are a string', object: pod(undefined, { containers: 'x' }), says: 'no container' },
    {
      name: 'an annotation that is unusable',
      object: pod({ 'mcp-sidecar.io/inject': 'true', 'mcp-sidecar.io/upstream-port': '0' }),
      says: 'upstream-port',
    },
    {
      name: 'a record that is broken',
      object: pod({ 'mcp-sidecar.io/inject': 'true', 'mcp-sidecar.io/original': '[' }),
      says: 'cannot be read',
    },
  ])('$name', async ({ object, says }) => {
    const response = await ask(review(object))
    expect(response.allowed).toBe(false)
    expect(response.status).toMatchObject({ code: 422 })
    expect(response.status?.message).toContain(says)
    expect(response.status?.message).toContain('opt out')
  })
})

describe('no review at all', () => {
  const good = JSON.stringify(review(pod()))
  test.each<{ name: string; body: string; more?: Parameters<typeof post>[1]; status: number }>([
    { name: 'nothing', body: '', status: 400 },
    { name: 'half a review', body: good.slice(0, good.length / 2), status: 400 },
    { name: 'a list', body: '[]', status: 400 },
    { name: 'null', body: 'null', status: 400 },
    { name: 'v1beta1', body: good.replace('admission.k8s.io/v1', 'admission.k8s.io/v1beta1'), status: 400 },
    { name: 'another kind', body: good.replace('AdmissionReview', 'Pod'), status: 400 },
    { name: 'no request', body: '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}', status: 400 },
    { name: 'no uid', body: good.replace('"uid"', '"uidd"'), status: 400 },
    { name: 'protobuf', body: good, more: { type: 'application/vnd.kubernetes.protobuf' }, status: 415 },
    { name: 'too much', body: `${' '.repeat(8 * 1024 * 1024)}${good}`, status: 413 },
    { name: 'GET', body: '', more: { method: 'GET' }, status: 405 },
    { name: 'another path', body: good, more: { path: '/mutate' }, status: 404 },
  ])('$name is $status', async ({ body, more, status }) => {
    const answer = await post(body, { ...more, fresh: true })
    expect(answer.status).toBe(status)
    expect(answer.body.length).toBeLessThan(200)
  })

  test('plain HTTP and noise on the TLS port do not disturb it', async () => {
    await new Promise<void>(resolve => {
      const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\n\r\n'))
      socket.on('error', () => undefined)
      socket.on('close', () => resolve())
    })
    expect((await ask(review(pod()))).allowed).toBe(true)
  })
})

test('reviews go on while the certificate rotates, and new connections see the new one', async () => {
  const seen = new Set<string>()
  let current = first.serial
  for (let rotation = 0; rotation < 4; rotation += 1) {
    const underway = Array.from({ length: 6 }, (_, index) => ask(review(pod()), { fresh: index % 2 === 0 }))
    const next = newPair()
    certificate.publish(next)
    const answers = await Promise.all([...underway, ask(review(pod()), { fresh: true })])
    expect(answers.every(answer => answer.allowed && answer.patch !== undefined)).toBe(true)
    for (const { serial } of answers) seen.add(serial)
    current = next.serial
    expect((await ask(review(pod()), { fresh: true })).serial).toBe(current)
  }
  expect(seen.size).toBeGreaterThanOrEqual(4)
  expect(await registry.metrics()).toContain(`mcp_sidecar_certificate_not_after_timestamp_seconds{which="webhook"}`)
})

test('every review is counted and logged by what became of it', async () => {
  const before = log.length
  await ask(review(pod()))
  await ask(review(pod({})))
  await ask(review(null))
  await post('x')
  expect(log.slice(before).map(entry => entry.result)).toEqual(['injected', 'unchanged', 'denied', 'malformed'])
  expect(log.at(before)?.object).toBe('Pod/shop/web-7d9f8c6b5-')
  const metrics = await registry.metrics()
  for (const result of ['injected', 'unchanged', 'denied', 'malformed']) {
    expect(metrics).toMatch(new RegExp(`mcp_sidecar_webhook_reviews_total\\{result="${result}"\\} [1-9]`))
  }
})

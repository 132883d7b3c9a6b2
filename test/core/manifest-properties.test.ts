import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { parseAllDocuments, stringify } from 'yaml'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import { injectObject } from '../../src/core/manifest/inject-object.ts'
import { jsonPatch } from '../../src/core/manifest/json-patch.ts'
import { defaultInjectOptions, type InjectOptions } from '../../src/core/manifest/options.ts'
import { segmentsOf } from '../../src/core/manifest/segments.ts'
import { injectManifest, uninjectManifest } from '../../src/core/manifest/stream.ts'
import { elementId, isObject } from '../../src/core/manifest/tree.ts'
import { uninjectObject } from '../../src/core/manifest/uninject-object.ts'
import { applyPatch } from '../support/json-patch.ts'

// Much computing, and machines are shared.
vi.setConfig({ testTimeout: 60_000 })

const name = fc.stringMatching(/^[a-z][a-z0-9]{0,6}$/)
const port = fc.integer({ min: 1, max: 8000 })
const handler = fc.oneof(
  fc.record({
    httpGet: fc.record({ path: fc.constantFrom('/', '/ready', 'live'), port: fc.constant<JsonValue>('mcp') }),
  }),
  fc.record({ httpGet: fc.record({ path: fc.constant('/x'), port, host: fc.constantFrom('', 'other.example') }) }),
  fc.record({ tcpSocket: fc.record({ port }) }),
  fc.record({ grpc: fc.record({ port: fc.constant(3000), service: fc.constantFrom('', 'a.b') }) }),
  fc.record({ exec: fc.record({ command: fc.array(fc.string({ maxLength: 8 })) }) }),
)
const probe = fc
  .tuple(handler, fc.record({ periodSeconds: fc.nat(99), timeoutSeconds: fc.nat(9) }, { requiredKeys: [] }))
  .map(([what, when]) => ({ ...what, ...when }))
const text = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom('on', 'no', '0777', '1e3', '~', ' x', 'a: b', '# c', '---', '12:30'),
)
const env = fc.uniqueArray(fc.record({ name: fc.constantFrom('HOST', 'PORT', 'MODE', 'N'), value: text }), {
  selector: entry => entry.name,
})
const maybe = <T extends JsonValue>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null, freq: 9 })
const server = fc.record(
  {
    name: fc.constant('web'),
    image: text,
    ports: fc.constant([{ name: 'mcp', containerPort: 3000 }]),
    env: maybe(env as fc.Arbitrary<JsonValue>),
    livenessProbe: probe,
    readinessProbe: maybe(probe as fc.Arbitrary<JsonValue>),
    startupProbe: probe,
    lifecycle: fc.constantFrom<JsonValue>(
      {},
      null,
      { preStop: { exec: { command: ['x'] } } },
      { postStart: { exec: {} } },
    ),
    volumeMounts: maybe(fc.constant<JsonValue>([{ name: 'data', mountPath: '/data' }])),
    resources: fc.constant<JsonValue>({ limits: { memory: '1Gi' } }),
  },
  { requiredKeys: ['name', 'image', 'ports'] },
)
const other = fc.record(
  { name: name.map(suffix => `o-${suffix}`), image: text, env: env as fc.Arbitrary<JsonValue>, livenessProbe: probe },
  { requiredKeys: ['name', 'image'] },
)
const template = fc.record({
  metadata: fc.record(
    {
      labels: fc.constant<JsonValue>({ app: 'web' }),
      annotations: maybe(fc.constantFrom<JsonValue>({}, { note: 'on' })),
    },
    { requiredKeys: [] },
  ),
  spec: fc.record(
    {
      containers: fc
        .tuple(server, fc.uniqueArray(other, { maxLength: 2, selector: entry => entry.name }))
        .map(([first, rest]): JsonValue => [...(rest as unknown as JsonValue[]), first as unknown as JsonValue]),
      initContainers: maybe(
        fc.uniqueArray(other, { maxLength: 2, selector: entry => entry.name }) as fc.Arbitrary<JsonValue>,
      ),
      volumes: maybe(fc.constantFrom<JsonValue>([], [{ name: 'data', emptyDir: {} }])),
      terminationGracePeriodSeconds: maybe(fc.nat(100)),
      securityContext: fc.constantFrom<JsonValue>({}, { fsGroup: 7 }),
      nodeSelector: fc.constant<JsonValue>({ disk: 'no' }),
    },
    { requiredKeys: ['containers'] },
  ),
})
const deployment = fc.record({
  apiVersion: fc.constant('apps/v1'),
  kind: fc.constant('Deployment'),
  metadata: fc.record({ name, namespace: name }, { requiredKeys: ['name'] }),
  spec: fc.record({ replicas: fc.nat(9), template }, { requiredKeys: ['template'] }),
}) as unknown as fc.Arbitrary<JsonObject>

const options: fc.Arbitrary<InjectOptions> = fc
  .record({
    mode: fc.constantFrom('native' as const, 'classic' as const),
    how: fc.constantFrom({}, { listenEnv: 'HOST' }, { socketEnv: 'MCP_SOCKET' }),
    appPreStop: fc.constantFrom('auto' as const, 'none' as const),
    connections: fc.integer({ min: 1, max: 100_000 }),
  })
  .map(({ how, ...chosen }) => ({ ...defaultInjectOptions('0.0.0'), ...chosen, ...how }))

/** Presentations of the same objects: indentation, flow or block, line ends, several documents. */
const stream = fc
  .record({
    objects: fc.array(deployment, { minLength: 1, maxLength: 2 }),
    indent: fc.constantFrom(2, 4),
    indentSeq: fc.boolean(),
    flowLevel: fc.boolean(),
    crlf: fc.boolean(),
    anchors: fc.boolean(),
  })
  .map(({ objects, indent, indentSeq, flowLevel, crlf, anchors }) => {
    const texts = objects.map(object =>
      stringify(anchors ? object : (JSON.parse(JSON.stringify(object)) as JsonObject), {
        indent,
        indentSeq,
        lineWidth: 0,
        ...(flowLevel ? { collectionStyle: 'flow' as const } : {}),
      }),
    )
    const all = texts.join('--- # next\n')
    return crlf ? all.replaceAll('\n', '\r\n') : all
  })

const meaning = (yaml: string) => parseAllDocuments(yaml, { merge: true }).map(doc => doc.toJS() as unknown)

describe('of objects', () => {
  test('injected and taken back is the same object', () => {
    fc.assert(
      fc.property(deployment, options, (object, chosen) => {
        const injected = injectObject(object, chosen)
        if (!injected.ok) return expect(injected.error.length).toBeGreaterThan(0)
        const restored = uninjectObject(injected.value.object, undefined)
        expect(restored.ok && restored.value.object).toEqual(object)
      }),
      { numRuns: 400 },
    )
  })

  test('the object that was given is never changed', () => {
    fc.assert(
      fc.property(deployment, options, (object, chosen) => {
        const before = structuredClone(object)
        injectObject(object, chosen)
        expect(object).toEqual(before)
      }),
    )
  })

  test('a second injection, with whatever options, leaves nothing of the first', () => {
    fc.assert(
      fc.property(deployment, options, options, (object, first, second) => {
        const once = injectObject(object, first)
        const direct = injectObject(object, second)
        if (!once.ok || !direct.ok) return
        const twice = injectObject(once.value.object, second)
        expect(twice.ok && twice.value.object).toEqual(direct.value.object)
      }),
      { numRuns: 300 },
    )
  })

  test('nothing of the application is lost but what is named as changed', () => {
    fc.assert(
      fc.property(deployment, options, (object, chosen) => {
        const injected = injectObject(object, chosen)
        if (!injected.ok) return
        const changed = injected.value.changes.filter(change => change.level === 'change').map(change => change.path)
        for (const [path, value] of leaves(object)) {
          if (changed.some(prefix => path === prefix || path.startsWith(`${prefix}.`) || path.startsWith(`${prefix}[`)))
            continue
          if (isEmptyLeaf(value)) continue
          expect(leafAt(injected.value.object, path), path).toEqual(value)
        }
      }),
      { numRuns: 300 },
    )
  })

  test('a JSON patch from one to the other leads there', () => {
    fc.assert(
      fc.property(deployment, options, (object, chosen) => {
        const injected = injectObject(object, chosen)
        if (!injected.ok) return
        expect(applyPatch(object, jsonPatch(object, injected.value.object))).toEqual(injected.value.object)
      }),
    )
  })
})

describe('of streams', () => {
  test('inject(inject(x)) = inject(x), and uninject(inject(x)) means x', () => {
    fc.assert(
      fc.property(stream, options, (yaml, chosen) => {
        const once = injectManifest(yaml, chosen)
        if (!once.ok) return expect(once.error.length).toBeGreaterThan(0)
        const twice = injectManifest(once.value.text, chosen)
        expect(twice.ok && twice.value.text).toBe(once.value.text)
        const restored = uninjectManifest(once.value.text)
        expect(restored.ok && meaning(restored.value.text)).toEqual(meaning(yaml))
        if (yaml.includes('\r\n')) expect(once.value.text.replaceAll('\r\n', '')).not.toContain('\n')
      }),
      { numRuns: 60 },
    )
  }, 30_000)

  test('any text is either refused in words or given back in meaning', () => {
    const noise = fc.array(
      fc.constantFrom(
        '---',
        '...',
        'kind: Deployment',
        'kind: List',
        'items:',
        '- a',
        '  x: *a',
        'a: &a 1',
        '%YAML 1.1',
        '\t',
        '"',
        '{',
        '[',
        '|',
        '>',
        '? k',
        '<<: *a',
        '# c',
        '\u0000',
        '\ufeff',
      ),
      { maxLength: 12 },
    )
    fc.assert(
      fc.property(noise, lines => {
        const yaml = lines.join('\n')
        const injected = injectManifest(yaml, defaultInjectOptions('0'))
        if (injected.ok) expect(injected.value.text).toBe(yaml)
        else expect(injected.error.every(problem => problem.message.length > 0)).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  test('the segments of a stream put together are the stream', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('---', '--- x', '---y', '...', '%YAML', '# c', 'a: |', '  ---', '', 'b\r')),
        lines => {
          const yaml = lines.join('\n')
          const segments = segmentsOf(yaml)
          expect(segments.map(segment => segment.text).join('')).toBe(yaml)
          for (const segment of segments) {
            const before = yaml.slice(0, yaml.length)
            expect(before.split('\n')[segment.line - 1] ?? '').toBe(segment.text.split('\n')[0])
          }
        },
      ),
    )
  })
})

function* leaves(value: JsonValue, path = ''): Generator<[string, JsonValue]> {
  if (Array.isArray(value) && value.some(element => elementId(element) !== undefined)) {
    for (const element of value) yield* leaves(element, `${path}[${elementId(element)}]`)
  } else if (isObject(value) && Object.keys(value).length > 0) {
    for (const [key, child] of Object.entries(value)) yield* leaves(child, path === '' ? key : `${path}.${key}`)
  } else {
    yield [path, value]
  }
}

function leafAt(object: JsonValue, path: string): JsonValue | undefined {
  for (const [candidate, value] of leaves(object)) if (candidate === path) return value
  return undefined
}

function isEmptyLeaf(value: JsonValue): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0)
}

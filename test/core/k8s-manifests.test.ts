import { describe, expect, test, vi } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { readWebhookConfig } from '../../src/config/webhook-config.ts'
import type { JsonObject } from '../../src/core/json.ts'
import { defaultInjectOptions } from '../../src/core/manifest/options.ts'
import { sidecarContainer } from '../../src/core/manifest/sidecar-container.ts'
import { injectManifest } from '../../src/core/manifest/stream.ts'
import { objectAt, objectsAt, setAt, textAt } from '../../src/core/manifest/tree.ts'
import { objectName } from '../../src/core/manifest/workload.ts'
import { checkedIn, hasKubectl, kustomizations, objectsIn, render, rendered } from '../support/kustomizations.ts'
import {
  containersOf,
  hasTypes,
  podSpecOf,
  referenceProblems,
  restrictedProblems,
  schemaProblems,
  type TypedSample,
  templateOf,
  typeProblems,
} from '../support/manifest-checks.ts'

// Much computing, and machines are shared.
vi.setConfig({ testTimeout: 60_000 })

const folders = kustomizations()

test('the folders that users are told of are there', () => {
  expect(folders).toEqual(
    expect.arrayContaining(['k8s/base', 'k8s/ca', 'k8s/component', 'k8s/tenant', 'k8s/webhook', 'k8s/examples/nginx']),
  )
})

describe.skipIf(!hasKubectl)('kubectl kustomize', () => {
  test.each(folders)('renders %s as it is checked in', folder => {
    expect(render(folder)).toBe(checkedIn(folder))
  })
})

const all = folders.flatMap(folder =>
  objectsIn(rendered(folder)).map(object => ({ label: `${folder} ${objectName(object, undefined)}`, object })),
)
const typed = all.filter(({ object }) => hasTypes(object))

describe('every object', () => {
  test.each(typed)('$label is what its schema says', async ({ object }) => {
    expect(await schemaProblems(object)).toEqual([])
  })

  test.each(all)('$label refers to what is there, with ports in range', ({ object }) => {
    expect(referenceProblems(object)).toEqual([])
  })

  test.each(all.filter(({ object }) => podSpecOf(object)))('$label is restricted', ({ object }) => {
    expect(restrictedProblems(object)).toEqual([])
  })
})

describe('objects of one folder', () => {
  test.each(folders)('%s: every Service, policy and budget selects pods of it', folder => {
    const objects = objectsIn(rendered(folder))
    const pods = objects
      .filter(object => podSpecOf(object))
      .map(object => objectAt(objectAt(templateOf(object), 'metadata') ?? {}, 'labels') ?? {})
    // Kong's Service stands in front of the pods of k8s/base.
    if (pods.length === 0) return expect(folder).toMatch(/ca$|component$|gateway$|kong$|observability/)
    for (const object of objects) {
      const spec = objectAt(object, 'spec') ?? {}
      const kind = textAt(object, 'kind') ?? ''
      const selector =
        kind === 'Service'
          ? objectAt(spec, 'selector')
          : kind === 'PodDisruptionBudget'
            ? objectAt(objectAt(spec, 'selector') ?? {}, 'matchLabels')
            : kind === 'NetworkPolicy'
              ? objectAt(objectAt(spec, 'podSelector') ?? {}, 'matchLabels')
              : undefined
      if (!selector) continue
      const isMet = pods.some(labels => Object.entries(selector).every(([label, value]) => labels[label] === value))
      expect(isMet, `${kind} ${textAt(objectAt(object, 'metadata') ?? {}, 'name')}`).toBe(true)
    }
  })

  test.each(folders)('%s: every Service port leads to a port of its pods', folder => {
    const objects = objectsIn(rendered(folder))
    for (const service of objects.filter(object => object['kind'] === 'Service')) {
      const selector = Object.entries(objectAt(objectAt(service, 'spec') ?? {}, 'selector') ?? {})
      const pods = objects.filter(object => {
        const labels = objectAt(objectAt(templateOf(object), 'metadata') ?? {}, 'labels') ?? {}
        return podSpecOf(object) && selector.every(([label, value]) => labels[label] === value)
      })
      if (pods.length === 0) continue
      const open = pods.flatMap(pod =>
        containersOf(podSpecOf(pod) ?? {}).flatMap(container => objectsAt(container, 'ports')),
      )
      for (const port of objectsAt(objectAt(service, 'spec') ?? {}, 'ports')) {
        const target = port['targetPort'] ?? port['port']
        expect(open.some(candidate => candidate['containerPort'] === target || candidate['name'] === target)).toBe(true)
      }
    }
  })

  test.each(folders)('%s: a server behind the sidecar outlives the lame duck', folder => {
    for (const object of objectsIn(rendered(folder))) {
      const spec = podSpecOf(object) ?? {}
      if (!objectsAt(spec, 'initContainers').some(container => container['name'] === 'mcp-sidecar')) continue
      for (const server of objectsAt(spec, 'containers')) {
        expect(server['lifecycle']).toEqual({ preStop: { sleep: { seconds: 5 } } })
      }
    }
  })

  test.each(folders)('%s: the configuration in a ConfigMap loads', folder => {
    for (const object of objectsIn(rendered(folder)).filter(candidate => candidate['kind'] === 'ConfigMap')) {
      const name = textAt(objectAt(object, 'metadata') ?? {}, 'name') ?? ''
      const text = textAt(objectAt(object, 'data') ?? {}, 'config.yaml')
      if (text === undefined) continue
      if (name.startsWith('mcp-sidecar-webhook')) {
        expect(readWebhookConfig(text, '0.0.0')).toMatchObject({ ok: true })
      } else {
        expect(loadConfig(text, { path: 'config.yaml', env: {}, readFile: () => '' })).toMatchObject({ ok: true })
      }
    }
  })
})

test('the sidecar of k8s/base is the one that inject puts in', () => {
  const deployment = objectsIn(rendered('k8s/base')).find(object => object['kind'] === 'Deployment') as JsonObject
  const [sidecar] = objectsAt(podSpecOf(deployment) ?? {}, 'initContainers') as [JsonObject]
  const probes = JSON.parse(
    textAt(objectsAt(sidecar, 'env').find(entry => entry['name'] === 'MCP_SIDECAR_APP_PROBES') ?? {}, 'value') ?? '{}',
  ) as never
  const options = { ...defaultInjectOptions('0.1.0') }
  expect(sidecar).toEqual(
    sidecarContainer({ options, upstream: 'http://127.0.0.1:3000', certificate: '', probes, hasFsGroup: true }),
  )
})

test('what inject and Certificate emit is held to the same', async () => {
  const server = objectsIn(rendered('k8s/webhook')).find(object => object['kind'] === 'Deployment') as JsonObject
  setAt(server, ['spec', 'template', 'spec', 'containers', 'webhook', 'ports'], [{ name: 'mcp', containerPort: 3000 }])
  setAt(server, ['spec', 'template', 'spec', 'containers', 'webhook', 'startupProbe'], { tcpSocket: { port: 'mcp' } })
  const options = {
    ...defaultInjectOptions('0.1.0'),
    socketEnv: 'SOCKET',
    issuer: { name: 'ca', kind: 'Issuer' as const },
  }
  const injected = injectManifest(JSON.stringify(server), options)
  const objects = objectsIn(injected.ok ? injected.value.text : '')
  expect(objects.map(object => object['kind'])).toEqual(['Deployment', 'Certificate'])
  for (const object of objects) {
    expect(await schemaProblems(object)).toEqual([])
    expect(referenceProblems(object)).toEqual([])
    expect(restrictedProblems(object)).toEqual([])
  }
  expect(typeProblems(objects.map(object => ({ label: objectName(object, undefined), object })))).toEqual([])
}, 30_000)

/** One deliberately broken object of each kind that can break in its own way. */
const first = (kind: string) =>
  structuredClone(typed.find(({ object }) => object['kind'] === kind)?.object) as JsonObject
const broken = (kind: string, path: string, value: unknown): JsonObject => {
  const object = first(kind)
  setAt(object, path.split('.'), value as never)
  return object
}

describe('a broken one is caught', () => {
  test.each([
    { name: 'replicas as text', object: broken('Deployment', 'spec.replicas', '1') },
    { name: 'a Service without ports that are numbers', object: broken('Service', 'spec.ports', [{ port: 'http' }]) },
    { name: 'a Certificate without its Secret', object: broken('Certificate', 'spec.secretName', undefined) },
    {
      name: 'a Certificate with an unknown algorithm',
      object: broken('Certificate', 'spec.privateKey.algorithm', 'EC'),
    },
    { name: 'an Issuer whose ca is text', object: broken('Issuer', 'spec.ca', 'mcp-ca') },
    {
      name: 'a NetworkPolicy without types that are a list',
      object: broken('NetworkPolicy', 'spec.policyTypes', 'Ingress'),
    },
    {
      name: 'a PodDisruptionBudget with a selector that is text',
      object: broken('PodDisruptionBudget', 'spec.selector', 'app'),
    },
    {
      name: 'a webhook without side effects said',
      object: broken('MutatingWebhookConfiguration', 'webhooks', [{ name: 'x' }]),
    },
    { name: 'a Role whose rules are a map', object: broken('Role', 'rules', {}) },
    { name: 'a RoleBinding without a role', object: broken('RoleBinding', 'roleRef', undefined) },
    { name: 'a ResourceQuota whose hard is a list', object: broken('ResourceQuota', 'spec.hard', ['pods']) },
    {
      name: 'an Ingress without a path type',
      object: broken('Ingress', 'spec.rules', [{ http: { paths: [{ path: '/' }] } }]),
    },
    { name: 'a ConfigMap with a number in it', object: broken('ConfigMap', 'data', { a: 1 }) },
    { name: 'a kind that does not exist', object: { apiVersion: 'apps/v1', kind: 'Deploymint' } },
  ])('by its schema: $name', async ({ object }) => {
    expect((await schemaProblems(object)).length).toBeGreaterThan(0)
  })

  test.each([
    {
      name: 'a mount without a volume',
      object: broken('Deployment', 'spec.template.spec.volumes', []),
      says: /is no volume/,
    },
    {
      name: 'a volume without a mount',
      object: broken('Deployment', 'spec.template.spec.volumes.unused', { name: 'unused', emptyDir: {} }),
      says: /mounted by nobody/,
    },
    {
      name: 'a port out of range',
      object: broken('Deployment', 'spec.template.spec.containers.server.ports', [{ containerPort: 99090 }]),
      says: /is 99090/,
    },
    { name: 'a Service port out of range', object: broken('Service', 'spec.ports', [{ port: 0 }]), says: /is 0/ },
    {
      name: 'a selector that does not match',
      object: broken('Deployment', 'spec.selector.matchLabels', { app: 'other' }),
      says: /do not have/,
    },
    {
      name: 'a probe of a port that is not there',
      object: broken('Deployment', 'spec.template.spec.containers.server.readinessProbe', {
        tcpSocket: { port: 'nowhere' },
      }),
      says: /nowhere/,
    },
    {
      name: 'a sidecar that is none',
      object: broken('Deployment', 'spec.template.spec.initContainers.mcp-sidecar.restartPolicy', 'OnFailed'),
      says: /OnFailed/,
    },
  ])('by what no schema sees: $name', ({ object, says }) => {
    expect(referenceProblems(object).join('\n')).toMatch(says)
  })

  test.each([
    { path: 'spec.template.spec.hostNetwork', value: true },
    { path: 'spec.template.spec.securityContext.runAsNonRoot', value: undefined },
    { path: 'spec.template.spec.securityContext.seccompProfile', value: undefined },
    { path: 'spec.template.spec.containers.server.securityContext.allowPrivilegeEscalation', value: undefined },
    { path: 'spec.template.spec.containers.server.securityContext.capabilities', value: { drop: ['NET_RAW'] } },
    {
      path: 'spec.template.spec.containers.server.securityContext.capabilities',
      value: { drop: ['ALL'], add: ['SYS_PTRACE'] },
    },
    { path: 'spec.template.spec.initContainers.mcp-sidecar.securityContext.privileged', value: true },
    { path: 'spec.template.spec.initContainers.mcp-sidecar.securityContext.runAsUser', value: 0 },
    { path: 'spec.template.spec.volumes.tmp', value: { name: 'tmp', hostPath: { path: '/' } } },
  ])('by Pod Security: $path', ({ path, value }) => {
    expect(restrictedProblems(broken('Deployment', path, value)).length).toBeGreaterThan(0)
  })

  test('and the compiler finds fields that do not exist, of every kind', () => {
    const kinds = [...new Set(typed.map(({ object }) => textAt(object, 'kind') ?? ''))]
    const misspelt: TypedSample[] = kinds.map(kind => ({
      label: `misspelt ${kind}`,
      object: { ...first(kind), specc: {} },
      broken: true,
    }))
    const deep: TypedSample[] = [
      { label: 'deep', object: broken('Deployment', 'spec.revisionHistorylimit', 3), broken: true },
      {
        label: 'deep',
        object: broken('Deployment', 'spec.template.spec.containers.server.imagePullPolice', 'Always'),
        broken: true,
      },
      { label: 'deep', object: broken('Certificate', 'spec.issuerReff', {}), broken: true },
      { label: 'deep', object: broken('NetworkPolicy', 'spec.ingres', []), broken: true },
    ]
    expect(typeProblems([...typed, ...misspelt, ...deep])).toEqual([])
  }, 60_000)
})

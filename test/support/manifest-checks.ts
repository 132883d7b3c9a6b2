import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import { objectAt, objectsAt, textAt } from '../../src/core/manifest/tree.ts'

/** Where the types and validators of a group and version are, by `apiVersion`. */
const MODELS: Record<string, string> = {
  v1: 'kubernetes-models/v1',
  'apps/v1': 'kubernetes-models/apps/v1',
  'batch/v1': 'kubernetes-models/batch/v1',
  'policy/v1': 'kubernetes-models/policy/v1',
  'networking.k8s.io/v1': 'kubernetes-models/networking.k8s.io/v1',
  'rbac.authorization.k8s.io/v1': 'kubernetes-models/rbac.authorization.k8s.io/v1',
  'admissionregistration.k8s.io/v1': 'kubernetes-models/admissionregistration.k8s.io/v1',
  'cert-manager.io/v1': '@kubernetes-models/cert-manager/cert-manager.io/v1',
  'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
}

/** Kinds of gateways that no npm package has types of; checked by hand against their documentation. */
const WITHOUT_TYPES = new Set([
  'gateway.networking.k8s.io/v1',
  'gateway.envoyproxy.io/v1alpha1',
  'configuration.konghq.com/v1',
])

export function hasTypes(object: JsonObject): boolean {
  const version = textAt(object, 'apiVersion') ?? ''
  if (version in MODELS) return true
  if (WITHOUT_TYPES.has(version)) return false
  throw new Error(`no types are known for ${version}`)
}

/** What the schema (type, required, enum, format) says of an object. */
export async function schemaProblems(object: JsonObject): Promise<string[]> {
  const models = (await import(MODELS[textAt(object, 'apiVersion') ?? ''] as string)) as Record<string, Constructor>
  const Kind = models[textAt(object, 'kind') ?? '']
  if (!Kind) return [`there is no kind ${textAt(object, 'kind')} in ${textAt(object, 'apiVersion')}`]
  try {
    new Kind(object).validate()
    return []
  } catch (error) {
    return (error as Error).message.split('\n')
  }
}

type Constructor = new (data: JsonObject) => { validate(): void }

export interface TypedSample {
  readonly label: string
  readonly object: JsonObject
  readonly broken?: boolean
}

/**
 * Has the TypeScript compiler hold objects against the types of Kubernetes, which also finds fields that do not exist:
 * validators let those pass, and an API server drops or refuses them. Samples that are broken must be refused.
 *
 * @returns  One line per object that is not as it should be.
 */
export function typeProblems(samples: readonly TypedSample[]): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'k8s-types-'))
  const root = new URL('../../', import.meta.url).pathname
  try {
    symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'))
    writeFileSync(join(dir, 'package.json'), '{"type":"module"}')
    const imports = new Set<string>()
    const lines = samples.map(({ object, broken }, index) => {
      const kind = textAt(object, 'kind') ?? ''
      const module = MODELS[textAt(object, 'apiVersion') ?? ''] as string
      const alias = `${kind}_${Object.keys(MODELS).indexOf(textAt(object, 'apiVersion') ?? '')}`
      imports.add(`import type { I${kind} as ${alias} } from '${module}'`)
      const expectation = broken === true ? '// @ts-expect-error\n' : '\n'
      return `${expectation}export const sample${index}: ${alias} = ${JSON.stringify(object)}\n`
    })
    const head = [...imports].join('\n')
    const headLines = imports.size
    writeFileSync(join(dir, 'samples.ts'), `${head}\n${lines.join('')}`)
    const compile = [
      '--noEmit',
      '--strict',
      '--skipLibCheck',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--types',
      '',
    ]
    try {
      execFileSync(join(root, 'node_modules/.bin/tsc'), [...compile, 'samples.ts'], {
        cwd: dir,
        encoding: 'utf8',
        stdio: 'pipe',
      })
      return []
    } catch (error) {
      const output = (error as { stdout?: string }).stdout ?? String(error)
      return output
        .split('\n')
        .filter(line => line.includes('error TS'))
        .map(line => {
          const at = Number(/\((\d+),/.exec(line)?.[1] ?? 0)
          const sample = samples[Math.floor((at - headLines - 1) / 2)]
          return `${sample?.label ?? '?'}: ${line.replace(/^.*error /, '')}`
        })
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** The pod template of an object with pods. */
export function podSpecOf(object: JsonObject): JsonObject | undefined {
  const kind = textAt(object, 'kind')
  if (kind === 'Pod') return objectAt(object, 'spec')
  if (kind !== 'Deployment' && kind !== 'DaemonSet' && kind !== 'StatefulSet' && kind !== 'Job') return undefined
  return objectAt(templateOf(object), 'spec')
}

export function templateOf(object: JsonObject): JsonObject {
  return objectAt(objectAt(object, 'spec') ?? {}, 'template') ?? {}
}

/** What no schema sees: references inside one object. */
export function referenceProblems(object: JsonObject): string[] {
  const problems: string[] = []
  const spec = podSpecOf(object)
  if (!spec) return portProblems(object)
  const volumes = new Set(objectsAt(spec, 'volumes').map(volume => textAt(volume, 'name')))
  const used = new Set<string | undefined>()
  for (const container of containersOf(spec)) {
    const name = textAt(container, 'name')
    for (const mount of objectsAt(container, 'volumeMounts')) {
      used.add(textAt(mount, 'name'))
      if (!volumes.has(textAt(mount, 'name')))
        problems.push(`${name} mounts ${textAt(mount, 'name')}, which is no volume`)
    }
    const portNames = new Set(objectsAt(container, 'ports').map(port => textAt(port, 'name')))
    for (const field of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
      const probe = objectAt(container, field)
      const handler = probe && (objectAt(probe, 'httpGet') ?? objectAt(probe, 'tcpSocket'))
      const port = handler?.['port']
      if (typeof port === 'string' && !portNames.has(port))
        problems.push(`${name}.${field} names port ${port}, which is not there`)
    }
    const restartPolicy = textAt(container, 'restartPolicy')
    if (restartPolicy !== undefined && restartPolicy !== 'Always')
      problems.push(`${name} has restartPolicy ${restartPolicy}`)
  }
  for (const volume of volumes) if (!used.has(volume)) problems.push(`volume ${volume} is mounted by nobody`)
  const selector = objectAt(objectAt(objectAt(object, 'spec') ?? {}, 'selector') ?? {}, 'matchLabels') ?? {}
  const labels = objectAt(objectAt(templateOf(object), 'metadata') ?? {}, 'labels') ?? {}
  for (const [label, value] of Object.entries(selector)) {
    if (labels[label] !== value)
      problems.push(`the selector wants ${label}=${JSON.stringify(value)}, which the pods do not have`)
  }
  return [...problems, ...portProblems(object)]
}

const PORT_KEYS = new Set(['port', 'targetPort', 'containerPort', 'hostPort', 'nodePort'])

function portProblems(value: JsonValue, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((element, index) => portProblems(element, `${path}[${index}]`))
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, child]) => {
    const at = path === '' ? key : `${path}.${key}`
    if (PORT_KEYS.has(key) && typeof child === 'number' && (child < 1 || child > 65535)) return [`${at} is ${child}`]
    return portProblems(child, at)
  })
}

/** Pod Security `restricted`, v1.33: what an API server refuses in a namespace that enforces it. */
export function restrictedProblems(object: JsonObject): string[] {
  const spec = podSpecOf(object)
  if (!spec) return []
  const problems: string[] = []
  for (const key of ['hostNetwork', 'hostPID', 'hostIPC']) if (spec[key] === true) problems.push(key)
  const pod = objectAt(spec, 'securityContext') ?? {}
  for (const volume of objectsAt(spec, 'volumes')) {
    const kinds = Object.keys(volume).filter(key => key !== 'name')
    const allowed = [
      'configMap',
      'csi',
      'downwardAPI',
      'emptyDir',
      'ephemeral',
      'persistentVolumeClaim',
      'projected',
      'secret',
    ]
    for (const kind of kinds)
      if (!allowed.includes(kind)) problems.push(`volume ${textAt(volume, 'name')} is a ${kind}`)
  }
  for (const container of containersOf(spec)) {
    const name = textAt(container, 'name')
    const own = objectAt(container, 'securityContext') ?? {}
    const effective = { ...pod, ...own }
    const seccomp = textAt(objectAt(effective, 'seccompProfile') ?? {}, 'type')
    if (effective['runAsNonRoot'] !== true) problems.push(`${name}: runAsNonRoot is not true`)
    if (effective['runAsUser'] === 0) problems.push(`${name}: runs as root`)
    if (seccomp !== 'RuntimeDefault' && seccomp !== 'Localhost') problems.push(`${name}: no seccompProfile`)
    if (own['allowPrivilegeEscalation'] !== false) problems.push(`${name}: allowPrivilegeEscalation is not false`)
    if (own['privileged'] === true) problems.push(`${name}: privileged`)
    const capabilities = objectAt(own, 'capabilities') ?? {}
    const drop = capabilities['drop']
    if (!Array.isArray(drop) || !drop.includes('ALL')) problems.push(`${name}: does not drop ALL capabilities`)
    const add = capabilities['add']
    if (Array.isArray(add) && add.some(capability => capability !== 'NET_BIND_SERVICE'))
      problems.push(`${name}: adds capabilities`)
    for (const port of objectsAt(container, 'ports'))
      if (port['hostPort'] !== undefined) problems.push(`${name}: hostPort`)
  }
  return problems
}

export function containersOf(spec: JsonObject): JsonObject[] {
  return [...objectsAt(spec, 'initContainers'), ...objectsAt(spec, 'containers')]
}

import type { JsonObject } from '../json.ts'

/** How manifests are injected. Annotations on the pod template win over these, key by key. */
export interface InjectOptions {
  readonly image: string
  /** `native`: an init container with `restartPolicy: Always` (Kubernetes 1.29 and later). `classic`: a plain container. */
  readonly mode: 'native' | 'classic'
  /** `all`: every workload that does not opt out. `annotated`: only those with `mcp-sidecar.io/inject: "true"`. */
  readonly select: 'all' | 'annotated'
  /** What becomes of a workload that carries the sidecar: made anew (so that upgrades act), or left as it is. */
  readonly already: 'replace' | 'keep'
  /** Namespace of objects that name none; the Certificate needs one for its DNS names. */
  readonly namespace?: string
  readonly upstreamPort?: number
  readonly upstreamContainer?: string
  readonly listenPort: number
  readonly adminPort: number
  /** Secret; `<name>-mcp-sidecar-tls` when absent. */
  readonly certificate?: string
  /** ConfigMap with `ca.crt`. */
  readonly trust: string
  /** ConfigMap with `config.yaml`. */
  readonly config: string
  /** Name of the variable by which the server is told its listening address; it is set to 127.0.0.1. */
  readonly listenEnv?: string
  /** Name of the variable by which the server is told the unix socket to listen on. Excludes `listenEnv`. */
  readonly socketEnv?: string
  /** Open connections that the sidecar accepts; the memory limit follows from it. */
  readonly connections: number
  readonly cpuRequest: string
  /** Absent: no limit. */
  readonly cpuLimit?: string
  /** Absent: what `memoryMiBFor(connections)` says. */
  readonly memoryLimit?: string
  readonly memoryRequest: string
  /** The sidecar's `drain.lameDuck` and `drain.grace`, in seconds. */
  readonly lameDuckSeconds: number
  readonly graceSeconds: number
  /** How the server is kept up for the lame-duck time when it has no preStop of its own. */
  readonly appPreStop: 'auto' | 'sleep' | 'exec' | 'none'
  /** Emit a cert-manager Certificate signed by this issuer. */
  readonly issuer?: { readonly name: string; readonly kind: 'Issuer' | 'ClusterIssuer' }
}

export function defaultInjectOptions(version: string): InjectOptions {
  return {
    image: `mcp-sidecar:${version}`,
    mode: 'native',
    select: 'all',
    already: 'replace',
    listenPort: 8443,
    adminPort: 9090,
    trust: 'mcp-sidecar-trust',
    config: 'mcp-sidecar-config',
    connections: 1000,
    cpuRequest: '50m',
    cpuLimit: '1',
    memoryRequest: '96Mi',
    lameDuckSeconds: 5,
    graceSeconds: 25,
    appPreStop: 'auto',
  }
}

/** One thing that was done to an object, or that its owner should know. */
export interface Change {
  /** `Deployment/shop/web`, without the namespace when the object names none. */
  readonly object: string
  /** Where: `spec.template.spec.containers[web].readinessProbe`. */
  readonly path: string
  readonly level: 'change' | 'note' | 'warning'
  readonly message: string
}

/** Something that must exist in the namespace before the pods start. */
export interface Need {
  readonly kind: 'Secret' | 'ConfigMap'
  readonly name: string
  readonly namespace?: string
  readonly keys: readonly string[]
  readonly purpose: string
}

/** Why a manifest is refused. */
export interface ManifestProblem {
  readonly object: string
  readonly path: string
  readonly message: string
  /** 1-based line of the input, when it is known. */
  readonly line?: number
}

export const ANNOTATION_PREFIX = 'mcp-sidecar.io/'
/** Holds what `uninject` needs; its presence says that the object was injected. */
export const ORIGINAL = 'mcp-sidecar.io/original'
/** Marks whole objects that were added to a stream. */
export const GENERATED = 'mcp-sidecar.io/generated'
export const SIDECAR = 'mcp-sidecar'

/**
 * Memory limit in MiB that carries so many open connections: a floor of 128 for the program and its garbage, and
 * 0.1 MiB each (an idle mTLS connection was measured at 76 KiB on Node 24; the rest is for bytes in flight), in steps
 * of 32.
 */
export function memoryMiBFor(connections: number): number {
  return Math.ceil((128 + connections * 0.1) / 32) * 32
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** Options with the pod template's annotations applied; unusable values are collected in `problems`. */
export function withAnnotations(
  options: InjectOptions,
  annotations: JsonObject,
  problem: (annotation: string, message: string) => void,
): InjectOptions {
  const merged: Mutable<InjectOptions> = { ...options }
  for (const [name, raw] of Object.entries(annotations)) {
    if (!name.startsWith(ANNOTATION_PREFIX)) continue
    const key = name.slice(ANNOTATION_PREFIX.length)
    const value = typeof raw === 'string' ? raw : JSON.stringify(raw)
    const bad = (want: string) => problem(name, `must be ${want}, not ${JSON.stringify(value)}`)
    switch (key) {
      case 'upstream-port':
      case 'listen-port':
      case 'admin-port': {
        const port = portOf(value)
        if (port === undefined) bad('a port from 1 to 65535')
        else if (key === 'upstream-port') merged.upstreamPort = port
        else if (key === 'listen-port') merged.listenPort = port
        else merged.adminPort = port
        break
      }
      case 'connections':
        if (/^[1-9][0-9]{0,6}$/.test(value)) merged.connections = Number(value)
        else bad('a number of connections')
        break
      case 'upstream-container':
        merged.upstreamContainer = value
        break
      case 'certificate':
      case 'trust':
      case 'config':
        if (isObjectName(value)) merged[key] = value
        else bad('the name of an object')
        break
      case 'image':
        if (isImage(value)) merged.image = value
        else bad('an image reference')
        break
      case 'listen-env':
      case 'socket-env':
        if (!isEnvName(value)) bad('the name of an environment variable')
        else if (key === 'listen-env') merged.listenEnv = value
        else merged.socketEnv = value
        break
      case 'mode':
        if (value === 'native' || value === 'classic') merged.mode = value
        else bad('native or classic')
        break
      case 'app-prestop':
        if (value === 'auto' || value === 'sleep' || value === 'exec' || value === 'none') merged.appPreStop = value
        else bad('auto, sleep, exec or none')
        break
      case 'memory-limit':
      case 'cpu-limit':
        if (!isQuantity(value)) bad('a quantity such as 256Mi or 500m')
        else if (key === 'memory-limit') merged.memoryLimit = value
        else merged.cpuLimit = value
        break
      case 'inject':
        if (!['true', 'false', 'enabled', 'disabled'].includes(value)) bad('"true" or "false"')
        break
      case 'original':
      case 'generated':
        break
      default:
        problem(name, 'is no annotation that mcp-sidecar knows')
    }
  }
  if (merged.listenEnv !== undefined && merged.socketEnv !== undefined) {
    problem(`${ANNOTATION_PREFIX}socket-env`, 'excludes listen-env: the server listens on one of the two')
  }
  return merged
}

export function portOf(text: string): number | undefined {
  if (!/^[1-9][0-9]{0,4}$/.test(text)) return undefined
  const port = Number(text)
  return port <= 65535 ? port : undefined
}

/** A DNS subdomain name as Kubernetes wants for most objects. */
export function isObjectName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(text)
}

/** Kubernetes leaves the rest to the container runtime. */
export function isImage(text: string): boolean {
  return /^\S+$/.test(text)
}

export function isEnvName(text: string): boolean {
  return text.length <= 256 && /^[A-Za-z_][A-Za-z0-9_]*$/.test(text)
}

export function isQuantity(text: string): boolean {
  return /^[0-9]{1,12}(\.[0-9]{1,6})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/.test(text)
}

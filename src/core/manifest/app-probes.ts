import type { JsonObject, JsonValue } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import { isObject, objectAt, objectsAt, own, textAt } from './tree.ts'

/**
 * The application's own probes, as the injector hands them to the sidecar in `MCP_SIDECAR_APP_PROBES`:
 *
 *   {"web":{"readyz":{"kind":"http","port":"upstream","path":"/ready","scheme":"HTTP","headers":[],"timeoutMs":1000}}}
 *
 * The kubelet asks the sidecar at `/app-health/<container>/<livez|readyz|startupz>`; the sidecar runs the probe against
 * `upstream` (whatever `upstream.url` says, a unix socket too) or another loopback port of the same pod.
 */
export type AppProbes = Readonly<Record<string, Readonly<Partial<Record<ProbePath, AppProbe>>>>>

export type ProbePath = 'livez' | 'readyz' | 'startupz'
export type ProbePort = 'upstream' | number

export type AppProbe =
  | {
      readonly kind: 'http'
      readonly port: ProbePort
      readonly path: string
      readonly scheme: 'HTTP' | 'HTTPS'
      readonly headers: readonly (readonly [string, string])[]
      readonly timeoutMs: number
    }
  | { readonly kind: 'tcp'; readonly port: ProbePort; readonly timeoutMs: number }
  | { readonly kind: 'grpc'; readonly port: ProbePort; readonly service: string; readonly timeoutMs: number }

export const APP_PROBES_ENV = 'MCP_SIDECAR_APP_PROBES'

/** Which field of a container is asked for under which path. */
export const PROBE_FIELDS: readonly (readonly [field: string, path: ProbePath])[] = [
  ['startupProbe', 'startupz'],
  ['readinessProbe', 'readyz'],
  ['livenessProbe', 'livez'],
]

/**
 * Reads one probe of a container as the kubelet would.
 *
 * @returns  The probe for the sidecar; undefined when it is one that stays as it is (exec, or none); or in words why it
 *           cannot be taken over.
 */
export function readProbe(
  container: JsonObject,
  field: string,
  upstreamPort: number,
): Result<AppProbe | undefined, string> {
  const probe = objectAt(container, field)
  if (!probe) return ok(undefined)
  const seconds = own(probe, 'timeoutSeconds')
  const timeoutMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : 1000
  const http = objectAt(probe, 'httpGet')
  if (http) {
    if (textAt(http, 'host')) return err('names a host of its own and is left as it is')
    const port = probePort(container, own(http, 'port'), upstreamPort)
    if (port === undefined) return err('has a port that no container port of that name answers')
    const path = textAt(http, 'path') || '/'
    const headers = objectsAt(http, 'httpHeaders').map(
      header => [textAt(header, 'name') ?? '', textAt(header, 'value') ?? ''] as const,
    )
    const scheme = textAt(http, 'scheme') === 'HTTPS' ? 'HTTPS' : 'HTTP'
    return ok({ kind: 'http', port, path: path.startsWith('/') ? path : `/${path}`, scheme, headers, timeoutMs })
  }
  const tcp = objectAt(probe, 'tcpSocket')
  if (tcp) {
    if (textAt(tcp, 'host')) return err('names a host of its own and is left as it is')
    const port = probePort(container, own(tcp, 'port'), upstreamPort)
    return port === undefined
      ? err('has a port that no container port of that name answers')
      : ok({ kind: 'tcp', port, timeoutMs })
  }
  const grpc = objectAt(probe, 'grpc')
  if (grpc) {
    const port = probePort(container, own(grpc, 'port'), upstreamPort)
    return port === undefined
      ? err('has no usable port')
      : ok({ kind: 'grpc', port, service: textAt(grpc, 'service') ?? '', timeoutMs })
  }
  return ok(undefined)
}

/** Number of a port that a probe or a Service gives by number or by name. */
export function portNumber(container: JsonObject, port: JsonValue | undefined): number | undefined {
  if (typeof port === 'number') return port
  if (typeof port !== 'string') return undefined
  if (/^[0-9]+$/.test(port)) return Number(port)
  const named = objectsAt(container, 'ports').find(candidate => own(candidate, 'name') === port)
  const number = named && own(named, 'containerPort')
  return typeof number === 'number' ? number : undefined
}

function probePort(container: JsonObject, port: JsonValue | undefined, upstreamPort: number): ProbePort | undefined {
  const number = portNumber(container, port)
  return number === upstreamPort ? 'upstream' : number
}

/** Reads `MCP_SIDECAR_APP_PROBES`. Unset or empty means that there are none. */
export function readAppProbes(text: string | undefined): Result<AppProbes, string> {
  if (text === undefined || text.trim() === '') return ok({})
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch {
    return err(`${APP_PROBES_ENV} is not JSON`)
  }
  if (!isObject(value)) return err(`${APP_PROBES_ENV} must be an object of containers`)
  const probes: Record<string, Partial<Record<ProbePath, AppProbe>>> = Object.create(null)
  for (const [container, paths] of Object.entries(value)) {
    if (!isObject(paths)) return err(`${APP_PROBES_ENV}: ${container} must be an object of probes`)
    const ofContainer: Partial<Record<ProbePath, AppProbe>> = {}
    for (const [path, raw] of Object.entries(paths)) {
      if (path !== 'livez' && path !== 'readyz' && path !== 'startupz') {
        return err(`${APP_PROBES_ENV}: ${container}.${path} is none of livez, readyz, startupz`)
      }
      const probe = isObject(raw) ? readEntry(raw) : undefined
      if (!probe) return err(`${APP_PROBES_ENV}: ${container}.${path} is not a probe`)
      ofContainer[path] = probe
    }
    probes[container] = ofContainer
  }
  return ok(probes)
}

function readEntry(raw: JsonObject): AppProbe | undefined {
  const port = own(raw, 'port')
  const timeoutMs = own(raw, 'timeoutMs')
  if (port !== 'upstream' && !(typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65536)) {
    return undefined
  }
  if (typeof timeoutMs !== 'number' || !(timeoutMs > 0 && timeoutMs <= 3_600_000)) return undefined
  switch (own(raw, 'kind')) {
    case 'tcp':
      return { kind: 'tcp', port, timeoutMs }
    case 'grpc':
      return { kind: 'grpc', port, timeoutMs, service: textAt(raw, 'service') ?? '' }
    case 'http': {
      const path = textAt(raw, 'path')
      const scheme = own(raw, 'scheme') === 'HTTPS' ? 'HTTPS' : 'HTTP'
      const list = own(raw, 'headers')
      if (!path?.startsWith('/') || !Array.isArray(list)) return undefined
      const headers: [string, string][] = []
      for (const pair of list) {
        const [name, value] = Array.isArray(pair) ? pair : []
        if (typeof name !== 'string' || typeof value !== 'string') return undefined
        headers.push([name, value])
      }
      return { kind: 'http', port, path, scheme, headers, timeoutMs }
    }
    default:
      return undefined
  }
}

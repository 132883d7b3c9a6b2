import type { JsonObject } from '../json.ts'
import { portNumber } from './app-probes.ts'
import type { Front } from './inject-object.ts'
import type { Change } from './options.ts'
import { elementId, objectAt, objectsAt, own, pathText, textAt } from './tree.ts'
import { keepRecord, Recorder, takeBack } from './undo.ts'
import { groupOf, namespaceOf, objectName } from './workload.ts'

/** A Service after its ports were pointed to the sidecar, and the workloads that it stands in front of. */
export interface ServicePointing {
  readonly object: JsonObject
  readonly changes: readonly Change[]
  readonly fronts: readonly Front[]
}

export function isService(object: JsonObject): boolean {
  return own(object, 'kind') === 'Service' && groupOf(object) === ''
}

/**
 * Points every port of a Service that led to an MCP server to the sidecar in front of it. Ports that lead elsewhere,
 * and Services that select none of the workloads, stay as they are.
 */
export function pointService(
  service: JsonObject,
  fronts: readonly Front[],
  namespace: string | undefined,
): ServicePointing {
  const selected = fronts.filter(front => selects(service, front, namespace))
  if (selected.length === 0) return { object: service, changes: [], fronts: [] }
  const object = structuredClone(service)
  // An earlier injection is taken back first: the sidecar may have moved to another port.
  takeBack(object, () => undefined)
  const recorder = new Recorder(object)
  const changes: Change[] = []
  const name = objectName(object, namespace)
  const spec = objectAt(object, 'spec') ?? {}
  for (const port of objectsAt(spec, 'ports')) {
    const front = selected.find(candidate => leadsToServer(port, candidate))
    const id = elementId(port)
    if (!front || id === undefined) continue
    const at = ['spec', 'ports', id]
    recorder.set([...at, 'targetPort'], front.listenPort)
    changes.push({
      object: name,
      path: pathText('', [...at, 'targetPort'], object),
      level: 'change',
      message: `leads to the sidecar's port ${front.listenPort} (mTLS) instead of ${front.upstreamPort}`,
    })
    const protocol = textAt(port, 'appProtocol')
    if (protocol === 'http' || protocol === 'kubernetes.io/h2c') {
      recorder.set([...at, 'appProtocol'], 'https')
      changes.push({
        object: name,
        path: pathText('', [...at, 'appProtocol'], object),
        level: 'change',
        message: `${protocol} → https: the port speaks TLS now`,
      })
    }
  }
  if (changes.length === 0) return { object, changes, fronts: selected }
  keepRecord(recorder)
  return { object, changes, fronts: selected }
}

function selects(service: JsonObject, front: Front, namespace: string | undefined): boolean {
  if (namespaceOf(service, namespace) !== front.namespace) return false
  const selector = objectAt(objectAt(service, 'spec') ?? {}, 'selector') ?? {}
  const wanted = Object.entries(selector)
  return wanted.length > 0 && wanted.every(([label, value]) => own(front.labels, label) === value)
}

function leadsToServer(port: JsonObject, front: Front): boolean {
  if ((textAt(port, 'protocol') ?? 'TCP') !== 'TCP') return false
  const target = own(port, 'targetPort') ?? own(port, 'port')
  return portNumber(front.container, target) === front.upstreamPort
}

import type { JsonObject } from '../json.ts'
import { ANNOTATION_PREFIX, type InjectOptions, SIDECAR } from './options.ts'
import { SIDECAR_VOLUMES } from './sidecar-container.ts'
import { objectAt, objectsAt, own, textAt } from './tree.ts'

/** Where findings about a pod template go; `at` is a path from the template. */
export interface Report {
  problem(at: readonly string[], message: string): void
  warn(at: readonly string[], message: string): void
}

/** Everything about a pod that would break with the sidecar in it, or would make the sidecar worthless. */
export function findObstacles(spec: JsonObject, options: InjectOptions, finishes: boolean, report: Report): void {
  const { listenPort, adminPort, mode } = options
  if (own(spec, 'hostNetwork') === true) {
    report.problem(
      ['spec', 'hostNetwork'],
      'with hostNetwork the sidecar and the server would listen on the node itself, where anybody reaches the server directly',
    )
  }
  if (textAt(objectAt(spec, 'os') ?? {}, 'name') === 'windows') {
    report.problem(['spec', 'os'], 'the sidecar runs on Linux only')
  }
  if (listenPort === adminPort) report.problem([], `the sidecar cannot listen on port ${listenPort} twice`)
  if (mode === 'classic' && finishes) {
    report.problem(
      ['spec', 'restartPolicy'],
      'with a classic sidecar these pods would never complete; use the native one (Kubernetes 1.29 or later)',
    )
  }
  for (const list of ['containers', 'initContainers']) {
    const names = new Set<string>()
    for (const container of objectsAt(spec, list)) {
      const name = textAt(container, 'name')
      if (name === undefined) report.problem(['spec', list], 'a container has no name')
      else if (name === SIDECAR) {
        report.problem(
          ['spec', list, name],
          `a container named ${SIDECAR} is there already and was not put there by inject`,
        )
      } else if (names.has(name)) report.problem(['spec', list, name], 'two containers have this name')
      names.add(name ?? '')
      // An init container that has ended holds no port any more.
      if (list === 'initContainers' && textAt(container, 'restartPolicy') !== 'Always') continue
      refusePortClash(list, container, options, report)
    }
  }
  for (const volume of objectsAt(spec, 'volumes')) {
    const name = textAt(volume, 'name') ?? ''
    if (SIDECAR_VOLUMES.includes(name)) {
      report.problem(
        ['spec', 'volumes', name],
        `a volume named ${name} is there already and was not put there by inject`,
      )
    }
  }
  if (own(spec, 'shareProcessNamespace') === true) {
    report.warn(
      ['spec', 'shareProcessNamespace'],
      'the other containers can reach the key of the sidecar through /proc when they run as root or as uid 1001',
    )
  }
}

function refusePortClash(list: string, container: JsonObject, options: InjectOptions, report: Report): void {
  const { listenPort, adminPort } = options
  const name = textAt(container, 'name') ?? ''
  for (const port of objectsAt(container, 'ports')) {
    const number = own(port, 'containerPort')
    if ((textAt(port, 'protocol') ?? 'TCP') !== 'TCP') continue
    if (number === listenPort) {
      report.problem(
        ['spec', list, name, 'ports'],
        `container ${name} listens on ${listenPort}, which is the sidecar's; give the sidecar another with ${ANNOTATION_PREFIX}listen-port`,
      )
    }
    if (number === adminPort) {
      report.problem(
        ['spec', list, name, 'ports'],
        `container ${name} listens on ${adminPort}, which is the sidecar's for probes and metrics; give the sidecar another with ${ANNOTATION_PREFIX}admin-port`,
      )
    }
  }
}

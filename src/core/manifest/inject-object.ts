import type { JsonObject, JsonValue } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import { type AppProbe, PROBE_FIELDS, type ProbePath, readProbe } from './app-probes.ts'
import { findServer } from './find-server.ts'
import { findObstacles, type Report } from './obstacles.ts'
import {
  ANNOTATION_PREFIX,
  type Change,
  type InjectOptions,
  type ManifestProblem,
  memoryMiBFor,
  type Need,
  ORIGINAL,
  SIDECAR,
  withAnnotations,
} from './options.ts'
import {
  type SidecarInput,
  SOCKET_DIRECTORY,
  SOCKET_PATH,
  SOCKET_VOLUME,
  sidecarContainer,
  sidecarVolumes,
} from './sidecar-container.ts'
import { objectAt, objectsAt, own, pathText, textAt, valueAt } from './tree.ts'
import { keepRecord, Recorder } from './undo.ts'
import { uninjectTemplate } from './uninject-object.ts'
import { type Workload, workloadOf } from './workload.ts'

/** One object after injection. `object` is a new value; the one given is never changed. */
export interface ObjectInjection {
  readonly object: JsonObject
  readonly changes: readonly Change[]
  readonly needs: readonly Need[]
  /** Set when the object has pods and got a sidecar: what Services in front of it must know. */
  readonly front?: Front
}

/** A workload with the sidecar, as a Service sees it. */
export interface Front {
  readonly name: string
  readonly object: string
  readonly namespace: string | undefined
  readonly labels: JsonObject
  /** The container that the MCP server runs in, for its port names. */
  readonly container: JsonObject
  readonly upstreamPort: number
  readonly listenPort: number
  readonly certificate: string
}

/**
 * Puts the sidecar into the pods of one object. Objects without pods, and workloads that are not selected or opt out,
 * come back as they are, with a note when somebody may wonder why.
 *
 * @refuses  every reason at once: hostNetwork, port clashes, names that are taken, an upstream port that nobody gave.
 */
export function injectObject(
  object: JsonObject,
  options: InjectOptions,
): Result<ObjectInjection, readonly ManifestProblem[]> {
  const copy = structuredClone(object)
  const workload = workloadOf(copy, options.namespace)
  if (!workload) return ok({ object, changes: [], needs: [] })
  const job = new Injection(workload, options)
  const front = job.run()
  if (job.problems.length > 0) return err(job.problems)
  if (!front) return ok({ object, changes: job.changes, needs: [] })
  return ok({ object: copy, changes: job.changes, needs: job.needs, front })
}

class Injection {
  readonly changes: Change[] = []
  readonly needs: Need[] = []
  readonly problems: ManifestProblem[] = []
  readonly #workload: Workload
  readonly #template: JsonObject
  readonly #recorder: Recorder
  #options: InjectOptions

  constructor(workload: Workload, options: InjectOptions) {
    this.#workload = workload
    this.#template = workload.template
    this.#recorder = new Recorder(workload.template)
    this.#options = options
  }

  run(): Front | undefined {
    const { misplaced, object, path } = this.#workload
    for (const name of misplaced) {
      const message = `is not read here; it belongs to the pods, in ${path}.metadata.annotations`
      this.changes.push({ object, path: `metadata.annotations["${name}"]`, level: 'warning', message })
    }
    const annotations = objectAt(objectAt(this.#template, 'metadata') ?? {}, 'annotations') ?? {}
    const inject = own(annotations, `${ANNOTATION_PREFIX}inject`)
    const asked = typeof inject === 'string' ? inject : JSON.stringify(inject)
    if (asked === 'false' || asked === 'disabled') {
      this.#note([], `left as it is: ${ANNOTATION_PREFIX}inject is "${asked}"`)
      return undefined
    }
    // "True" or "yes" is no reason to leave it as it is: like every word that is not known, it is refused below.
    if (this.#options.select === 'annotated' && asked === undefined) {
      this.#note([], `left as it is: ${ANNOTATION_PREFIX}inject is not "true"`)
      return undefined
    }
    if (own(annotations, ORIGINAL) !== undefined) {
      if (this.#options.already === 'keep' && findSidecar(this.#template)) {
        this.#note([], 'left as it is: it has the sidecar already')
        return undefined
      }
      if (uninjectTemplate(this.#template) === 'unreadable') {
        this.#problem(
          ['metadata', 'annotations', ORIGINAL],
          'cannot be read, so that the injection before this one cannot be replaced',
        )
        return undefined
      }
    }
    const current = objectAt(objectAt(this.#template, 'metadata') ?? {}, 'annotations') ?? {}
    this.#options = withAnnotations(this.#options, current, (annotation, message) =>
      this.#problem(['metadata', 'annotations', annotation], message),
    )
    const report: Report = {
      problem: (at, message) => this.#problem(at, message),
      warn: (at, message) => this.#warn(at, message),
    }
    findObstacles(this.#spec(), this.#options, this.#workload.finishes, report)
    const upstream = findServer(this.#spec(), this.#options, report)
    if (!upstream || this.problems.length > 0) return undefined
    return this.#apply(upstream.container, upstream.port)
  }

  #spec(): JsonObject {
    return objectAt(this.#template, 'spec') as JsonObject
  }

  #apply(container: JsonObject, port: number): Front {
    const options = this.#options
    const workload = this.#workload
    const name = textAt(container, 'name') ?? ''
    const upstream = options.socketEnv === undefined ? `http://127.0.0.1:${port}` : `unix:${SOCKET_PATH}`
    const certificate = options.certificate ?? `${workload.name}-mcp-sidecar-tls`
    const probes = this.#takeOverProbes(port, name)
    this.#tellServerWhereToListen(name, upstream)
    this.#keepServerForLameDuck(container, name)
    const input: SidecarInput = {
      options,
      upstream,
      certificate,
      probes: probes.size > 0 ? Object.fromEntries(probes) : {},
      hasFsGroup: own(objectAt(this.#spec(), 'securityContext') ?? {}, 'fsGroup') !== undefined,
    }
    this.#addSidecar(input, port)
    this.#leaveTimeToDrain()
    keepRecord(this.#recorder)
    this.#needThings(certificate)
    const labels = objectAt(objectAt(this.#template, 'metadata') ?? {}, 'labels') ?? {}
    return {
      name: workload.name,
      object: workload.object,
      namespace: workload.namespace,
      labels,
      container,
      upstreamPort: port,
      listenPort: options.listenPort,
      certificate,
    }
  }

  #takeOverProbes(upstreamPort: number, upstreamContainer: string): Map<string, Partial<Record<ProbePath, AppProbe>>> {
    const taken = new Map<string, Partial<Record<ProbePath, AppProbe>>>()
    for (const list of ['containers', 'initContainers']) {
      for (const container of objectsAt(this.#spec(), list)) {
        const name = textAt(container, 'name') ?? ''
        for (const [field, path] of PROBE_FIELDS) {
          const at = ['spec', list, name, field]
          const probe = readProbe(container, field, upstreamPort)
          if (!probe.ok) {
            this.#warn(at, probe.error)
            continue
          }
          // Another container's own port is not behind the sidecar: only the server moves to the loopback.
          if (!probe.value || (name !== upstreamContainer && probe.value.port !== 'upstream')) continue
          const ofContainer = taken.get(name) ?? {}
          ofContainer[path] = probe.value
          taken.set(name, ofContainer)
          const target = `/app-health/${name}/${path}`
          const handler = { path: target, port: this.#options.adminPort, scheme: 'HTTP' }
          for (const old of ['tcpSocket', 'grpc']) {
            if (valueAt(this.#template, [...at, old]) !== undefined) this.#recorder.set([...at, old], undefined)
          }
          this.#recorder.set([...at, 'httpGet'], handler)
          this.#change(
            at,
            `now asks the sidecar at ${target}, which runs the original ${probe.value.kind.toUpperCase()} probe on the loopback`,
          )
        }
      }
    }
    return taken
  }

  #tellServerWhereToListen(container: string, upstream: string): void {
    const { listenEnv, socketEnv } = this.#options
    const variable = socketEnv ?? listenEnv
    const at = ['spec', 'containers', container]
    if (variable === undefined) {
      this.#note(
        at,
        `make sure that the server listens on 127.0.0.1 only (${ANNOTATION_PREFIX}listen-env sets it); else anybody in the cluster walks around the sidecar`,
      )
      return
    }
    const value = socketEnv === undefined ? '127.0.0.1' : upstream.slice('unix:'.length)
    this.#recorder.ensure([...at, 'env'], 'list')
    this.#recorder.set([...at, 'env', variable], { name: variable, value })
    this.#change([...at, 'env', variable], `set to ${value}, so that only this pod reaches the server`)
    if (socketEnv === undefined) return
    this.#recorder.ensure([...at, 'volumeMounts'], 'list')
    this.#recorder.set([...at, 'volumeMounts', SOCKET_VOLUME], { name: SOCKET_VOLUME, mountPath: SOCKET_DIRECTORY })
    this.#change([...at, 'volumeMounts', SOCKET_VOLUME], `mounted at ${SOCKET_DIRECTORY} for the server's socket`)
    this.#note(at, 'the server must let uid 1001 connect to its socket (mode 0666, or a group that both have)')
  }

  #keepServerForLameDuck(container: JsonObject, name: string): void {
    const { appPreStop, lameDuckSeconds, mode } = this.#options
    const at = ['spec', 'containers', name, 'lifecycle']
    const preStop = objectAt(objectAt(container, 'lifecycle') ?? {}, 'preStop')
    if (preStop) {
      if (objectAt(preStop, 'httpGet') || objectAt(preStop, 'tcpSocket')) {
        this.#warn(
          [...at, 'preStop'],
          "calls the server on the pod's own address; when the server listens on the loopback only, use exec",
        )
      }
      this.#note(
        [...at, 'preStop'],
        `left as it is; it should take at least ${lameDuckSeconds} s, or calls that arrive while the pod leaves the Service find no server`,
      )
      return
    }
    if (appPreStop === 'none' || this.#workload.finishes || lameDuckSeconds === 0) return
    const kind = appPreStop === 'auto' ? (mode === 'native' ? 'sleep' : 'exec') : appPreStop
    const hook: JsonObject =
      kind === 'sleep'
        ? { sleep: { seconds: lameDuckSeconds } }
        : { exec: { command: ['sleep', String(lameDuckSeconds)] } }
    this.#recorder.ensure(at, 'map')
    this.#recorder.set([...at, 'preStop'], hook)
    this.#change(
      [...at, 'preStop'],
      `waits ${lameDuckSeconds} s, so that the server outlives the pod's way out of the Service${kind === 'sleep' ? ' (Kubernetes 1.30 or later; before that --app-prestop exec)' : ''}`,
    )
  }

  #addSidecar(input: SidecarInput, port: number): void {
    const { mode, listenPort, adminPort, connections, image } = this.#options
    const list = mode === 'native' ? 'initContainers' : 'containers'
    this.#recorder.ensure(['spec', list], 'list')
    const containers = valueAt(this.#template, ['spec', list]) as JsonValue[]
    // Last: other init containers do not wait for it, and of all sidecars it is the first that the kubelet stops.
    containers.push(sidecarContainer(input))
    this.#change(
      ['spec', list, SIDECAR],
      `added as a ${mode} sidecar: ${image}, mTLS on ${listenPort}, probes and metrics on ${adminPort}, in front of ${input.upstream}${input.upstream.startsWith('unix:') ? ` (instead of port ${port})` : ''}`,
    )
    if (this.#options.memoryLimit === undefined) {
      this.#note(
        ['spec', list, SIDECAR, 'resources'],
        `memory limit ${memoryMiBFor(connections)}Mi, for ${connections} connections`,
      )
    }
    this.#recorder.ensure(['spec', 'volumes'], 'list')
    const volumes = valueAt(this.#template, ['spec', 'volumes']) as JsonValue[]
    const added = sidecarVolumes(input)
    volumes.push(...added)
    this.#change(['spec', 'volumes'], `added: ${added.map(volume => textAt(volume, 'name')).join(', ')}`)
  }

  #leaveTimeToDrain(): void {
    if (this.#workload.finishes) return
    const at = ['spec', 'terminationGracePeriodSeconds']
    const now = valueAt(this.#template, at)
    const want = this.#options.lameDuckSeconds + this.#options.graceSeconds + 5
    if (typeof now === 'number' ? now >= want : want <= 30) return
    this.#recorder.set(at, want)
    this.#change(
      at,
      `${typeof now === 'number' ? now : '30 (the default)'} → ${want}: lame duck ${this.#options.lameDuckSeconds} s, drain ${this.#options.graceSeconds} s, and 5 s to spare`,
    )
  }

  #needThings(certificate: string): void {
    const place = this.#workload.namespace === undefined ? {} : { namespace: this.#workload.namespace }
    this.needs.push(
      {
        kind: 'Secret',
        name: certificate,
        ...place,
        keys: ['tls.crt', 'tls.key'],
        purpose: 'server certificate and key',
      },
      {
        kind: 'ConfigMap',
        name: this.#options.trust,
        ...place,
        keys: ['ca.crt'],
        purpose: 'CA of the clients (the gateway)',
      },
      {
        kind: 'ConfigMap',
        name: this.#options.config,
        ...place,
        keys: ['config.yaml'],
        purpose:
          'configuration and policy; it takes the addresses from ${MCP_SIDECAR_UPSTREAM}, ${MCP_SIDECAR_LISTEN} and ${MCP_SIDECAR_ADMIN}',
      },
    )
  }

  #say(level: Change['level'], at: readonly string[], message: string): void {
    const { object, path } = this.#workload
    this.changes.push({ object, path: pathText(path, at, this.#template), level, message })
  }
  #change(at: readonly string[], message: string): void {
    this.#say('change', at, message)
  }
  #note(at: readonly string[], message: string): void {
    this.#say('note', at, message)
  }
  #warn(at: readonly string[], message: string): void {
    this.#say('warning', at, message)
  }
  #problem(at: readonly string[], message: string): void {
    const { object, path } = this.#workload
    this.problems.push({ object, path: pathText(path, at, this.#template), message })
  }
}

/** True when a pod template has a container of the sidecar's name, native or classic. */
function findSidecar(template: JsonObject): boolean {
  const spec = objectAt(template, 'spec') ?? {}
  return ['initContainers', 'containers'].some(list =>
    objectsAt(spec, list).some(container => own(container, 'name') === SIDECAR),
  )
}

import type { JsonObject } from '../json.ts'
import { ANNOTATION_PREFIX } from './options.ts'
import { objectAt, objectsAt, own, textAt } from './tree.ts'

/** A pod template inside an object, with the names under which people know it. */
export interface Workload {
  /** `Deployment/shop/web`. */
  readonly object: string
  readonly kind: string
  /** Name that defaults are made from: the workload's own, or for a bare pod that of its owner. */
  readonly name: string
  readonly namespace: string | undefined
  /** The template: `metadata` and `spec` of the pods. The object itself when that is a Pod. */
  readonly template: JsonObject
  /** Path of the template, `''` for a Pod. */
  readonly path: string
  /** Its pods run to completion. */
  readonly finishes: boolean
  /** Annotations of ours on the object itself, where they would have to be on its pods: nobody reads them there. */
  readonly misplaced: readonly string[]
}

const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  Pod: [],
  Deployment: ['spec', 'template'],
  StatefulSet: ['spec', 'template'],
  DaemonSet: ['spec', 'template'],
  ReplicaSet: ['spec', 'template'],
  ReplicationController: ['spec', 'template'],
  Job: ['spec', 'template'],
  CronJob: ['spec', 'jobTemplate', 'spec', 'template'],
}

const GROUPS: Readonly<Record<string, string>> = {
  Pod: '',
  ReplicationController: '',
  Deployment: 'apps',
  StatefulSet: 'apps',
  DaemonSet: 'apps',
  ReplicaSet: 'apps',
  Job: 'batch',
  CronJob: 'batch',
}

/** The workload in an object; undefined when it is of a kind that has no pods, or of somebody else's API group. */
export function workloadOf(object: JsonObject, defaultNamespace: string | undefined): Workload | undefined {
  const kind = textAt(object, 'kind') ?? ''
  const steps = Object.hasOwn(TEMPLATES, kind) ? TEMPLATES[kind] : undefined
  if (!steps || groupOf(object) !== GROUPS[kind]) return undefined
  let template: JsonObject | undefined = object
  for (const step of steps) template = template && objectAt(template, step)
  if (!template || !objectAt(template, 'spec')) return undefined
  const spec = objectAt(template, 'spec') as JsonObject
  const restartPolicy = textAt(spec, 'restartPolicy')
  return {
    object: objectName(object, defaultNamespace),
    kind,
    name: ownerName(object),
    namespace: namespaceOf(object, defaultNamespace),
    template,
    path: steps.join('.'),
    finishes: restartPolicy === 'Never' || restartPolicy === 'OnFailure',
    misplaced: template === object ? [] : misplacedIn(object),
  }
}

/** The kustomize component selects the object by an annotation of its own, which is in its place there. */
function misplacedIn(object: JsonObject): string[] {
  const annotations = objectAt(objectAt(object, 'metadata') ?? {}, 'annotations') ?? {}
  const ours = Object.keys(annotations).filter(name => name.startsWith(ANNOTATION_PREFIX))
  return ours.filter(name => name !== `${ANNOTATION_PREFIX}component`)
}

export function groupOf(object: JsonObject): string {
  const version = textAt(object, 'apiVersion') ?? ''
  const slash = version.indexOf('/')
  return slash < 0 ? '' : version.slice(0, slash)
}

export function namespaceOf(object: JsonObject, defaultNamespace: string | undefined): string | undefined {
  return textAt(objectAt(object, 'metadata') ?? {}, 'namespace') || defaultNamespace
}

export function objectName(object: JsonObject, defaultNamespace: string | undefined): string {
  const metadata = objectAt(object, 'metadata') ?? {}
  const namespace = namespaceOf(object, defaultNamespace)
  const name = textAt(metadata, 'name') ?? textAt(metadata, 'generateName') ?? '(unnamed)'
  return `${textAt(object, 'kind') ?? '(no kind)'}/${namespace ? `${namespace}/` : ''}${name}`
}

/**
 * The name that a platform team gave, seen from one of its pods: a Deployment's pods carry only `generateName` and a
 * ReplicaSet as owner, whose name ends in the pod template's hash; a CronJob's Job ends in the scheduled minute.
 */
function ownerName(object: JsonObject): string {
  const metadata = objectAt(object, 'metadata') ?? {}
  const owner = objectsAt(metadata, 'ownerReferences').find(reference => own(reference, 'controller') === true)
  const name = textAt(metadata, 'name') || (textAt(metadata, 'generateName') ?? '').replace(/-$/, '')
  if (!owner) return name
  const ownedBy = textAt(owner, 'name') ?? name
  const hash = textAt(objectAt(metadata, 'labels') ?? {}, 'pod-template-hash')
  if (textAt(owner, 'kind') === 'ReplicaSet' && hash && ownedBy.endsWith(`-${hash}`)) {
    return ownedBy.slice(0, -hash.length - 1)
  }
  if (textAt(owner, 'kind') === 'Job') return ownedBy.replace(/-[0-9]{8,10}$/, '')
  return ownedBy
}

import type { JsonObject } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import { type Change, GENERATED, type ManifestProblem, ORIGINAL, SIDECAR } from './options.ts'
import { SIDECAR_VOLUMES } from './sidecar-container.ts'
import { isObject, objectAt, own } from './tree.ts'
import { takeBack } from './undo.ts'
import { objectName, workloadOf } from './workload.ts'

/** One object without the sidecar; `undefined` when the whole object was added by inject and goes. */
export interface ObjectRestoration {
  readonly object: JsonObject | undefined
  readonly changes: readonly Change[]
}

/** Takes an injection back: from a workload's pods, from a Service, or the whole of a generated object. */
export function uninjectObject(
  object: JsonObject,
  namespace: string | undefined,
): Result<ObjectRestoration, readonly ManifestProblem[]> {
  const name = objectName(object, namespace)
  if (isGenerated(object)) {
    return ok({
      object: undefined,
      changes: [{ object: name, path: '', level: 'change', message: 'removed: inject had added it' }],
    })
  }
  const copy = structuredClone(object)
  const workload = workloadOf(copy, namespace)
  const outcome = workload ? uninjectTemplate(workload.template) : takeBack(copy, () => undefined)
  if (outcome === 'none') return ok({ object, changes: [] })
  if (outcome === 'unreadable') {
    const path = `${workload?.path ? `${workload.path}.` : ''}metadata.annotations.${ORIGINAL}`
    return err([
      {
        object: name,
        path,
        message: 'cannot be read: take the sidecar out by hand, or start from the manifest before injection',
      },
    ])
  }
  return ok({
    object: copy,
    changes: [
      {
        object: name,
        path: workload?.path ?? '',
        level: 'change',
        message: workload
          ? 'the sidecar is taken out, and everything that inject had changed is put back'
          : 'put back as it was',
      },
    ],
  })
}

export function isGenerated(object: JsonObject): boolean {
  const annotations = objectAt(objectAt(object, 'metadata') ?? {}, 'annotations') ?? {}
  return own(annotations, GENERATED) !== undefined
}

/** Takes the sidecar out of a pod template, in place. */
export function uninjectTemplate(template: JsonObject): 'none' | 'done' | 'unreadable' {
  return takeBack(template, root => {
    const spec = objectAt(root, 'spec') ?? {}
    dropNamed(spec, 'initContainers', [SIDECAR])
    dropNamed(spec, 'containers', [SIDECAR])
    dropNamed(spec, 'volumes', SIDECAR_VOLUMES)
  })
}

function dropNamed(parent: JsonObject, key: string, names: readonly string[]): void {
  const list = own(parent, key)
  if (!Array.isArray(list)) return
  parent[key] = list.filter(element => {
    const name = isObject(element) ? own(element, 'name') : undefined
    return !(typeof name === 'string' && names.includes(name))
  })
}

import type { JsonObject, JsonValue } from '../json.ts'
import { ORIGINAL } from './options.ts'
import { isEmpty, isObject, objectAt, own, put, sameValue, setAt, valueAt } from './tree.ts'

/**
 * What was there before, in an annotation of the object itself: each step names a place, what stood there (`was`, absent
 * when nothing did) and what was put there (`is`). A step is taken back only while the place still holds what we put
 * there, so that an edit made since is kept. A step without `is` is about a list or map that we filled: it is taken back
 * when it is empty again.
 */
export interface Undo {
  v: 1
  steps: UndoStep[]
}

export interface UndoStep {
  at: string[]
  was?: JsonValue
  is?: JsonValue
}

/** Changes an object in place and remembers how to take each change back. */
export class Recorder {
  readonly root: JsonObject
  readonly steps: UndoStep[] = []

  constructor(root: JsonObject) {
    this.root = root
  }

  /** Puts `value` at a path whose parent exists; `undefined` removes what is there. */
  set(at: readonly string[], value: JsonValue | undefined): void {
    const was = valueAt(this.root, at)
    this.steps.push({
      at: [...at],
      ...(was === undefined ? {} : { was: structuredClone(was) }),
      is: value === undefined ? null : structuredClone(value),
    })
    setAt(this.root, at, value)
  }

  /** Makes sure that there is a list or a map at a path whose parent exists. */
  ensure(at: readonly string[], kind: 'list' | 'map'): void {
    const was = valueAt(this.root, at)
    if (kind === 'list' ? Array.isArray(was) : isObject(was)) {
      if (isEmpty(was)) this.steps.push({ at: [...at], was: structuredClone(was as JsonValue) })
      return
    }
    this.steps.push(was === undefined ? { at: [...at] } : { at: [...at], was: structuredClone(was) })
    setAt(this.root, at, kind === 'list' ? [] : {})
  }
}

/**
 * Takes the recorded steps back, last first, and removes the annotation.
 *
 * @param metadata  Path of the metadata that holds the annotation, from `root`.
 * @returns         False when the object was never injected, or its record cannot be read.
 */
export function takeBack(root: JsonObject, cleanUp: (root: JsonObject) => void): 'none' | 'done' | 'unreadable' {
  const annotations = valueAt(root, ['metadata', 'annotations'])
  if (!isObject(annotations)) return 'none'
  const text = own(annotations, ORIGINAL)
  if (text === undefined) return 'none'
  const undo = typeof text === 'string' ? readUndo(text) : undefined
  if (!undo) return 'unreadable'
  cleanUp(root)
  delete annotations[ORIGINAL]
  for (const step of undo.steps.toReversed()) {
    const now = valueAt(root, step.at)
    if (step.is === undefined ? isEmpty(now) : sameValue(now ?? null, step.is)) setAt(root, step.at, step.was)
  }
  return 'done'
}

/** Writes the record into the object's own annotations. */
export function keepRecord(recorder: Recorder): void {
  const { root } = recorder
  if (!isObject(own(root, 'metadata'))) recorder.ensure(['metadata'], 'map')
  recorder.ensure(['metadata', 'annotations'], 'map')
  const annotations = objectAt(objectAt(root, 'metadata') ?? {}, 'annotations')
  if (!annotations) return
  // The maps that hold the record were made last and must go last, when everything else has been put back.
  const own_ = recorder.steps.filter(step => step.at[0] === 'metadata')
  const others = recorder.steps.filter(step => step.at[0] !== 'metadata')
  put(annotations, ORIGINAL, JSON.stringify({ v: 1, steps: [...own_, ...others] } satisfies Undo))
}

function readUndo(text: string): Undo | undefined {
  try {
    const value = JSON.parse(text) as JsonValue
    if (!isObject(value) || value['v'] !== 1 || !Array.isArray(value['steps'])) return undefined
    const steps = value['steps']
    const usable = steps.every(
      step => isObject(step) && Array.isArray(step['at']) && step['at'].every(part => typeof part === 'string'),
    )
    return usable ? { v: 1, steps: steps as unknown as UndoStep[] } : undefined
  } catch {
    return undefined
  }
}

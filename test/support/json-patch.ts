import type { JsonValue } from '../../src/core/json.ts'

interface Operation {
  op: 'add' | 'replace' | 'remove'
  path: string
  value?: JsonValue
}

/** Applies a JSON patch as an API server does: every pointer must lead somewhere (RFC 6902 §4). */
export function applyPatch(document: JsonValue, operations: readonly Operation[]): JsonValue {
  const root = { value: structuredClone(document) }
  for (const { op, path, value } of operations) {
    const steps = [
      'value',
      ...path
        .split('/')
        .slice(1)
        .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~')),
    ]
    const last = steps.pop() as string
    let parent: unknown = root
    for (const step of steps) {
      parent = (parent as Record<string, unknown>)[step]
      if (typeof parent !== 'object' || parent === null) throw new Error(`${op} ${path}: doc is missing path`)
    }
    if (Array.isArray(parent)) {
      const index = last === '-' ? parent.length : Number(last)
      if (!Number.isInteger(index) || index > parent.length || (op !== 'add' && index >= parent.length)) {
        throw new Error(`${op} ${path}: no such element`)
      }
      if (op === 'add') parent.splice(index, 0, structuredClone(value))
      else if (op === 'remove') parent.splice(index, 1)
      else parent[index] = structuredClone(value)
    } else {
      const target = parent as Record<string, unknown>
      if (op !== 'add' && !Object.hasOwn(target, last)) throw new Error(`${op} ${path}: doc is missing key`)
      if (op === 'remove') delete target[last]
      else target[last] = structuredClone(value)
    }
  }
  return root.value
}

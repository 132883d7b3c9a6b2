import type { JsonObject, JsonValue } from '../json.ts'
import { elementId, isObject, own, sameValue } from './tree.ts'

export type PatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: JsonValue }
  | { readonly op: 'remove'; readonly path: string }

/**
 * The operations that make `to` of `from`, as an admission webhook answers them. Elements that both lists have stay, so
 * that the patch shows what is added and not the whole pod; a list whose order changed is replaced.
 *
 * @source  RFC 6902; pointers as in RFC 6901.
 */
export function jsonPatch(from: JsonValue, to: JsonValue): PatchOperation[] {
  const operations: PatchOperation[] = []
  differ(from, to, '', operations)
  return operations
}

function differ(from: JsonValue, to: JsonValue, path: string, out: PatchOperation[]): void {
  if (sameValue(from, to)) return
  if (isObject(from) && isObject(to)) differInMap(from, to, path, out)
  else if (Array.isArray(from) && Array.isArray(to) && isLonger(from, to)) {
    for (const [index, element] of to.entries()) {
      const before = from[index]
      if (before === undefined) out.push({ op: 'add', path: `${path}/-`, value: element })
      else differ(before, element, `${path}/${index}`, out)
    }
  } else out.push({ op: 'replace', path, value: to })
}

function differInMap(from: JsonObject, to: JsonObject, path: string, out: PatchOperation[]): void {
  for (const key of Object.keys(from)) {
    if (!Object.hasOwn(to, key)) out.push({ op: 'remove', path: `${path}/${escaped(key)}` })
  }
  for (const [key, value] of Object.entries(to)) {
    const before = own(from, key)
    if (before === undefined) out.push({ op: 'add', path: `${path}/${escaped(key)}`, value })
    else differ(before, value, `${path}/${escaped(key)}`, out)
  }
}

/** `to` is `from` with changes inside its elements and more elements at the end. */
function isLonger(from: readonly JsonValue[], to: readonly JsonValue[]): boolean {
  return from.length <= to.length && from.every((element, index) => elementId(element) === elementId(to[index]))
}

function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1')
}

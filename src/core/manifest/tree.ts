import type { JsonObject, JsonValue } from '../json.ts'

/** Small helpers over plain manifest objects. Lists are addressed by the name of their elements, never by position. */

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function objectAt(parent: JsonObject, key: string): JsonObject | undefined {
  const value = own(parent, key)
  return isObject(value) ? value : undefined
}

/** Elements of a list that are objects; what is no list has none. */
export function objectsAt(parent: JsonObject, key: string): JsonObject[] {
  const value = own(parent, key)
  return Array.isArray(value) ? value.filter(isObject) : []
}

export function textAt(parent: JsonObject, key: string): string | undefined {
  const value = own(parent, key)
  return typeof value === 'string' ? value : undefined
}

/** A key of the object itself: manifests come from anywhere and may be asked for `constructor`. */
export function own(parent: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(parent, key) ? parent[key] : undefined
}

/** Sets a key, also `__proto__`, without touching the prototype. */
export function put(parent: JsonObject, key: string, value: JsonValue): void {
  if (key === '__proto__') {
    Object.defineProperty(parent, key, { value, writable: true, enumerable: true, configurable: true })
  } else {
    parent[key] = value
  }
}

/** A copy in which no two places share an object, as those of a YAML anchor and its aliases do. */
export function unshared(value: JsonValue): JsonValue {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(unshared)
  const copy: JsonObject = {}
  for (const [key, element] of Object.entries(value)) put(copy, key, unshared(element))
  return copy
}

export function sameValue(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (a === b) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false
    return a.every((element, index) => sameValue(element, b[index]))
  }
  const keys = Object.keys(a)
  if (keys.length !== Object.keys(b).length) return false
  return keys.every(key => Object.hasOwn(b, key) && sameValue(a[key], b[key]))
}

/** What an element of a list is known by: its name, else the port number of an unnamed Service port. */
export function elementId(element: JsonValue | undefined): string | undefined {
  if (!isObject(element)) return undefined
  const name = own(element, 'name')
  if (typeof name === 'string') return name
  const port = own(element, 'port')
  return typeof port === 'number' ? String(port) : undefined
}

/** Value at a path of keys and element names; undefined when it is not there. */
export function valueAt(root: JsonValue, path: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = root
  for (const step of path) {
    if (Array.isArray(value)) value = value.find(element => elementId(element) === step)
    else if (isObject(value)) value = own(value, step)
    else return undefined
  }
  return value
}

/** Sets, or with `undefined` removes, the value at a path; a path whose parent is missing is left alone. */
export function setAt(root: JsonValue, path: readonly string[], value: JsonValue | undefined): void {
  const parent = valueAt(root, path.slice(0, -1))
  const last = path.at(-1)
  if (last === undefined || parent === undefined) return
  if (Array.isArray(parent)) {
    const index = parent.findIndex(element => elementId(element) === last)
    if (value === undefined) {
      if (index >= 0) parent.splice(index, 1)
    } else if (index >= 0) parent[index] = value
    else parent.push(value)
  } else if (isObject(parent)) {
    if (value === undefined) delete parent[last]
    else put(parent, last, value)
  }
}

export function isEmpty(value: JsonValue | undefined): boolean {
  if (value === undefined || value === null) return true
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** `spec.containers[web].env[HOST]`, for people. */
export function pathText(prefix: string, path: readonly string[], root?: JsonValue): string {
  let text = prefix
  let value: JsonValue | undefined = root
  for (const step of path) {
    if (Array.isArray(value)) text += `[${step}]`
    else text += text === '' ? step : `.${step}`
    value = value === undefined ? undefined : valueAt(value, [step])
  }
  return text
}

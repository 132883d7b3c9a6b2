import { createHmac } from 'node:crypto'
import type { JsonObject, JsonValue } from '../json.ts'

/**
 * Arguments as one keyed digest, `hmac-sha256:<hex>`: equal arguments join, whatever the order of their members, and
 * nobody without the key can try guesses against it.
 */
export function argsDigest(args: JsonObject, key: Buffer): string {
  return `hmac-sha256:${createHmac('sha256', key).update(canonicalJson(args)).digest('hex')}`
}

/**
 * JSON in the one form that equal values share.
 *
 * @param value  As `JSON.parse` returns it, so numbers are doubles and nothing is undefined.
 * @source RFC 8785 §3.2: no white space, members sorted by UTF-16 code units, numbers and strings as ECMAScript has them.
 */
export function canonicalJson(value: JsonValue): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  // The default order of `sort` is by UTF-16 code units.
  const members = Object.keys(value).sort()
  return `{${members.map(name => `${JSON.stringify(name)}:${canonicalJson(value[name] as JsonValue)}`).join(',')}}`
}

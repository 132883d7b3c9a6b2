import type { JsonObject, JsonValue } from '../core/json.ts'
import type { Loaded } from './load.ts'

/**
 * The whole configuration in force, in the words of the file, with its defaults filled in: `${NAME}` stays `${NAME}`,
 * and a password in a URL is not shown. For `GET /config` on the operations socket.
 */
export async function describeConfig(loaded: Pick<Loaded, 'written'>): Promise<JsonObject> {
  // Whoever is never asked need not hold what makes the schema.
  const { configJsonSchema } = await import('./json-schema.ts')
  return withDefaults(configJsonSchema(), loaded.written) as JsonObject
}

function withDefaults(schema: JsonObject, written: JsonValue | undefined): JsonValue | undefined {
  const value = written === undefined ? (schema['default'] as JsonValue | undefined) : written
  if (typeof value === 'string') return withoutPassword(value)
  if (Array.isArray(value)) {
    const items = schema['items'] as JsonObject | undefined
    return value.map(item => withDefaults(items ?? {}, item) ?? null)
  }
  if (typeof value !== 'object' || value === null) return value
  const branch = branchFor(schema, value)
  const properties = (branch['properties'] ?? {}) as Record<string, JsonObject>
  const described: JsonObject = {}
  for (const key of new Set([...Object.keys(properties), ...Object.keys(value)])) {
    const below = properties[key] ?? (branch['additionalProperties'] as JsonObject | undefined) ?? {}
    const shown = withDefaults(below, value[key])
    if (shown !== undefined) described[key] = shown
  }
  return described
}

/** Of several forms the one that has the keys which the value has, and its constants. */
function branchFor(schema: JsonObject, value: JsonObject): JsonObject {
  const branches = (schema['anyOf'] ?? schema['oneOf']) as JsonObject[] | undefined
  const fits = (branch: JsonObject) => {
    const properties = (branch['properties'] ?? {}) as Record<string, JsonObject>
    return Object.keys(value).every(key => {
      const constant = properties[key]?.['const']
      return properties[key] !== undefined && (constant === undefined || constant === value[key])
    })
  }
  return branches?.find(fits) ?? schema
}

function withoutPassword(text: string): string {
  return text.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^@/]*@/i, (_, scheme: string) => `${scheme}***@`)
}

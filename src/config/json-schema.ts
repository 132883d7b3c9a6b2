import * as z from 'zod'
import type { JsonObject, JsonValue } from '../core/json.ts'
import { policySchema } from './policy-schema.ts'
import { configSchema } from './schema.ts'

/**
 * The JSON Schema (draft 2020-12) of the configuration file, for editors and for checks outside this program. It is
 * what may be written, not what comes of it: durations and sizes are text, and a `${NAME}` may stand for any scalar.
 */
export function configJsonSchema(): JsonObject {
  const schema = jsonSchemaOf(configSchema)
  const properties = schema['properties'] as JsonObject
  const { description, ...inline } = properties['policy'] as JsonObject
  // What the list is when it may be left out is no default for who has to write it.
  delete (properties['peers'] as JsonObject)['default']
  const external: JsonObject = {
    type: 'object',
    properties: {
      file: { type: 'string', minLength: 1, description: 'YAML file with the policy, relative to this file.' },
    },
    required: ['file'],
    additionalProperties: false,
  }
  properties['policy'] = { description: description ?? '', anyOf: [inline, external] }
  return {
    ...heading('config', 'Configuration of mcp-sidecar'),
    ...schema,
    // Only with `unsafeAnyPeer: true` may there be no peers; an editor asks for them in every other case.
    if: {
      properties: { unsafeAnyPeer: { anyOf: [{ const: true }, { $ref: '#/$defs/fromEnvironment' }] } },
      required: ['unsafeAnyPeer'],
    },
    // Some readers of schemas count the items only of what says of which kind they are.
    else: { properties: { peers: { type: 'array', items: {}, minItems: 1 } }, required: ['peers'] },
    $defs: DEFINITIONS,
  }
}

/** The same for a policy in a file of its own. */
export function policyJsonSchema(): JsonObject {
  return { ...heading('policy', 'Policy of mcp-sidecar'), ...jsonSchemaOf(policySchema), $defs: DEFINITIONS }
}

const DEFINITIONS: JsonObject = {
  fromEnvironment: {
    type: 'string',
    pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}',
    description: 'Taken from the environment: ${NAME} or ${NAME:-default}.',
  },
}

function heading(name: string, title: string): JsonObject {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: `https://mcp-sidecar.io/schema/${name}.schema.json`,
    title,
  }
}

function jsonSchemaOf(schema: z.ZodType): JsonObject {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io: 'input',
    target: 'draft-2020-12',
    reused: 'inline',
    override: ({ zodSchema, jsonSchema }) => {
      // The library leaves out defaults of what is transformed; ours are as they would be written.
      const { defaultValue } = zodSchema._zod.def as { defaultValue?: JsonValue }
      if (defaultValue !== undefined) jsonSchema.default = defaultValue
      // What may be one value or a list of them is a list only after it was read.
      const def = zodSchema._zod.def as { type: string; in?: z.core.$ZodType; out?: z.core.$ZodType }
      const isOneOrList =
        def.type === 'pipe' && def.in?._zod.def.type === 'transform' && def.out?._zod.def.type === 'array'
      if (isOneOrList && jsonSchema.items) {
        const { type, items, minItems, maxItems, ...notes } = jsonSchema
        for (const key of Object.keys(jsonSchema)) delete jsonSchema[key]
        Object.assign(jsonSchema, notes, { anyOf: [items, { type, items, minItems, maxItems }] })
      }
    },
  }) as JsonObject
  return withEnvironment(rest) as JsonObject
}

/** Lets `${NAME}` stand where a number, a truth value or a word of a list is expected; text takes it as it is. */
function withEnvironment(schema: JsonValue): JsonValue {
  if (Array.isArray(schema)) return schema.map(withEnvironment)
  if (typeof schema !== 'object' || schema === null) return schema
  const mapped: JsonObject = {}
  for (const [key, value] of Object.entries(schema)) {
    mapped[key] = key === 'default' || key === 'enum' || key === 'required' ? value : withEnvironment(value)
  }
  const isCoerced =
    ['integer', 'number', 'boolean'].some(type => mapped['type'] === type) || Array.isArray(mapped['enum'])
  if (!isCoerced) return mapped
  const { description, default: otherwise, ...constraint } = mapped
  return {
    ...(description === undefined ? {} : { description }),
    ...(otherwise === undefined ? {} : { default: otherwise }),
    anyOf: [constraint, { $ref: '#/$defs/fromEnvironment' }],
  }
}

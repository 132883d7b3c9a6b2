import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import * as z from 'zod'
import { referenceFiles } from '../../scripts/reference.ts'
import { configJsonSchema, policyJsonSchema } from '../../src/config/json-schema.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import { cli } from '../support/cli.ts'

test.each(Object.entries(referenceFiles()))(
  '%s is what the code says; `node scripts/reference.ts` writes it',
  (path, text) => {
    expect(readFileSync(path, 'utf8')).toBe(text)
  },
)

test.each(['config', 'policy', 'audit'])('`schema %s` prints the checked-in schema', async what => {
  const { code, stdout } = await cli(['schema', what])
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toEqual(JSON.parse(readFileSync(`docs/schema/${what}.schema.json`, 'utf8')))
})

describe('the schema of the configuration', () => {
  const example = parse(readFileSync('test/fixtures/config/contract.yaml', 'utf8')) as JsonObject
  // This reader of schemas leaves conditions out, so they are put together here.
  const { if: when, else: otherwise, ...schema } = configJsonSchema()
  const judge = (part: JsonValue | undefined, value: JsonValue) =>
    z.fromJSONSchema({ type: 'object', $defs: schema['$defs'], ...(part as object) } as never).safeParse(value).success
  const accepts = (value: JsonValue) => judge(schema, value) && (judge(when, value) || judge(otherwise, value))
  const least: JsonObject = { peers: [{ name: 'g', match: { cn: 'kong' } }], policy: {} }

  test.each([
    { name: "the contract's example", value: example },
    { name: 'the least configuration', value: least },
    { name: 'a policy file', value: { ...least, policy: { file: 'policy.yaml' } } },
    { name: 'a number from the environment', value: { ...least, limits: { depth: '${DEPTH}' } } },
    { name: 'a duration from the environment', value: { ...least, drain: { grace: '${GRACE:-5s}' } } },
    { name: 'one quota key, or several', value: { ...least, quotas: [{ name: 'q', key: ['user', 'tool'] }] } },
  ])('accepts $name', ({ value }) => {
    expect(accepts(value as JsonValue)).toBe(true)
  })

  test.each([
    { name: 'an unknown key', value: { ...least, lisen: {} } },
    { name: 'an unknown key below', value: { ...least, tls: { cart: 'x' } } },
    { name: 'a duration without unit', value: { ...least, drain: { grace: '5' } } },
    { name: 'an empty list', value: { ...least, tls: { groups: [] } } },
    { name: 'no policy', value: { peers: least['peers'] } },
    { name: 'a number that is none', value: { ...least, limits: { depth: 'deep' } } },
  ])('refuses $name', ({ value }) => {
    expect(accepts(value as JsonValue)).toBe(false)
  })

  test.each([
    { value: {} },
    { value: { policy: {} } },
    { value: { policy: {}, peers: [] } },
    { value: { policy: {}, peers: [], unsafeAnyPeer: false } },
    { value: { policy: {}, unsafeAnyPeer: true } },
    { value: { policy: {}, peers: [], unsafeAnyPeer: true } },
    { value: { policy: {}, unsafeAnyPeer: '${ANY}' } },
    { value: { unsafeAnyPeer: true } },
    { value: { peers: least['peers'] } },
    { value: least },
  ])('says of $value what `check` says', ({ value }) => {
    const checked = loadConfig(JSON.stringify(value), { path: '/etc/sidecar.json', env: { ANY: 'true' } })
    expect(accepts(value as JsonValue)).toBe(checked.ok)
  })

  test('gives no default to what must be given', () => {
    const properties = schema['properties'] as Record<string, JsonObject>
    expect([properties['peers'], properties['policy']].filter(section => section?.['default'] !== undefined)).toEqual(
      [],
    )
  })

  test.each([
    ['config', configJsonSchema()],
    ['policy', policyJsonSchema()],
  ])('every key of %s has a description', (_, whole) => {
    expect([...undescribed(whole, '')]).toEqual([])
  })
})

/** Paths of properties that say nothing to whoever writes them. */
function* undescribed(schema: JsonValue | undefined, path: string): Generator<string> {
  if (typeof schema !== 'object' || schema === null) return
  if (Array.isArray(schema)) {
    for (const item of schema) yield* undescribed(item, path)
    return
  }
  for (const [key, value] of Object.entries((schema['properties'] ?? {}) as Record<string, JsonObject>)) {
    if (!value['description']) yield `${path}.${key}`
    yield* undescribed(value, `${path}.${key}`)
  }
  for (const key of ['items', 'anyOf', 'oneOf', 'additionalProperties']) yield* undescribed(schema[key], path)
}

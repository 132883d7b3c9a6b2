import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { configJsonSchema, policyJsonSchema } from '../src/config/json-schema.ts'
import type { JsonObject, JsonValue } from '../src/core/json.ts'

/**
 * The files in docs/ that are made from the code: the JSON Schemas and the reference of every setting.
 * `node scripts/reference.ts` writes them; a test holds them to the code.
 */
export function referenceFiles(): Record<string, string> {
  return {
    'docs/schema/config.schema.json': json(configJsonSchema()),
    'docs/schema/policy.schema.json': json(policyJsonSchema()),
    'docs/configuration.md': configurationPage(),
  }
}

function configurationPage(): string {
  const schema = configJsonSchema()
  const sections = Object.entries(schema['properties'] as Record<string, JsonObject>).map(([name, section]) => {
    const heading = `## ${name}${RELOADED.has(name) ? ' †' : ''}`
    const rows = rowsOf(section, '')
    const own = rows.length === 0 ? `\n\n${kindOf(section)}${defaultOf(section, ', default ')}.` : ''
    const table =
      rows.length === 0 ? '' : `\n\n| key | value | default | meaning |\n|---|---|---|---|\n${rows.join('\n')}`
    return `${heading}\n\n${plain(section['description'])}${own}${table}`
  })
  return `${INTRODUCTION}\n${sections.join('\n\n')}\n`
}

/** Sections whose change is taken over while the sidecar runs. */
const RELOADED = new Set(['tls', 'peers', 'unsafeAnyPeer', 'identity', 'policy', 'quotas', 'quotaHeaders', 'audit'])

const INTRODUCTION = `# Configuration

One YAML (or JSON) file, named by \`--config\` or \`MCP_SIDECAR_CONFIG\`. This page is made from the schema in the code
(\`node scripts/reference.ts\`); \`mcp-sidecar schema config\` prints it for editors, and
\`mcp-sidecar check --config FILE\` tells every mistake with its path and line before it matters.

The least that works names one peer and a policy (this one lets nobody call anything but the handshake and the lists):

\`\`\`yaml
peers:
  - name: gateway
    match: { uri: "spiffe://example.org/ns/gateway/sa/kong" }
policy: {}
\`\`\`

- **Unknown keys are errors**, and so are empty lists, where the two could be told apart by nobody: leave the key out.
  Where the table gives \`[]\` as default of \`hosts\`, \`origins\` or \`pass\`, an empty list may be written.
- **Durations and sizes carry a unit**: \`250ms\`, \`2s\`, \`5m\`, \`1h\`, \`1d\`; \`512B\`, \`15KiB\`, \`4MiB\`, \`1GiB\`.
- **\`\${NAME}\` and \`\${NAME:-default}\`** are replaced inside values after the file was parsed, so nothing in the
  environment can change its structure; numbers and truth values are read from the text. A variable that is not set is
  an error, the default stands in for an empty one too. Inside \`{ }\` and \`[ ]\` quotes are needed: \`"\${NAME}"\`.
  \`$\${\` is a \`\${\` that is meant as it is. Messages, logs and \`GET /config\` show \`\${NAME}\`, never the value.
- **Relative file names** are relative to the folder of the configuration file.
- **† is taken over while the sidecar runs**, when the file changes, on SIGHUP and with \`mcp-sidecar reload\`. A file
  that is wrong changes nothing: the last good configuration serves on, and says so. The rest needs a restart.
- **Patterns.** In methods, tools, prompts, users, orgs, roles, scopes and e-mail addresses \`*\` is any run of
  characters. In peer URIs, DNS names and resource URIs \`*\` stays within a segment and \`**\` crosses. There is no escape.
- What would quietly open the door must be written down: \`unsafeAnyPeer: true\` for a peer entry that any certificate
  of the client CA matches, \`unsafeRemote: true\` for an upstream that is not on loopback.
`

/** One row for each key that holds a value, nested keys with their path. */
function rowsOf(schema: JsonObject, path: string): string[] {
  const form = mapForm(schema)
  const item = schema['type'] === 'array' ? mapForm(schema['items'] as JsonObject) : undefined
  const properties = (form ?? item)?.['properties'] as Record<string, JsonObject> | undefined
  const required = ((form ?? item)?.['required'] ?? []) as string[]
  if (properties === undefined) {
    const named = schema['additionalProperties']
    if (typeof named === 'object' && mapForm(named as JsonObject)) return rowsOf(named as JsonObject, `${path}.*`)
    const variants = (schema['oneOf'] as JsonObject[] | undefined) ?? []
    return variants.flatMap(variant => {
      const { kind } = variant['properties'] as Record<string, JsonObject>
      return rowsOf(variant, path).map(row => row.replace('| `kind`', `| \`kind: ${plain(kind?.['const'])}\``))
    })
  }
  const prefix = path === '' ? '' : item ? `${path}[].` : `${path}.`
  return Object.entries(properties).flatMap(([key, below]) => {
    const here = `${item && path === '' ? '[].' : prefix}${key}`
    const nested = rowsOf(below, here)
    if (nested.length > 0) return nested
    const isNeeded = required.includes(key)
    const meaning = plain(below['description']).replaceAll('|', '\\|')
    return [`| \`${here}\` | ${kindOf(below)} | ${isNeeded ? '**needed**' : defaultOf(below, '')} | ${meaning} |`]
  })
}

/** The form of a value that is a map with known keys; of several the one with the most. */
function mapForm(schema: JsonObject | undefined): JsonObject | undefined {
  if (schema?.['properties']) return schema
  const forms = (schema?.['anyOf'] as JsonObject[] | undefined) ?? []
  const maps = forms.filter(form => form['properties'])
  return maps.sort((a, b) => count(b) - count(a))[0]
}

function count(schema: JsonObject): number {
  return Object.keys(schema['properties'] as JsonObject).length
}

function kindOf(schema: JsonObject): string {
  const forms = ((schema['anyOf'] as JsonObject[] | undefined) ?? []).filter(form => form['$ref'] === undefined)
  if (forms.length > 0)
    return forms
      .map(kindOf)
      .filter((kind, at, all) => all.indexOf(kind) === at)
      .join(' or ')
  if (Array.isArray(schema['enum'])) return (schema['enum'] as string[]).map(word => `\`${word}\``).join(', ')
  if (schema['const'] !== undefined) return `\`${plain(schema['const'])}\``
  const pattern = plain(schema['pattern'])
  if (pattern.includes('(ms|s|m|h|d)')) return 'duration'
  if (pattern.includes('(B|KiB|MiB|GiB)')) return 'size'
  switch (schema['type']) {
    case 'array':
      return `list of ${kindOf((schema['items'] ?? {}) as JsonObject)}`
    case 'object':
      return `map of ${kindOf((schema['additionalProperties'] ?? {}) as JsonObject)} by pattern`
    case 'boolean':
      return '`true`, `false`'
    case 'integer':
      return `number from ${plain(schema['minimum'])} to ${plain(schema['maximum'])}`
    case 'null':
      return '`null`'
    case 'string':
      return 'text'
    case 'number':
      return 'number'
    default:
      return 'any'
  }
}

function defaultOf(schema: JsonObject, lead: string): string {
  const value = schema['default']
  return value === undefined ? '' : `${lead}${code(value)}`
}

function code(value: JsonValue): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value).replaceAll(',', ', ')
  return `\`${text}\``
}

/** A word or number of the schema as it is read; nothing when it is not there. */
function plain(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value)
}

function json(value: JsonValue): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const [path, text] of Object.entries(referenceFiles())) {
    const file = resolve(import.meta.dirname, '..', path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
}

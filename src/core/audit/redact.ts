import type { AuditConfig } from '../../config/config.ts'
import { compileGlob } from '../glob.ts'
import type { JsonObject, JsonValue } from '../json.ts'
import { ownText } from '../own-text.ts'
import type { AsciiJson } from './ascii-json.ts'
import { compileSecretKeys } from './secret-keys.ts'
import { compileSecretText, type SecretText } from './secret-text.ts'

/** What may be written of things that a caller controls; compiled once for a configuration. */
export interface Redactor {
  /** Free text without secrets, as a JSON string of at most `maxBytes` (at least 8). */
  text(text: string, maxBytes: number, out: AsciiJson): string
  /** The same for the fields that say who the user is: their e-mail address is not a secret there. */
  identity(text: string, maxBytes: number, out: AsciiJson): string
  /**
   * Arguments as JSON of at most `maxBytes` (at least 16): names and values without secrets, bounded in depth and size;
   * `out.truncated` says whether something was left out for its size.
   */
  args(args: JsonObject, tool: string | undefined, maxBytes: number, out: AsciiJson): string
  /** Only the arguments that `audit.allow` names for the tool, as they are; undefined when there are none. */
  allowedArgs(args: JsonObject, tool: string | undefined, maxBytes: number, out: AsciiJson): string | undefined
  /** A copy of any value without secrets, for the operational log. */
  value(value: unknown): unknown
}

/** Longest text that is kept of one argument. */
const MAX_TEXT = 1024
const MAX_NAME = 128
/** An escaped character takes at most six. */
const LONGEST_KNOWN_NAME = Math.floor((MAX_NAME - 3) / 6)
const MAX_KNOWN_NAMES = 2048
const MAX_MEMBERS = 128
const MAX_DEPTH = 8
/** Shortest room in which a member is begun: a short name, a colon and a marker. */
const LEAST_ROOM = 40
const REDACTED = '"[redacted]"'

interface WrittenName {
  /** `"query":` */
  readonly shown: string
  readonly isSecret: boolean
}

export function compileRedactor(config: AuditConfig): Redactor {
  const keys = compileSecretKeys(config.redact.keys)
  const secrets = compileSecretText(config.redact.patterns, keys)
  const identitySecrets = compileSecretText(
    config.redact.patterns.filter(pattern => pattern !== 'email'),
    keys,
  )
  const hidesCards = config.redact.patterns.includes('card')
  const allowances = compileAllowances(config.allow)

  const writtenNames = new Map<string, WrittenName>()
  // The walk is synchronous and never enters itself, so its state needs no object for each call.
  let left = 0
  let out: AsciiJson

  function writeText(text: string): string {
    const max = Math.min(MAX_TEXT + 2, left)
    const json = jsonOf(secrets, text, max, out)
    left -= json.length
    return json
  }

  function writeValue(value: JsonValue, depth: number): string {
    if (typeof value === 'string') return writeText(value)
    if (value === null || typeof value !== 'object') {
      if (typeof value === 'number' && hidesCards && Math.abs(value) >= 1e12) return writeText(String(value))
      const json = typeof value === 'number' && !Number.isFinite(value) ? 'null' : String(value)
      left -= json.length
      return json
    }
    if (depth >= MAX_DEPTH) {
      out.truncated = true
      return writeText('[deep]')
    }
    left -= 2
    return Array.isArray(value) ? writeArray(value, depth) : writeObject(value, depth)
  }

  function writeArray(items: readonly JsonValue[], depth: number): string {
    let json = '['
    let previous: JsonValue = null
    for (let i = 0; i < items.length; i++) {
      if (left < LEAST_ROOM || i >= MAX_MEMBERS) {
        out.truncated = true
        break
      }
      const item = items[i] as JsonValue
      if (i > 0) json += ','
      left -= 1
      // `["--password", "hunter2"]` and `["Authorization", "…"]`: the name stands before the value.
      if (typeof previous === 'string' && announces(previous) && (typeof item !== 'string' || !announces(item))) {
        json += REDACTED
        left -= REDACTED.length
      } else json += writeValue(item, depth + 1)
      previous = item
    }
    return `${json}]`
  }

  function writeObject(object: JsonObject, depth: number): string {
    let json = '{'
    let members = 0
    const names = Object.keys(object)
    const hidesValue = namesSecret(object, names)
    for (const name of names) {
      if (left < LEAST_ROOM || members >= MAX_MEMBERS) {
        out.truncated = true
        break
      }
      if (members++ > 0) json += ','
      const { shown, isSecret } = writtenName(name)
      json += shown
      left -= shown.length + 1
      if (isSecret || (hidesValue && hidesValue.test(name))) {
        json += REDACTED
        left -= REDACTED.length
      } else json += writeValue(object[name] as JsonValue, depth + 1)
    }
    return `${json}}`
  }

  /** A name as it stands before its value: tools are called with the same few names again and again. */
  function writtenName(name: string): WrittenName {
    const max = Math.min(MAX_NAME, left - 18)
    const known = writtenNames.get(name)
    if (known !== undefined && known.shown.length <= max) return known
    const shown = `${jsonOf(secrets, name, max, out)}:`
    const written = { shown, isSecret: keys.matches(name) }
    // One that may have been cut for want of room is not the same the next time.
    if (known === undefined && max === MAX_NAME && name.length <= LONGEST_KNOWN_NAME) {
      if (writtenNames.size >= MAX_KNOWN_NAMES) writtenNames.clear()
      writtenNames.set(ownText(name), written)
    }
    return written
  }

  /** `{ "name": "Authorization", "value": "…" }`, and the private members of a JSON Web Key. */
  function namesSecret(object: JsonObject, names: readonly string[]): RegExp | undefined {
    let hides: RegExp | undefined
    for (const label of names) {
      if (label.length > LONGEST_LABEL) continue
      if (NAME_MEMBERS.has(label)) {
        const name = object[label]
        if (typeof name === 'string' && name.length <= MAX_NAME && keys.matches(name)) return VALUE_MEMBER
      } else if (label === 'kty' && typeof object.kty === 'string') hides = JWK_PRIVATE_MEMBER
    }
    return hides
  }

  function announces(text: string): boolean {
    return text.length <= 64 && NAME_ALONE.test(text) && keys.matches(text)
  }

  function begin(args: JsonObject, maxBytes: number, into: AsciiJson): string {
    left = maxBytes - 2
    out = into
    return writeObject(args, 0)
  }

  return {
    text: (text, maxBytes, into) => jsonOf(secrets, text, maxBytes, into),
    identity: (text, maxBytes, into) => jsonOf(identitySecrets, text, maxBytes, into),
    args(args, tool, maxBytes, into) {
      const allowed = tool === undefined ? undefined : allowances(tool)
      if (allowed === undefined) return begin(args, maxBytes, into)
      const plain = pick(args, name => allowed.has(name))
      const rest = pick(args, name => !allowed.has(name))
      const shown = boundedJson(plain, maxBytes, into)
      const hidden = begin(rest, maxBytes - shown.length, into)
      if (shown === '{}') return hidden
      return hidden === '{}' ? shown : `${shown.slice(0, -1)},${hidden.slice(1)}`
    },
    allowedArgs(args, tool, maxBytes, into) {
      const allowed = tool === undefined ? undefined : allowances(tool)
      if (allowed === undefined) return undefined
      const plain = pick(args, name => allowed.has(name))
      return Object.keys(plain).length === 0 ? undefined : boundedJson(plain, maxBytes, into)
    },
    value: value => copyWithoutSecrets(value, 0),
  }

  function copyWithoutSecrets(value: unknown, depth: number): unknown {
    if (typeof value === 'string') return secrets.clean(value, MAX_TEXT)
    if (value instanceof Error) {
      return {
        type: value.name,
        message: secrets.clean(value.message, MAX_TEXT),
        stack: secrets.clean(value.stack ?? '', 4096),
      }
    }
    if (value === null || typeof value !== 'object') return typeof value === 'bigint' ? String(value) : value
    if (depth >= MAX_DEPTH) return '[deep]'
    if (Array.isArray(value)) return value.slice(0, MAX_MEMBERS).map(item => copyWithoutSecrets(item, depth + 1))
    const copy: Record<string, unknown> = {}
    for (const [name, member] of Object.entries(value).slice(0, MAX_MEMBERS)) {
      copy[secrets.clean(name, MAX_NAME)] = keys.matches(name) ? '[redacted]' : copyWithoutSecrets(member, depth + 1)
    }
    return copy
  }
}

/** A text without its secrets as a JSON string; one that was cut says so in `out.truncated`. */
function jsonOf(secrets: SecretText, text: string, maxBytes: number, out: AsciiJson): string {
  if (text.length + 2 > maxBytes) {
    if (text.length > maxBytes) out.truncated = true
    return out.string(secrets.clean(text, maxBytes), maxBytes)
  }
  const look = secrets.look(text)
  if (look === 0) return `"${text}"`
  return out.string(look === 1 ? text : secrets.clean(text, maxBytes), maxBytes)
}

const NAME_MEMBERS: ReadonlySet<string> = new Set(['name', 'key', 'header', 'field'])
const LONGEST_LABEL = 'header'.length
const VALUE_MEMBER = /^(?:values?|content|data|text)$/i
const JWK_PRIVATE_MEMBER = /^(?:d|p|q|dp|dq|qi|k|oth)$/
const NAME_ALONE = /^[-\w.]+:?$/

/** What `audit.allow` lists for a tool: the sets are found once for each tool name and kept, up to a bound. */
function compileAllowances(allow: AuditConfig['allow']): (tool: string) => ReadonlySet<string> | undefined {
  const compiled = allow.map(({ tool, args }) => ({ matches: compileGlob(tool), args }))
  const known = new Map<string, ReadonlySet<string> | undefined>()
  return tool => {
    if (allow.length === 0) return undefined
    if (known.has(tool)) return known.get(tool)
    const names = compiled.filter(entry => entry.matches(tool)).flatMap(entry => entry.args)
    const allowed = names.length === 0 ? undefined : new Set(names)
    if (known.size >= 1024) known.clear()
    known.set(tool, allowed)
    return allowed
  }
}

function pick(args: JsonObject, wanted: (name: string) => boolean): JsonObject {
  return Object.fromEntries(Object.entries(args).filter(([name]) => wanted(name)))
}

/** As it is when it fits; members that do not fit are left out. */
function boundedJson(object: JsonObject, maxBytes: number, out: AsciiJson): string {
  let json = ''
  let left = maxBytes - 2
  for (const [name, value] of Object.entries(object)) {
    const member = `${asciiOf(name)}:${asciiOf(value)}`
    if (member.length + 1 > left) {
      out.truncated = true
      continue
    }
    json += json === '' ? member : `,${member}`
    left -= member.length + 1
  }
  return `{${json}}`
}

function asciiOf(value: JsonValue): string {
  return JSON.stringify(value).replace(
    /[\x7f-\uffff]/g,
    unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

import type { IdentityConfig, JwtConfig } from '../../config/config.ts'
import type { JsonObject, JsonValue } from '../json.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import type { ArrivalHeaders } from './arrival-headers.ts'

/** A user as claimed by headers or by a token, before it is held against what the peer may assert. */
export interface ClaimedUser {
  readonly id: string
  readonly org: string | undefined
  readonly email: string | undefined
  readonly scopes: readonly string[]
  readonly roles: readonly string[]
}

/**
 * Reads the user that the peer forwards. Values are printable ASCII of at most 256 characters; id, organisation and
 * e-mail hold no comma, because that is how proxies join a repeated line into one. Scopes and roles are lists, with
 * spaces or commas between.
 *
 * @returns undefined when no user id is forwarded; whatever else is forwarded then speaks of nobody and is not read.
 * @refuses `user_header_invalid`
 */
export function userFromHeaders(
  headers: ArrivalHeaders,
  names: IdentityConfig['forward'],
): Result<ClaimedUser | undefined, Refusal> {
  const { user: id, org, email } = headers
  if (id === undefined) return NOBODY
  if (!WORD.test(id)) return invalidHeader(names.user, id)
  if (org !== undefined && !WORD.test(org)) return invalidHeader(names.org, org)
  if (email !== undefined && !WORD.test(email)) return invalidHeader(names.email, email)
  const scopes = headers.scopes === undefined ? NONE : readList(headers.scopes)
  if (scopes === undefined) return invalidHeader(names.scopes, headers.scopes as string)
  const roles = headers.roles === undefined ? NONE : readList(headers.roles)
  if (roles === undefined) return invalidHeader(names.roles, headers.roles as string)
  return ok({ id, org, email, scopes, roles })
}

/**
 * Maps the claims of a verified token. Each field is taken from the first claim on its list that is there; a dotted
 * name that is not itself a claim is a path (`realm_access.roles`). Lists may be arrays or text with spaces between.
 *
 * @returns The user, or in words what is missing or not acceptable.
 */
export function userFromClaims(claims: JsonObject, mapping: JwtConfig['claims']): Result<ClaimedUser, string> {
  const id = readText(claims, mapping.user)
  if (!id.ok) return id
  if (id.value === undefined) return err(`no claim ${mapping.user.join(' or ')} names a user`)
  const org = readText(claims, mapping.org)
  if (!org.ok) return org
  const email = readText(claims, mapping.email)
  if (!email.ok) return email
  const scopes = readItems(claims, mapping.scopes)
  if (!scopes.ok) return scopes
  const roles = readItems(claims, mapping.roles)
  if (!roles.ok) return roles
  return ok({ id: id.value, org: org.value, email: email.value, scopes: scopes.value, roles: roles.value })
}

/**
 * A value of a token as it stands in a header: UTF-8 bytes outside printable ASCII, spaces, commas and `%` itself are
 * percent-encoded, so that no two values look alike and none can be taken for a list of two.
 */
export function encodeForHeader(value: string): string {
  return PLAIN.test(value) ? value : encodeBytes(value)
}

const NOBODY = ok(undefined)
const NONE: readonly string[] = []
const MAX_ITEMS = 256
const MAX_LENGTH = 256
/** Printable ASCII without the comma. */
const WORD = /^[\x20-\x2b\x2d-\x7e]{1,256}$/
const PLAIN = /^[\x21-\x24\x26-\x2b\x2d-\x7e]*$/
// oxlint-disable-next-line no-control-regex -- these are what is looked for
const CONTROLS = /[\0-\x1f\x7f-\x9f\u2028\u2029]/

function invalidHeader(header: string, value: string): Result<never, Refusal> {
  let detail = 'only printable ASCII can be passed on'
  if (value.length > MAX_LENGTH && !NOT_PRINTABLE.test(value))
    detail = `longer than ${MAX_LENGTH} characters or ${MAX_ITEMS} items`
  else if (value.includes(',') && !NOT_PRINTABLE.test(value)) detail = 'a comma means that lines were joined'
  return err({ reason: 'user_header_invalid', header, detail })
}

const NOT_PRINTABLE = /[^\x20-\x7e]/

/** Undefined when a character or the size is not acceptable. Repeats are left out; the order is kept. */
function readList(text: string): readonly string[] | undefined {
  if (NOT_PRINTABLE.test(text)) return undefined
  const items: string[] = []
  let from = -1
  for (let at = 0; at <= text.length; at++) {
    const code = at === text.length ? SPACE : text.charCodeAt(at)
    if (code !== SPACE && code !== COMMA) {
      if (from < 0) from = at
    } else if (from >= 0) {
      if (at - from > MAX_LENGTH || items.length === MAX_ITEMS) return undefined
      const item = text.slice(from, at)
      if (!items.includes(item)) items.push(item)
      from = -1
    }
  }
  return items
}

const SPACE = 0x20
const COMMA = 0x2c

function readText(claims: JsonObject, names: readonly string[]): Result<string | undefined, string> {
  for (const name of names) {
    const value = readClaim(claims, name)
    if (value === undefined || value === null || value === '') continue
    if (typeof value !== 'string') return err(`claim ${name} is not a string`)
    if (!isAcceptable(value)) return err(`claim ${name} is too long or has control characters`)
    return ok(value)
  }
  return ok(undefined)
}

function readItems(claims: JsonObject, names: readonly string[]): Result<readonly string[], string> {
  for (const name of names) {
    const value = readClaim(claims, name)
    if (value === undefined || value === null) continue
    const items = typeof value === 'string' ? value.split(' ').filter(item => item !== '') : value
    if (!Array.isArray(items)) return err(`claim ${name} is neither a list nor a string`)
    if (items.length > MAX_ITEMS) return err(`claim ${name} has more than ${MAX_ITEMS} items`)
    const unique = new Set<string>()
    for (const item of items) {
      if (typeof item !== 'string') return err(`claim ${name} has an item that is not a string`)
      if (!isAcceptable(item)) return err(`claim ${name} has an item that is too long or has control characters`)
      if (item !== '') unique.add(item)
    }
    return ok([...unique])
  }
  return ok(NONE)
}

function isAcceptable(value: string): boolean {
  return value.length <= MAX_LENGTH && value.isWellFormed() && !CONTROLS.test(value)
}

function readClaim(claims: JsonObject, name: string): JsonValue | undefined {
  if (Object.hasOwn(claims, name)) return claims[name]
  if (!name.includes('.')) return undefined
  let value: JsonValue | undefined = claims
  for (const step of name.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value) || !Object.hasOwn(value, step))
      return undefined
    value = value[step]
  }
  return value
}

function encodeBytes(value: string): string {
  let out = ''
  for (const byte of Buffer.from(value, 'utf8')) {
    const char = String.fromCharCode(byte)
    out += byte < 0x80 && PLAIN.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}

/**
 * Folds a header name as the least careful backend would: lower case, and every character that is neither a letter nor
 * a digit becomes `-`. Two names that fold alike are one name to somebody behind the sidecar: CGI and WSGI servers
 * write `-` as `_`, PHP does the same with `.` and space, Apache with every other token character.
 *
 * `X_User.ID`, `x-user-id` and `X~USER~ID` all fold onto `x-user-id`.
 *
 * @source RFC 3875 §4.1.18; facts of oauth2-proxy CVE-2025-64484 (`_`) and Traefik GHSA-x677-9fxg-v5c5 (`.`).
 */
export function foldName(name: string): string {
  return name.toLowerCase().replace(NEITHER_LETTER_NOR_DIGIT, '-')
}

/** Whether a name is what HTTP allows as one: a token. */
export function isToken(name: string): boolean {
  return TOKEN.test(name)
}

/** A value without the space and tab around it: what HTTP calls white space, not the other characters that `trim` takes. */
export function trimBlank(value: string): string {
  let from = 0
  let to = value.length
  while (from < to && isBlank(value.charCodeAt(from))) from++
  while (to > from && isBlank(value.charCodeAt(to - 1))) to--
  return to - from === value.length ? value : value.slice(from, to)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

const NEITHER_LETTER_NOR_DIGIT = /[^a-z0-9]/g
/** @source RFC 9110 §5.6.2 */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

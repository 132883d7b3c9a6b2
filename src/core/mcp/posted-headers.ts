import type { Refusal } from '../refusal.ts'

/** What the header lines of a request say about the MCP message in it; undefined where there is no such line. */
export interface PostedHeaders {
  readonly contentType: string | undefined
  readonly contentEncoding: string | undefined
  /** `MCP-Protocol-Version`. */
  readonly protocolVersion: string | undefined
  /** `Mcp-Method`. */
  readonly method: string | undefined
  /** `Mcp-Name`, decoded when it came in the base64 form. */
  readonly name: string | undefined
  /** `Mcp-Session-Id`. */
  readonly sessionId: string | undefined
  readonly lastEventId: string | undefined
  /** The first thing wrong with these lines; `readPosted` refuses with it, others must look at it themselves. */
  readonly problem: Refusal | undefined
}

/**
 * Reads them from the raw lines, because a parsed map has already dropped or joined what is repeated.
 *
 * @param rawHeaders  `[name, value, name, value, …]` as Node's `rawHeaders` has them.
 * @source            MCP 2026-07-28 transports (standard headers, SEP-2243); RFC 9110 §5.5 (white space around values).
 */
export function readPostedHeaders(rawHeaders: readonly string[]): PostedHeaders {
  const lines = new Lines()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    // Everything of interest begins with one of three letters: most lines are done with here.
    const first = name.charCodeAt(0) | 0x20
    if (first === 0x6d || first === 0x63 || first === 0x6c) lines.read(name, rawHeaders[i + 1]!)
  }
  lines.finish()
  return lines
}

/** Most `Mcp-Param-*` lines of a request, and their longest names and values together; they are passed on unread. */
const MOST_PARAMS = 64
const PARAM_BYTES = 16 * 1024

type Field = Exclude<keyof PostedHeaders, 'problem'>

const FIELDS: ReadonlyMap<string, Field> = new Map([
  ['content-type', 'contentType'],
  ['content-encoding', 'contentEncoding'],
  ['mcp-protocol-version', 'protocolVersion'],
  ['mcp-method', 'method'],
  ['mcp-name', 'name'],
  ['mcp-session-id', 'sessionId'],
  ['last-event-id', 'lastEventId'],
])

/** As they are called in answers. */
const NAMES: Readonly<Record<Field, string>> = {
  contentType: 'Content-Type',
  contentEncoding: 'Content-Encoding',
  protocolVersion: 'MCP-Protocol-Version',
  method: 'Mcp-Method',
  name: 'Mcp-Name',
  sessionId: 'Mcp-Session-Id',
  lastEventId: 'Last-Event-ID',
}

class Lines implements PostedHeaders {
  contentType: string | undefined
  contentEncoding: string | undefined
  protocolVersion: string | undefined
  method: string | undefined
  name: string | undefined
  sessionId: string | undefined
  lastEventId: string | undefined
  problem: Refusal | undefined
  private params: Set<string> | undefined
  private paramBytes = 0

  read(rawName: string, rawValue: string): void {
    const lower = rawName.toLowerCase()
    let field = FIELDS.get(lower)
    if (field === undefined) {
      // Backends that put headers into variables read `mcp_name` as `Mcp-Name`.
      const folded = FOLDS.test(lower) ? lower.replace(FOLDS_ALL, '-') : lower
      if (folded.startsWith('mcp-param-')) return this.param(folded, rawValue)
      if (folded === lower) return
      field = FIELDS.get(folded)
      if (field !== undefined) this.refuse(field, 'spelt in a way that folds onto it')
      return
    }
    if (this[field] !== undefined) this.refuse(field, 'repeated')
    this[field] = trim(rawValue)
  }

  finish(): void {
    if (this.protocolVersion !== undefined && !VERSION.test(this.protocolVersion))
      this.refuse('protocolVersion', 'malformed')
    if (this.method !== undefined && !VISIBLE.test(this.method)) this.refuse('method', 'malformed')
    if (this.sessionId !== undefined && !SESSION.test(this.sessionId)) this.refuse('sessionId', 'malformed')
    if (this.lastEventId !== undefined && !EVENT_ID.test(this.lastEventId)) this.refuse('lastEventId', 'malformed')
    if (this.name !== undefined) {
      const decoded = decodeHeaderValue(this.name)
      if (decoded === undefined) this.refuse('name', 'malformed')
      this.name = decoded ?? this.name
    }
  }

  private param(name: string, value: string): void {
    this.params ??= new Set()
    if (this.params.has(name)) {
      this.problem ??= {
        reason: 'message_header_mismatch',
        header: 'Mcp-Param-*',
        detail: 'a line of this kind is repeated',
      }
    }
    this.params.add(name)
    this.paramBytes += name.length + value.length
    if (this.params.size > MOST_PARAMS || this.paramBytes > PARAM_BYTES)
      this.problem ??= { reason: 'request_headers_too_large' }
  }

  private refuse(field: Field, detail: string): void {
    const header = NAMES[field]
    if (field === 'contentType') this.problem ??= { reason: 'message_media_type', detail: `${header} is ${detail}` }
    else if (field === 'contentEncoding')
      this.problem ??= { reason: 'message_encoding', detail: `${header} is ${detail}` }
    else if (field === 'sessionId' || field === 'lastEventId') {
      this.problem ??= { reason: 'request_malformed', detail: `${header} is ${detail}` }
    } else this.problem ??= { reason: 'message_header_mismatch', header, detail: `the header is ${detail}` }
  }
}

const FOLDS = /[_. ]/
const FOLDS_ALL = /[_. ]/g
const VISIBLE = /^[\x21-\x7e]{1,1024}$/
const VERSION = /^[\x21-\x7e]{1,64}$/
/** MCP 2025-11-25 transports: visible ASCII only. */
const SESSION = /^[\x21-\x7e]{1,1024}$/
const EVENT_ID = /^[\x20-\x7e\x80-\xff]{0,2048}$/

/**
 * Undoes the form in which `Mcp-Name` and `Mcp-Param-*` carry what is not plain ASCII: `=?base64?…?=`.
 *
 * @returns  The value; undefined when the base64 is not canonical, or not UTF-8, or a plain value is not plain ASCII.
 * @source   MCP 2026-07-28 transports (encoding of header values), SEP-2243.
 */
export function decodeHeaderValue(value: string): string | undefined {
  if (!value.startsWith('=?base64?') || !value.endsWith('?=') || value.length < 11) {
    return value.length <= LONGEST_VALUE && ASCII.test(value) ? value : undefined
  }
  if (value.length > LONGEST_VALUE) return undefined
  const encoded = value.slice(9, -2)
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.toString('base64') !== encoded) return undefined
  const text = bytes.toString('utf8')
  return Buffer.from(text).equals(bytes) ? text : undefined
}

const LONGEST_VALUE = 12 * 1024
const ASCII = /^[\x20-\x7e]*$/

function trim(value: string): string {
  const first = value.charCodeAt(0)
  const last = value.charCodeAt(value.length - 1)
  return first > 0x20 && last > 0x20 ? value : value.replace(/^[ \t]+/, '').replace(/[ \t]+$/, '')
}

/**
 * Whether a body of this media type can only be read as UTF-8 JSON.
 *
 * @returns  What is wrong with it, or undefined.
 * @source   RFC 9110 §8.3.1; RFC 8259 §8.1.
 */
export function mediaTypeProblem(contentType: string | undefined): string | undefined {
  if (contentType === 'application/json') return undefined
  if (contentType === undefined) return 'there is none'
  const match = MEDIA_TYPE.exec(contentType)
  if (match === null) return 'it is another media type, or has other parameters than charset=utf-8'
  return undefined
}

/** `charset` once, bare or quoted; an empty parameter is allowed by the grammar and means nothing. */
const MEDIA_TYPE = /^application\/json(?:[ \t]*;(?:[ \t]*charset=(?:utf-?8|"utf-?8")(?:[ \t]*;)?)?)?[ \t]*$/i

import { isUtf8 } from 'node:buffer'
import type { JsonObject, JsonValue } from '../json.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import { CLIENT_INFO_KEY, hasModernClaim, headerMismatch, isModern, isRemoved, readEra } from './era.ts'
import { foldName, LONGEST_FOLDED } from './fold.ts'
import { show } from './key-ledger.ts'
import { withLongTexts } from './long-texts.ts'
import type { Message, Posted, RpcId } from './message.ts'
import { isObject, KNOWN_METHODS, reachOf } from './objects.ts'
import { mediaTypeProblem, type PostedHeaders } from './posted-headers.ts'
import { DEEPEST, type Scan, scanStrict } from './strict-json.ts'

export interface ReadLimits {
  readonly depth: number
  /** Most elements of a legacy batch; 0 refuses every batch. */
  readonly batch: number
  /** Most members of all objects together, at most a million; 100,000 when not given. */
  readonly keys?: number
}

/** A refusal, with the id of the request when it could be read: the answer must carry it. */
export interface ReadRefusal {
  readonly refusal: Refusal
  readonly id: RpcId | undefined
}

/**
 * Reads the body of a POST: what it asks, or why nobody should act on it. The bytes that were read are the bytes that
 * go on; nothing is serialised again.
 *
 * Of a body that has many parts `args` and `params` are parsed when somebody asks, and again for the next one who does:
 * parsed they can take twenty times their bytes, and calls can be many and slow. What has few takes twice its bytes at most.
 *
 * @param bytes    The whole body; must not change afterwards.
 * @param headers  From `readPostedHeaders`; its `problem` is refused here, with the id.
 * @refuses        Every reason that begins with `message_`, and what `headers.problem` says. Never throws.
 * @source         MCP 2024-11-05 … 2026-07-28; JSON-RPC 2.0.
 */
export function readPosted(bytes: Buffer, headers: PostedHeaders, limits: ReadLimits): Result<Posted, ReadRefusal> {
  if (!isUtf8(bytes))
    return refuse(headers.problem ?? { reason: 'message_unparseable', detail: 'the body is not UTF-8' }, undefined)
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    return refuse(
      headers.problem ?? { reason: 'message_unparseable', detail: 'the body begins with a byte order mark' },
      undefined,
    )
  }
  const scan = scanStrict(bytes, {
    depth: Math.min(limits.depth, DEEPEST),
    keys: Math.min(limits.keys ?? MOST_KEYS, 1_000_000),
  })
  const around = headers.problem ?? bodyHeaderProblem(headers)
  if (around !== undefined) return refuse(around, idOf(bytes, scan))
  if (scan.problem !== undefined) return refuse(scanRefusal(scan.problem.kind, scan.problem.detail), idOf(bytes, scan))
  if (scan.isBatch && limits.batch === 0) {
    return refuse({ reason: 'message_batch_refused', detail: 'batches are not accepted (limits.batch)' }, undefined)
  }
  const isLight = scan.parts <= FEW_PARTS
  const body = parseWithout(bytes, isLight ? scan.texts : scan.large)
  if (isLight && scan.texts.length > 0) lendTexts(body as { params: { arguments: JsonObject } }, bytes, scan)
  if (Array.isArray(body)) return readBatch(bytes, body, headers, limits.batch)
  const read = readMessage(body, headers, isLight ? undefined : bytes, false)
  if (!read.ok) return refuse(read.error, idOf(bytes, scan))
  return ok({ bytes, messages: [read.value], isBatch: false })
}

const MOST_KEYS = 100_000
/** Longest id that is taken; it comes back in answers, in the audit line and in tables of pending requests. */
const LONGEST_ID = 1024
const LONGEST_METHOD = 256
/** Lists, objects and members of a body that may be kept in parsed form while its call is under way. */
const FEW_PARTS = 100

function bodyHeaderProblem(headers: PostedHeaders): Refusal | undefined {
  const media = mediaTypeProblem(headers.contentType)
  if (media !== undefined) return { reason: 'message_media_type', detail: media }
  const encoding = headers.contentEncoding
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    return { reason: 'message_encoding', detail: 'the body must not be compressed' }
  }
  return undefined
}

function scanRefusal(kind: 'syntax' | 'ambiguous' | 'limit', detail: string): Refusal {
  if (kind === 'syntax') return { reason: 'message_unparseable', detail }
  return { reason: kind === 'ambiguous' ? 'message_ambiguous' : 'message_invalid', detail }
}

/** The id for an answer, read apart from everything else; undefined when there is none that could be sent back. */
function idOf(bytes: Buffer, scan: Scan): RpcId | undefined {
  if (scan.idStart < 0 || scan.idEnd - scan.idStart > 6 * LONGEST_ID + 2) return undefined
  const first = bytes[scan.idStart]!
  if (first !== 0x22 && first !== 0x2d && !(first >= 0x30 && first <= 0x39)) return undefined
  const id = JSON.parse(bytes.toString('utf8', scan.idStart, scan.idEnd)) as JsonValue
  return isId(id) ? id : undefined
}

function isId(id: JsonValue | undefined): id is RpcId {
  if (typeof id === 'string') return id.length <= LONGEST_ID && id.isWellFormed()
  return typeof id === 'number' && Number.isSafeInteger(id)
}

/** The body without the values that `spans` names; each of them is an empty value of the same type. */
function parseWithout(bytes: Buffer, spans: readonly number[]): JsonValue {
  let text = ''
  let from = 0
  for (let i = 0; i < spans.length; i += 2) {
    const start = spans[i]!
    const first = bytes[start]
    text += `${bytes.toString('utf8', from, start)}${first === 0x7b ? '{}' : first === 0x5b ? '[]' : first === 0x22 ? '""' : '0'}`
    from = spans[i + 1]!
  }
  return JSON.parse(text + bytes.toString('utf8', from)) as JsonValue
}

/** The walk has found them in an object of that name, or they would not be there. */
function lendTexts(body: { params: { arguments: JsonObject } }, bytes: Buffer, scan: Scan): void {
  body.params.arguments = withLongTexts(body.params.arguments, bytes, scan)
}

function readBatch(
  bytes: Buffer,
  body: JsonValue[],
  headers: PostedHeaders,
  most: number,
): Result<Posted, ReadRefusal> {
  const batch = (detail: string) => refuse({ reason: 'message_batch_refused', detail }, undefined)
  if (body.length === 0) return refuse({ reason: 'message_invalid', detail: 'an empty batch' }, undefined)
  if (body.length > most) return batch(`more than ${most} messages (limits.batch)`)
  if (headers.protocolVersion !== undefined && isModern(headers.protocolVersion)) {
    return batch(`revision ${headers.protocolVersion} has no batches`)
  }
  if (headers.method !== undefined || headers.name !== undefined) {
    const header = headers.method === undefined ? 'Mcp-Name' : 'Mcp-Method'
    return refuse({ reason: 'message_header_mismatch', header, detail: 'a batch has no one method or name' }, undefined)
  }
  const messages: Message[] = []
  const ids = new Set<RpcId>()
  for (const element of body) {
    if (isObject(element) && isObject(element['params']) && hasModernClaim(element['params'])) {
      return batch('a message of the modern era in a batch')
    }
    const read = readMessage(element, headers, undefined, true)
    if (!read.ok) return refuse(read.error, undefined)
    const message = read.value
    if (message.method === 'initialize') return batch('initialize in a batch')
    if (message.kind === 'request') {
      // Ids that differ only in type are one id to servers that keep them as text.
      const id = String(message.id)
      if (ids.has(id))
        return refuse({ reason: 'message_ambiguous', detail: 'two requests of a batch have one id' }, undefined)
      ids.add(id)
    }
    messages.push(message)
  }
  return ok({ bytes, messages, isBatch: true })
}

/**
 * @param lazyBytes  The whole body when it is not kept in parsed form: values may have been left out of `body`.
 */
function readMessage(
  body: JsonValue,
  headers: PostedHeaders,
  lazyBytes: Buffer | undefined,
  inBatch: boolean,
): Result<Message, Refusal> {
  if (!isObject(body)) return invalid('the body must be an object')
  for (const member in body) if (!TOP_MEMBERS.has(member)) return invalid(`unknown member ${show(member)}`)
  if (body['jsonrpc'] !== '2.0') return invalid('jsonrpc must be "2.0"')
  const id = body['id']
  if (id !== undefined && !isId(id)) return invalid('id must be a string or a safe integer')
  if (body['method'] === undefined) return readResponse(body, id, headers)

  const method = body['method']
  if (typeof method !== 'string') return invalid('method must be a string')
  if (body['result'] !== undefined || body['error'] !== undefined) return invalid('both a request and a response')
  if (!KNOWN_METHODS.has(method)) {
    const problem = methodProblem(method)
    if (problem !== undefined) return err(problem)
  }
  const params = body['params']
  if (params !== undefined && !isObject(params)) return invalid('params must be an object')
  if (params?.['_meta'] !== undefined && !isObject(params['_meta']))
    return paramsInvalid('params._meta must be an object')

  const kind = id === undefined ? 'notification' : 'request'
  const era = readEra(kind, method, params, headers)
  if (era.refusal !== undefined) return err(era.refusal)
  if (!inBatch) {
    const claimed = kind === 'request' && era.version !== undefined && hasModernClaim(params)
    const mismatch = headerMismatch(headers, method, params, claimed)
    if (mismatch !== undefined) return err(mismatch)
  }
  // Before anything that it names is looked at: it has no params that could be right, and no task of this era.
  if (kind === 'request' && era.era === 'modern' && era.version !== undefined && isRemoved(method)) {
    return err({ reason: 'message_method_removed', method, version: era.version })
  }
  const reach = reachOf(method, params)
  if (!reach.ok) return reach
  let args: JsonObject | undefined
  if (method === 'tools/call' || method === 'prompts/get') {
    const given = params?.['arguments']
    if (given !== undefined && !isObject(given)) return paramsInvalid('params.arguments must be an object')
    args = given
  }
  const message: Message = {
    kind,
    era: era.era,
    version: era.version,
    method,
    id,
    objects: reach.value.objects,
    args,
    params,
    taskIds: reach.value.taskIds,
    traceparent: traceparentOf(params),
    clientInfo: clientInfoOf(method, params),
    isError: false,
  }
  if (lazyBytes === undefined) return ok(message)
  return ok(withLazyParams(message, args !== undefined, lazyBytes))
}

/**
 * What was parsed last for somebody who asked: one step of a call asks several times in a row. A reference of each message's
 * own, weak as it is, would keep what it parsed until the next full collection, and have those come many times as often.
 */
let lastParsed: WeakRef<{ readonly bytes: Buffer; readonly params: JsonObject }> | undefined

function paramsIn(bytes: Buffer): JsonObject {
  const last = lastParsed?.deref()
  if (last?.bytes === bytes) return last.params
  const { params } = JSON.parse(bytes.toString('utf8')) as { params: JsonObject }
  lastParsed = new WeakRef({ bytes, params })
  return params
}

/** The same message with `params` and `args` parsed from the whole body when one of them is asked for. */
function withLazyParams(message: Message, hasArgs: boolean, bytes: Buffer): Message {
  const hasParams = message.params !== undefined
  // Taken apart, so that no copy of what was parsed stays behind the getters.
  const { params: _params, args: _args, ...rest } = message
  return {
    ...rest,
    get params() {
      return hasParams ? paramsIn(bytes) : undefined
    },
    get args() {
      return hasArgs ? (paramsIn(bytes)['arguments'] as JsonObject) : undefined
    },
  }
}

const TOP_MEMBERS: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error'])

/** Methods that nobody specifies are policy's business, but not ones that could be taken for others. */
function methodProblem(method: string): Refusal | undefined {
  if (method === '' || method.length > LONGEST_METHOD) {
    return { reason: 'message_invalid', detail: `method must have 1 to ${LONGEST_METHOD} characters` }
  }
  if (!PRINTABLE.test(method))
    return { reason: 'message_ambiguous', detail: 'method with characters beyond printable ASCII' }
  const known = METHOD_BY_FOLD.get(foldName(method).trim())
  if (known !== undefined)
    return { reason: 'message_ambiguous', detail: `method ${show(method)} can be taken for ${known}` }
  return undefined
}

const PRINTABLE = /^[\x20-\x7e]+$/
const METHOD_BY_FOLD: ReadonlyMap<string, string> = new Map(
  [...KNOWN_METHODS].map(method => [foldName(method), method]),
)

function readResponse(body: JsonObject, id: RpcId | undefined, headers: PostedHeaders): Result<Message, Refusal> {
  const { result, error } = body
  if (result === undefined && error === undefined) return invalid('method is missing')
  if (result !== undefined && error !== undefined) return invalid('both a result and an error')
  if (body['params'] !== undefined) return invalid('params in a response')
  if (id === undefined) return invalid('a response without an id')
  if (result !== undefined && !isObject(result)) return invalid('result must be an object')
  if (
    error !== undefined &&
    !(isObject(error) && Number.isSafeInteger(error['code']) && typeof error['message'] === 'string')
  ) {
    return invalid('error must have an integer code and a message')
  }
  if (headers.method !== undefined || headers.name !== undefined) {
    const header = headers.method === undefined ? 'Mcp-Name' : 'Mcp-Method'
    return err({ reason: 'message_header_mismatch', header, detail: 'the body is a response' })
  }
  const version = headers.protocolVersion
  const message = {
    kind: 'response',
    era: 'legacy',
    version,
    method: '',
    id,
    objects: [],
    args: undefined,
    params: undefined,
    taskIds: [],
    traceparent: undefined,
    clientInfo: undefined,
    isError: error !== undefined,
  } as const
  return ok(message)
}

function traceparentOf(params: JsonObject | undefined): string | undefined {
  const meta = params?.['_meta']
  const value = isObject(meta) ? meta['traceparent'] : undefined
  return typeof value === 'string' && TRACEPARENT.test(value) ? value : undefined
}

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

function clientInfoOf(method: string, params: JsonObject | undefined): { name: string; version: string } | undefined {
  if (params === undefined) return undefined
  const meta = params['_meta']
  const info = method === 'initialize' ? params['clientInfo'] : isObject(meta) ? meta[CLIENT_INFO_KEY] : undefined
  if (!isObject(info)) return undefined
  const { name, version } = info
  if (typeof name !== 'string' || typeof version !== 'string') return undefined
  return { name: name.slice(0, LONGEST_FOLDED), version: version.slice(0, LONGEST_FOLDED) }
}

function refuse(refusal: Refusal, id: RpcId | undefined): Result<Posted, ReadRefusal> {
  return err({ refusal, id })
}

function invalid(detail: string): Result<Message, Refusal> {
  return err({ reason: 'message_invalid', detail })
}

function paramsInvalid(detail: string): Result<Message, Refusal> {
  return err({ reason: 'message_params_invalid', detail })
}

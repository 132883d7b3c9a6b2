import type { JsonObject } from '../json.ts'
import type { Refusal } from '../refusal.ts'
import type { Era } from './message.ts'
import { isObject } from './objects.ts'
import type { PostedHeaders } from './posted-headers.ts'

const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion'
const CAPABILITIES_KEY = 'io.modelcontextprotocol/clientCapabilities'
export const CLIENT_INFO_KEY = 'io.modelcontextprotocol/clientInfo'
const LOG_LEVEL_KEY = 'io.modelcontextprotocol/logLevel'

/** Revisions are dates, so that their order as strings is their order in time. */
const FIRST_MODERN = '2026-07-28'

/** Whether a revision belongs to the modern era. */
export function isModern(version: string): boolean {
  return version >= FIRST_MODERN
}

/**
 * Whether a method of the legacy era is none in the modern one: no handshake, no ping, no sessions to subscribe in.
 *
 * @source  MCP 2026-07-28 changelog (HTTP 404 with -32601); SEP-2663 (tasks/result, tasks/list).
 */
export function isRemoved(method: string): boolean {
  return REMOVED.has(method)
}

const REMOVED: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
  'tasks/result',
  'tasks/list',
])

/** Which era a single message belongs to, and the revision that it claims. */
export interface EraReading {
  readonly era: Era
  readonly version: string | undefined
  readonly refusal: Refusal | undefined
}

/**
 * Classifies a request or notification by what its body claims, then by its header, and holds the one against the
 * other. The order of the checks is that of the reference server, so that both refuse for the same reason.
 *
 * @source  MCP 2026-07-28 transports, versioning; `classifyInboundRequest` of the TypeScript SDK 2.4 (order).
 */
export function readEra(
  kind: 'request' | 'notification',
  method: string,
  params: JsonObject | undefined,
  headers: PostedHeaders,
): EraReading {
  const meta = metaOf(params)
  const hasClaim = meta !== undefined && meta[VERSION_KEY] !== undefined
  const header = headers.protocolVersion
  const headerIsModern = header !== undefined && isModern(header)

  if (kind === 'request' && method === 'initialize' && !(hasClaim && isValidModernClaim(meta))) {
    const asked = params?.['protocolVersion']
    const version = typeof asked === 'string' ? asked : header
    if (headerIsModern)
      return legacy(version, mismatch('MCP-Protocol-Version', `initialize does not exist in ${header}`))
    return legacy(version, undefined)
  }
  if (hasClaim) {
    const claimed = meta[VERSION_KEY]
    const issue =
      kind === 'request'
        ? envelopeIssue(meta)
        : typeof claimed === 'string'
          ? undefined
          : `_meta ${VERSION_KEY} must be a string`
    const version = typeof claimed === 'string' ? claimed : undefined
    const era: Era = version !== undefined && isModern(version) ? 'modern' : 'legacy'
    if (issue !== undefined) return { era, version, refusal: { reason: 'message_params_invalid', detail: issue } }
    if (header !== undefined && header !== version) {
      return { era, version, refusal: mismatch('MCP-Protocol-Version', 'the body names another revision') }
    }
    if (kind === 'request') {
      if (headers.method !== undefined && headers.method !== method) return { era, version, refusal: methodMismatch() }
      if (header === undefined)
        return { era, version, refusal: mismatch('MCP-Protocol-Version', 'the header is missing') }
      if (headers.method === undefined)
        return { era, version, refusal: mismatch('Mcp-Method', 'the header is missing') }
    }
    return { era, version, refusal: undefined }
  }
  if (headerIsModern) {
    if (kind === 'request') {
      const detail = `revision ${header} needs _meta ${VERSION_KEY} and ${CAPABILITIES_KEY} in every request`
      return { era: 'modern', version: header, refusal: { reason: 'message_params_invalid', detail } }
    }
    return { era: 'modern', version: header, refusal: undefined }
  }
  return legacy(header, undefined)
}

/** Whether a message carries the claim of the modern era in its body, well-formed or not. */
export function hasModernClaim(params: JsonObject | undefined): boolean {
  return metaOf(params)?.[VERSION_KEY] !== undefined
}

/**
 * Holds `Mcp-Method` and `Mcp-Name` against the body, in both eras, wherever they are present.
 *
 * @param isModernRequest  Whether a name that the body has must be in the header too.
 * @source                 SEP-2243 (which member the header mirrors), SEP-2663 (tasks).
 */
export function headerMismatch(
  headers: PostedHeaders,
  method: string,
  params: JsonObject | undefined,
  isModernRequest: boolean,
): Refusal | undefined {
  if (headers.method !== undefined && headers.method !== method) return methodMismatch()
  const member = NAME_SOURCE.get(method)
  if (headers.name === undefined) {
    if (isModernRequest && member !== undefined && typeof params?.[member] === 'string') {
      return mismatch('Mcp-Name', 'the header is missing')
    }
    return undefined
  }
  if (member !== undefined)
    return params?.[member] === headers.name ? undefined : mismatch('Mcp-Name', `params.${member} is another`)
  // No revision says what the header means here. What a router in front would take for the name must be one.
  const isNamed =
    params !== undefined &&
    (params['name'] === headers.name || params['uri'] === headers.name || params['taskId'] === headers.name)
  return isNamed ? undefined : mismatch('Mcp-Name', 'the body names nothing of that name')
}

const NAME_SOURCE: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
])

function legacy(version: string | undefined, refusal: Refusal | undefined): EraReading {
  return { era: 'legacy', version, refusal }
}

function mismatch(header: string, detail: string): Refusal {
  return { reason: 'message_header_mismatch', header, detail }
}

function methodMismatch(): Refusal {
  return mismatch('Mcp-Method', 'the body has another method')
}

function metaOf(params: JsonObject | undefined): JsonObject | undefined {
  const meta = params?.['_meta']
  return isObject(meta) ? meta : undefined
}

function isValidModernClaim(meta: JsonObject): boolean {
  const claimed = meta[VERSION_KEY]
  return typeof claimed === 'string' && isModern(claimed) && envelopeIssue(meta) === undefined
}

/** What is wrong with the `_meta` of a modern request, in the order in which the reference server looks. */
function envelopeIssue(meta: JsonObject): string | undefined {
  const capabilities = meta[CAPABILITIES_KEY]
  if (capabilities === undefined) return `_meta ${CAPABILITIES_KEY} is missing`
  if (typeof meta[VERSION_KEY] !== 'string') return `_meta ${VERSION_KEY} must be a string`
  if (!isObject(capabilities)) return `_meta ${CAPABILITIES_KEY} must be an object`
  const info = meta[CLIENT_INFO_KEY]
  if (
    info !== undefined &&
    !(isObject(info) && typeof info['name'] === 'string' && typeof info['version'] === 'string')
  ) {
    return `_meta ${CLIENT_INFO_KEY} must be an object with a name and a version`
  }
  const level = meta[LOG_LEVEL_KEY]
  if (level !== undefined && !LOG_LEVELS.has(level as string)) return `_meta ${LOG_LEVEL_KEY} is no log level`
  const token = meta['progressToken']
  if (token !== undefined && typeof token !== 'string' && !Number.isInteger(token))
    return '_meta progressToken must be a string or an integer'
  return undefined
}

const LOG_LEVELS: ReadonlySet<string> = new Set([
  'debug',
  'info',
  'notice',
  'warning',
  'error',
  'critical',
  'alert',
  'emergency',
])

import type { Caller } from '../core/identity/caller.ts'
import { isModern } from '../core/mcp/era.ts'
import type { Message, Posted } from '../core/mcp/message.ts'
import { type PostedHeaders, readPostedHeaders } from '../core/mcp/posted-headers.ts'
import { readPosted } from '../core/mcp/read-posted.ts'
import { endSession, openStream } from '../core/policy/implicit.ts'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Called, Identified } from './call.ts'

/** What belongs to whom; only the upstream's own answers make owners. Times are ms since the epoch. */
export interface Owners {
  ownerOf(caller: Caller): string
  ownsSession(kind: 'session' | 'sse', id: string, owner: string): boolean
  ownsEvent(session: string | undefined, id: string, owner: string): boolean
  ownsTask(id: string, owner: string): boolean
  /** Whether the server waits for this response, and from this caller; true once. */
  takesResponse(session: string | undefined, message: Message, owner: string): boolean
  digestOf(id: string): string
}

/**
 * What is called: the body is read once, whole and bounded, and understood strictly; then every session, event, task
 * and server request that it names has to be the caller's own. Unknown and somebody else's are answered the same.
 */
export function readMessage(
  identified: Identified,
  owners: Owners,
): Result<Called, Refusal> | Promise<Result<Called, Refusal>> {
  const { arrival, route, settings } = identified
  const headers = readPostedHeaders(arrival.rawHeaders)
  if (route.kind !== 'post') return readBodiless(identified, headers, owners)
  const body = arrival.readBody(settings.value.config.limits.bodyBytes)
  return body instanceof Promise
    ? body.then(late => readBody(identified, headers, late, owners))
    : readBody(identified, headers, body, owners)
}

function readBody(
  identified: Identified,
  headers: PostedHeaders,
  body: Result<Buffer, Refusal>,
  owners: Owners,
): Result<Called, Refusal> {
  if (!body.ok) return body
  const { exchange, settings } = identified
  exchange.bytesIn = body.value.length
  const read = readPosted(body.value, headers, settings.value.config.limits)
  if (read.ok) return checkOwners(identified, headers, read.value, owners)
  exchange.replyId = read.error.id
  return err(read.error.refusal)
}

/** GET and DELETE: what is called follows from the head. */
function readBodiless(identified: Identified, headers: PostedHeaders, owners: Owners): Result<Called, Refusal> {
  const { route } = identified
  if (headers.problem !== undefined) return err(headers.problem)
  // One's own session is all that a DELETE may end; without one it would be a DELETE of whatever is at the path.
  if (route.kind === 'delete' && headers.sessionId === undefined) return err(NO_SESSION)
  const era = headers.protocolVersion !== undefined && isModern(headers.protocolVersion) ? 'modern' : 'legacy'
  const message = route.kind === 'stream' ? openStream(era) : endSession(era)
  return checkOwners(identified, headers, { bytes: EMPTY, messages: [message], isBatch: false }, owners)
}

function checkOwners(
  identified: Identified,
  headers: PostedHeaders,
  posted: Posted,
  owners: Owners,
): Result<Called, Refusal> {
  const { exchange, caller, target } = identified
  exchange.messages = posted.messages
  const session = headers.sessionId ?? target.session
  if (session !== undefined) exchange.session = owners.digestOf(session)
  const foreign = findForeign(posted, headers, target.session, caller, owners)
  if (foreign !== undefined) return err(foreign)
  return ok({ ...identified, posted, session })
}

/** In both eras: a server that knows only sessions would take one from a request that calls itself modern. */
function findForeign(
  posted: Posted,
  headers: PostedHeaders,
  sse: string | undefined,
  caller: Caller,
  owners: Owners,
): Refusal | undefined {
  const { sessionId, lastEventId } = headers
  const session = sessionId ?? sse
  const owner = owners.ownerOf(caller)
  if (sessionId !== undefined && !owners.ownsSession('session', sessionId, owner)) return { reason: 'session_unknown' }
  if (sse !== undefined && !owners.ownsSession('sse', sse, owner)) return { reason: 'session_unknown' }
  if (lastEventId !== undefined && !owners.ownsEvent(session, lastEventId, owner)) return { reason: 'session_unknown' }
  for (const message of posted.messages) {
    for (const task of message.taskIds) if (!owners.ownsTask(task, owner)) return { reason: 'task_unknown' }
    if (message.kind === 'response' && !owners.takesResponse(session, message, owner)) {
      return { reason: 'message_response_unsolicited' }
    }
  }
  return undefined
}

const EMPTY = Buffer.alloc(0)
const NO_SESSION: Refusal = {
  reason: 'request_method_not_allowed',
  method: 'DELETE without Mcp-Session-Id',
  allow: 'POST, GET',
}

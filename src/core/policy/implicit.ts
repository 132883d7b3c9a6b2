import type { Era, Message } from '../mcp/message.ts'

/**
 * What an accepted caller may always do unless a deny rule says otherwise: the handshake, its own housekeeping, and
 * the lists, because their answers are filtered to what the caller may use. A vendor's own `…/list` is not among them:
 * nobody filters its answer, so it needs an allow like every method that we do not know.
 */
const IMPLICIT: ReadonlySet<string> = new Set([
  'initialize',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'ping',
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'skills/list',
  'tasks/list',
])

/** Whether a method is among them, whatever else the message holds. */
export function isAlwaysAllowed(method: string): boolean {
  return IMPLICIT.has(method)
}

/** Methods that act on an object by definition; without one in hand no rule can have been asked about it. */
const NAMING: ReadonlySet<string> = new Set([
  'tools/call',
  'prompts/get',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'resources/directory/read',
  'skills/get',
  'completion/complete',
])

/** Whether a message that names no object is allowed without a rule. */
export function isImplicit(message: Message): boolean {
  if (IMPLICIT.has(message.method)) return true
  // A response was asked for by the server: whether that is so, and asked of this caller, is checked elsewhere.
  if (message.kind === 'response') return true
  if (isPseudo(message)) return true
  // The modern way to open one's own event stream, as long as it subscribes to no resource and follows no task.
  return message.method === 'subscriptions/listen' && message.taskIds.length === 0
}

export function mustNameObject(method: string): boolean {
  return NAMING.has(method)
}

/** Method under which policy judges a message; responses have none of their own. */
export function judgedMethod(message: Message): string {
  return message.kind === 'response' ? 'response' : message.method
}

/** What policy is asked before a caller's own event stream is opened (GET). */
export function openStream(era: Era): Message {
  return era === 'modern' ? OPEN_STREAM_MODERN : OPEN_STREAM_LEGACY
}

/** What policy is asked before a caller's own session is ended (DELETE). */
export function endSession(era: Era): Message {
  return era === 'modern' ? END_SESSION_MODERN : END_SESSION_LEGACY
}

const OPEN_STREAM_MODERN = pseudo('stream/open', 'modern')
const OPEN_STREAM_LEGACY = pseudo('stream/open', 'legacy')
const END_SESSION_MODERN = pseudo('session/end', 'modern')
const END_SESSION_LEGACY = pseudo('session/end', 'legacy')

/** A posted request always has an id, so a message that merely bears the name of a pseudo-method is not one. */
function isPseudo(message: Message): boolean {
  if (message.kind !== 'request' || message.id !== undefined) return false
  return message.method === 'stream/open' || message.method === 'session/end'
}

function pseudo(method: 'stream/open' | 'session/end', era: Era): Message {
  return Object.freeze({
    kind: 'request',
    era,
    version: undefined,
    method,
    id: undefined,
    objects: [],
    args: undefined,
    params: undefined,
    taskIds: [],
    traceparent: undefined,
    clientInfo: undefined,
    isError: false,
  } satisfies Message)
}

import type { Outcome } from '../core/audit/exchange.ts'
import { isListMethod } from '../core/mcp/list-filter.ts'
import type { RpcId } from '../core/mcp/message.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Forwarded } from './call.ts'
import { CallAnswers } from './call-answers.ts'
import type { AnswerParts } from './call-end.ts'
import { EventPassage } from './event-passage.ts'
import { headerOf } from './header-of.ts'
import { JsonPassage, ListPassage, type Passage, PlainPassage } from './passage.ts'
import type { SessionCalls } from './session-calls.ts'
import { shownTo } from './shown-objects.ts'

/** What an answer may make somebody the owner of, and who waits for answers elsewhere. */
export interface PassageParts {
  readonly owners: {
    ownerOf(caller: Forwarded['caller']): string
    claimSession(kind: 'session' | 'sse', id: string, owner: string): boolean
    claimEvent(session: string | undefined, id: string, owner: string): boolean
    claimTask(id: string, owner: string): boolean
    ownsTask(id: string, owner: string): boolean
    expectResponse(session: string | undefined, id: RpcId, owner: string): void
    forgetSession(id: string): void
    /** The session id as audit lines name it. */
    digestOf(id: string): string
  }
  readonly sessionCalls: SessionCalls
  /** The server's own lists have shown this name. */
  readonly learn: (kind: 'tool' | 'prompt' | 'resource', name: string) => void
}

/** Gathers what the server will say to the requests of a call, and what its lists may show to this caller. */
export function answersFor(call: Forwarded, parts: PassageParts): AnswerParts {
  const { owners } = parts
  const owner = owners.ownerOf(call.caller)
  const { messages } = call.posted
  const isList = messages.some(message => isListMethod(message.method))
  return {
    answers: new CallAnswers(messages, owners, owner),
    isList,
    shows: isList ? shownTo(call, id => owners.ownsTask(id, owner), parts.learn) : showsNothing,
  }
}

/** Chooses how an answer is read while it passes, by what was asked and what comes back, and learns what its head tells. */
export function passageFor(
  call: Forwarded,
  { answers, isList, shows }: AnswerParts,
  status: number,
  headers: readonly string[],
  parts: PassageParts,
): Passage {
  const { posted, route, caller, session, settings } = call
  const { owners, sessionCalls } = parts
  const { eventBytes } = settings.value.config.limits
  const owner = owners.ownerOf(caller)
  learnSession(call, status, headers, parts, owner, answers)

  const media = (headerOf(headers, 'content-type') ?? '').toLowerCase()
  if (media.startsWith('text/event-stream')) {
    return new EventPassage({
      answers,
      session,
      sessionCalls,
      isOwnStream: route.kind === 'stream',
      isResumed: call.resumes,
      isList,
      shows: isList ? shows : shownTo(call, id => owners.ownsTask(id, owner), parts.learn),
      limitBytes: eventBytes,
      claimSse(id) {
        const isClaimed = owners.claimSession('sse', id, owner)
        if (isClaimed) call.exchange.session = owners.digestOf(id)
        return isClaimed
      },
      claimEvent: (within, id) => owners.claimEvent(within, id, owner),
      expectResponse: (within, id) => owners.expectResponse(within, id, owner),
    })
  }
  // What a client accepts is only its wish: a page that the server sends all the same was never judged by policy.
  if (route.kind === 'stream' && status < 300) answers.fault ??= NO_STREAM
  if (answers.fault !== undefined) return new JsonPassage(answers)
  // Whatever the media type and the status say: a list that is not read is a list that is not filtered.
  if (isList) {
    // An answer under another id than was sent is read by clients that compare ids loosely.
    const isPending = (id: RpcId): boolean =>
      !posted.messages.some(message => message.id === id && !isListMethod(message.method))
    return new ListPassage(answers, { isPending, allows: shows }, eventBytes, status === 202)
  }
  return media.startsWith('application/json') ? new JsonPassage(answers) : new PlainPassage(plainOutcome(call, status))
}

/** Only an answer to `initialize` makes a session, and only the server's word ends one. */
function learnSession(
  call: Forwarded,
  status: number,
  headers: readonly string[],
  parts: PassageParts,
  owner: string,
  answers: CallAnswers,
): void {
  const { posted, route, session } = call
  if (posted.messages[0]?.method === 'initialize' && status < 300) {
    const given = headerOf(headers, 'mcp-session-id')
    if (given !== undefined && !parts.owners.claimSession('session', given, owner)) {
      answers.fault = { reason: 'upstream_answer_invalid', detail: 'a session id that is already somebody else\u2019s' }
    } else if (given !== undefined) call.exchange.session = parts.owners.digestOf(given)
  }
  if (session !== undefined && (status === 404 || (route.kind === 'delete' && status < 300))) {
    parts.owners.forgetSession(session)
    parts.sessionCalls.end(session)
  }
}

/** What is neither JSON nor an event stream holds no response to a request; in a session that may come on another stream. */
function plainOutcome(call: Forwarded, status: number): Outcome | undefined {
  if (status >= 400) return 'error'
  const isRequest = call.posted.messages.some(({ kind, id }) => kind === 'request' && id !== undefined)
  return isRequest ? undefined : 'success'
}

const NO_STREAM: Refusal = { reason: 'upstream_answer_invalid', detail: 'an answer to GET that is no event stream' }

function showsNothing(): boolean {
  return false
}

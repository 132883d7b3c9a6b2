import type { Outcome } from '../core/audit/exchange.ts'
import { filterLists, type ListedKind } from '../core/mcp/list-filter.ts'
import type { RpcId } from '../core/mcp/message.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'
import { type SseHandler, SseReader } from '../core/mcp/sse-reader.ts'
import type { Refusal } from '../core/refusal.ts'
import { ok, type Result } from '../core/result.ts'
import type { CallAnswers } from './call-answers.ts'
import type { Passage } from './passage.ts'
import type { SessionCalls } from './session-calls.ts'

export interface EventPassageParts {
  readonly answers: CallAnswers
  /** Session of the stream; that of `/sse` is known only once its `endpoint` event has come. */
  readonly session: string | undefined
  readonly sessionCalls: SessionCalls
  /** A stream that a GET opened carries no answer of its own. */
  readonly isOwnStream: boolean
  /** The stream goes on where another has ended: what has been answered long ago may come again. */
  readonly isResumed: boolean
  /** This call asks for a list, whose answer is to be filtered. */
  readonly isList: boolean
  /** What lists may show to the caller of this stream. */
  readonly shows: (kind: ListedKind, name: string) => boolean
  readonly limitBytes: number
  claimSse(id: string): boolean
  claimEvent(session: string | undefined, id: string): boolean
  expectResponse(session: string | undefined, id: RpcId): void
}

/**
 * An event stream: passed on as it comes. An event is held only where a list may come: on the stream of a list's own
 * request, while one is pending in the session, and on a stream that is resumed. What the server asks, whom it answers and which ids it hands out is noticed on the way.
 */
export class EventPassage implements Passage, SseHandler {
  readonly rewrites = true
  isResumable = false
  readonly #parts: EventPassageParts
  readonly #reader: SseReader
  #session: string | undefined
  #fault: Refusal | undefined

  constructor(parts: EventPassageParts) {
    this.#parts = parts
    this.#session = parts.session
    this.#reader = new SseReader(this, parts.limitBytes)
  }

  get fault(): Refusal | undefined {
    return this.#fault ?? this.#reader.fault ?? this.#parts.answers.fault
  }

  get atBoundary(): boolean {
    return this.#reader.atBoundary
  }

  get stopped(): boolean {
    return this.#reader.stopped
  }

  get outcome(): Outcome | undefined {
    return this.#parts.isOwnStream ? 'success' : this.#parts.answers.outcome
  }

  get rpcError(): { code: number; message: string } | undefined {
    return this.#parts.answers.rpcError
  }

  take(chunk: Buffer): Buffer | undefined {
    return this.#reader.take(chunk)
  }

  finish(): Buffer | undefined {
    return this.#reader.finish()
  }

  stop(): boolean {
    return this.#reader.stop()
  }

  holds(): boolean {
    if (this.#parts.isList || this.#parts.isResumed) return true
    return this.#session !== undefined && this.#parts.sessionCalls.mayBringList(this.#session)
  }

  message(seen: SeenMessage): void {
    if (seen.kind === 'request' && seen.id !== undefined) this.#parts.expectResponse(this.#session, seen.id)
    const isOurs = this.#parts.answers.see(seen)
    if (!isOurs && this.#session !== undefined) this.#parts.sessionCalls.answered(this.#session, seen)
  }

  text(type: string, data: string): void {
    if (type !== 'endpoint' || !this.#parts.isOwnStream) return
    const session = sessionOf(data)
    if (session === undefined) return
    if (this.#parts.claimSse(session)) this.#session = session
    else
      this.#fault = { reason: 'upstream_answer_invalid', detail: 'a session id that is already somebody else\u2019s' }
  }

  eventId(id: string): void {
    if (id === '') return
    this.isResumable = true
    this.#parts.claimEvent(this.#session, id)
  }

  rewrite(data: Buffer): Result<Buffer, Refusal> {
    // The priming event of a resumable stream has an id and no data.
    if (data.length === 0) return ok(data)
    let showsNow = this.#parts.shows
    const result = filterLists(data, {
      isPending: id => {
        const shows = this.#filterFor(id)
        showsNow = shows ?? showsNow
        return shows !== undefined
      },
      allows: (kind, name) => showsNow(kind, name),
    })
    return result.ok ? ok(result.value) : result
  }

  /**
   * By whose eyes an answer is filtered, if it brings a list; undefined for what is known to answer no list request.
   * An answer that nobody waits for is filtered too: it may be one that comes again, or late.
   */
  #filterFor(id: RpcId): EventPassageParts['shows'] | undefined {
    const { answers, isList, shows, sessionCalls } = this.#parts
    if (answers.awaits(id)) return isList ? shows : undefined
    const session = this.#session
    const pending = session === undefined ? undefined : sessionCalls.pending(session, id)
    if (pending === undefined) return shows
    if (pending.isList) return pending.shows
    return session !== undefined && sessionCalls.isUnsure(session) ? shows : undefined
  }
}

/** The session id in the path that the `endpoint` event names. */
function sessionOf(endpoint: string): string | undefined {
  let url: URL
  try {
    url = new URL(endpoint, 'http://localhost')
  } catch {
    return undefined
  }
  for (const [name, value] of url.searchParams) {
    if (name.toLowerCase().replaceAll(/[-_.]/g, '') === 'sessionid' && value !== '') return value
  }
  return undefined
}

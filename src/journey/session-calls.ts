import type { ListedKind } from '../core/mcp/list-filter.ts'
import type { RpcId } from '../core/mcp/message.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'

/**
 * Requests of the legacy era whose answer may come on another stream of their session: on the GET stream, on one that
 * resumes it, on `/sse`. An answer is matched by session and id, never by id alone, for every client counts from zero.
 */
export class SessionCalls {
  readonly #bySession = new Map<string, Map<RpcId, PendingCall>>()
  /** Sessions in which a list may still come that nobody waits for any more. */
  readonly #unsure = new Set<string>()
  #size = 0

  get size(): number {
    return this.#size
  }

  /** A request goes out. @returns what ends the wait for it. */
  expect(session: string, id: RpcId, call: PendingCall): void {
    let calls = this.#bySession.get(session)
    if (calls === undefined) {
      calls = new Map()
      this.#bySession.set(session, calls)
    }
    const before = calls.get(id)
    if (before === undefined) this.#size++
    else if (before.isList) this.#doubt(session)
    calls.set(id, call)
    // An id that is used again before its answer has come cannot be answered for both.
    before?.lost('its id was used again')
    if (calls.size > MOST_PER_SESSION) this.#dropFirst(session, calls)
  }

  /** The call that awaits this answer; a list among them says for whom the answer has to be filtered. */
  pending(session: string, id: RpcId): PendingCall | undefined {
    return this.#bySession.get(session)?.get(id)
  }

  /** Whether a list may come in this session whose request is not known any more: its id is no guide then. */
  isUnsure(session: string): boolean {
    return this.#unsure.has(session)
  }

  /** Whether a list may come on a stream of this session. */
  mayBringList(session: string): boolean {
    if (this.#unsure.has(session)) return true
    const calls = this.#bySession.get(session)
    if (calls === undefined) return false
    for (const call of calls.values()) if (call.isList) return true
    return false
  }

  /** An answer has come on some stream of the session. */
  answered(session: string, seen: SeenMessage): void {
    if (seen.id === undefined || (seen.kind !== 'result' && seen.kind !== 'error')) return
    const call = this.#bySession.get(session)?.get(seen.id)
    if (call === undefined) return
    // An id that was used twice is answered twice, and the list may be the second of them.
    if (call.isList && seen.kind === 'result' && !seen.hasList) this.#doubt(session)
    this.#remove(session, seen.id)
    call.answered(seen)
  }

  /** The answer came where it was asked for, or nobody waits any more. */
  settle(session: string, id: RpcId, call: PendingCall): void {
    if (this.#bySession.get(session)?.get(id) !== call) return
    if (call.isList && !call.isAnswered) this.#doubt(session)
    this.#remove(session, id)
  }

  /** The client wants no answer any more, and a server that heeds it sends none. */
  cancelled(session: string, id: RpcId): void {
    const call = this.#bySession.get(session)?.get(id)
    if (call === undefined) return
    if (call.isList) this.#doubt(session)
    this.#remove(session, id)
    call.lost('its client has cancelled it')
  }

  /** The session is over. */
  end(session: string): void {
    this.#unsure.delete(session)
    const calls = this.#bySession.get(session)
    if (calls === undefined) return
    this.#bySession.delete(session)
    this.#size -= calls.size
    for (const call of calls.values()) call.lost('its session has ended')
  }

  /** The sidecar stops: every call that is still open gets its line. */
  endAll(): void {
    for (const session of [...this.#bySession.keys()]) this.end(session)
  }

  /** Gives up what has been awaited for too long. */
  sweep(nowMono: number): void {
    for (const [session, calls] of this.#bySession) {
      for (const [id, call] of calls) {
        if (nowMono < call.giveUpMono) continue
        if (call.isList) this.#doubt(session)
        this.#remove(session, id)
        call.lost('no answer came on any stream of its session')
      }
    }
  }

  #dropFirst(session: string, calls: Map<RpcId, PendingCall>): void {
    const first = calls.entries().next().value
    if (first === undefined) return
    if (first[1].isList) this.#doubt(session)
    this.#remove(session, first[0])
    first[1].lost('too many calls of its session are unanswered')
  }

  #doubt(session: string): void {
    this.#unsure.delete(session)
    this.#unsure.add(session)
    if (this.#unsure.size <= MOST_UNSURE) return
    for (const oldest of this.#unsure) return void this.#unsure.delete(oldest)
  }

  #remove(session: string, id: RpcId): void {
    const calls = this.#bySession.get(session)
    if (calls?.delete(id) !== true) return
    this.#size--
    if (calls.size === 0) this.#bySession.delete(session)
  }
}

export interface PendingCall {
  /** The answer is a list that has to be filtered for its caller before it goes on. */
  readonly isList: boolean
  readonly shows: (kind: ListedKind, name: string) => boolean
  /** Every request of the call has been answered. */
  readonly isAnswered: boolean
  readonly giveUpMono: number
  answered(seen: SeenMessage): void
  lost(why: string): void
}

const MOST_PER_SESSION = 1024
const MOST_UNSURE = 50_000

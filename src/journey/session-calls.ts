import type { RpcId } from '../core/mcp/message.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'

/**
 * Requests of the legacy era whose answer may come on another stream of their session: on the GET stream, on one that
 * resumes it, on `/sse`. An answer is matched by session and id, never by id alone, for every client counts from zero.
 */
export class SessionCalls {
  readonly #bySession = new Map<string, Map<RpcId, PendingCall>>()
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
    calls.set(id, call)
    // An id that is used again before its answer has come cannot be answered for both.
    before?.lost('its id was used again')
    if (calls.size > MOST_PER_SESSION) this.#dropFirst(session, calls)
  }

  /** Whether a list is awaited in this session, and for whom its answer has to be filtered. */
  pendingList(session: string, id: RpcId): PendingCall | undefined {
    const call = this.#bySession.get(session)?.get(id)
    return call?.isList === true ? call : undefined
  }

  hasPendingList(session: string): boolean {
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
    this.#remove(session, seen.id)
    call.answered(seen)
  }

  /** The answer came where it was asked for, or nobody waits any more. */
  settle(session: string, id: RpcId, call: PendingCall): void {
    if (this.#bySession.get(session)?.get(id) === call) this.#remove(session, id)
  }

  /** The session is over. */
  end(session: string): void {
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
        this.#remove(session, id)
        call.lost('no answer came on any stream of its session')
      }
    }
  }

  #dropFirst(session: string, calls: Map<RpcId, PendingCall>): void {
    const first = calls.entries().next().value
    if (first === undefined) return
    this.#remove(session, first[0])
    first[1].lost('too many calls of its session are unanswered')
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
  readonly shows: (kind: 'tool' | 'prompt' | 'resource' | 'template' | 'task', name: string) => boolean
  readonly giveUpMono: number
  answered(seen: SeenMessage): void
  lost(why: string): void
}

const MOST_PER_SESSION = 1024

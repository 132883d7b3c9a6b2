import type { Outcome } from '../core/audit/exchange.ts'
import type { RpcId } from '../core/mcp/message.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'
import type { Refusal } from '../core/refusal.ts'

/** JSON-RPC's own word for "the server is broken": it counts against the upstream, a tool's `isError` does not. */
const INTERNAL_ERROR = -32603

/**
 * What the server says to the requests of one call, gathered as it passes by. A batch has failed as soon as one of its
 * elements has.
 */
export class CallAnswers {
  fault: Refusal | undefined
  rpcError: { code: number; message: string } | undefined
  /** The server says that it is itself at fault. */
  isInternalError = false
  readonly #awaited: Set<RpcId>
  readonly #onTask: (id: string) => boolean
  #outcome: Outcome | undefined

  /** @param onTask  Records whose a created task is; false when it is somebody else's already. */
  constructor(awaited: Iterable<RpcId>, onTask: (id: string) => boolean) {
    this.#awaited = new Set(awaited)
    this.#onTask = onTask
  }

  /** Undefined until every request of the call has been answered. */
  get outcome(): Outcome | undefined {
    return this.#awaited.size === 0 ? (this.#outcome ?? 'success') : undefined
  }

  awaits(id: RpcId): boolean {
    return this.#awaited.has(id)
  }

  /** @returns whether this answered a request of the call. */
  see(seen: SeenMessage): boolean {
    for (const task of seen.createdTaskIds) {
      // An id that two callers were given would let one of them into the other's task.
      if (!this.#onTask(task)) {
        this.fault = { reason: 'upstream_answer_invalid', detail: 'a task id that is already somebody else\u2019s' }
      }
    }
    if (seen.kind === 'error') {
      this.rpcError ??= { code: seen.errorCode ?? 0, message: seen.errorMessage ?? '' }
      if (seen.errorCode === INTERNAL_ERROR) this.isInternalError = true
    }
    if (seen.kind !== 'result' && seen.kind !== 'error') return false
    // An error without an id can only be about the one request that was sent.
    const isOurs = seen.id === undefined ? seen.kind === 'error' && this.#awaited.size > 0 : this.#awaited.has(seen.id)
    if (!isOurs) return false
    if (seen.id === undefined) this.#awaited.clear()
    else this.#awaited.delete(seen.id)
    this.#outcome = worse(this.#outcome, outcomeOfAnswer(seen))
    return true
  }
}

function outcomeOfAnswer(seen: SeenMessage): Outcome {
  if (seen.kind === 'error') return 'error'
  return seen.isError ? 'tool_error' : 'success'
}

function worse(one: Outcome | undefined, other: Outcome): Outcome {
  if (one === 'error' || other === 'error') return 'error'
  return one === 'tool_error' ? one : other
}

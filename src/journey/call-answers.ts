import type { Outcome } from '../core/audit/exchange.ts'
import type { Message, RpcId } from '../core/mcp/message.ts'
import type { SeenMessage } from '../core/mcp/seen-message.ts'
import type { Refusal } from '../core/refusal.ts'

/** Records whose a created task is; false when it is somebody else's already. */
export interface TaskOwners {
  claimTask(id: string, owner: string): boolean
}

/**
 * What the server says to the requests of one call, gathered as it passes by. A batch has failed as soon as one of its
 * elements has.
 */
export class CallAnswers {
  fault: Refusal | undefined
  rpcError: { code: number; message: string } | undefined
  /** Ids of the requests that are not answered yet: one, but for batches, whose size is bounded. */
  readonly #awaited: RpcId[]
  readonly #tasks: TaskOwners
  readonly #owner: string
  #outcome: Outcome | undefined

  /** @param owner  Whose a task is that the server creates for one of the messages. */
  constructor(messages: readonly Message[], tasks: TaskOwners, owner: string) {
    this.#awaited = messages.length === 1 ? idsOf(messages[0] as Message) : messages.flatMap(idsOf)
    this.#tasks = tasks
    this.#owner = owner
  }

  /** Undefined until every request of the call has been answered. */
  get outcome(): Outcome | undefined {
    return this.#awaited.length === 0 ? (this.#outcome ?? 'success') : undefined
  }

  awaits(id: RpcId): boolean {
    return this.#awaited.includes(id)
  }

  /** @returns whether this answered a request of the call. */
  see(seen: SeenMessage): boolean {
    for (const task of seen.createdTaskIds) {
      // An id that two callers were given would let one of them into the other's task.
      if (!this.#tasks.claimTask(task, this.#owner)) {
        this.fault = { reason: 'upstream_answer_invalid', detail: 'a task id that is already somebody else\u2019s' }
      }
    }
    if (seen.kind === 'error') {
      this.rpcError ??= { code: seen.errorCode ?? 0, message: seen.errorMessage ?? '' }
    }
    if (seen.kind !== 'result' && seen.kind !== 'error') return false
    // An error without an id can only be about the one request that was sent.
    const isOurs = seen.id === undefined ? seen.kind === 'error' && this.#awaited.length > 0 : this.awaits(seen.id)
    if (!isOurs) return false
    if (seen.id === undefined) this.#awaited.length = 0
    else this.#awaited.splice(this.#awaited.indexOf(seen.id), 1)
    this.#outcome = worse(this.#outcome, outcomeOfAnswer(seen))
    return true
  }
}

/** Of exactly the size: an array that is pushed to has room for seventeen. */
function idsOf({ kind, id }: Message): RpcId[] {
  return kind === 'request' && id !== undefined ? [id] : []
}

function outcomeOfAnswer(seen: SeenMessage): Outcome {
  if (seen.kind === 'error') return 'error'
  return seen.isError ? 'tool_error' : 'success'
}

function worse(one: Outcome | undefined, other: Outcome): Outcome {
  if (one === 'error' || other === 'error') return 'error'
  return one === 'tool_error' ? one : other
}

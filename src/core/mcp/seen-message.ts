import type { RpcId } from './message.ts'

/** One JSON-RPC message from the server, as far as the sidecar needs it. Texts are bounded. */
export interface SeenMessage {
  readonly kind: 'result' | 'error' | 'request' | 'notification'
  /** Of a request of the server, or of the request that this answers. */
  readonly id: RpcId | undefined
  readonly method: string | undefined
  /** `result.isError` is true: a tool says that it has failed. */
  readonly isError: boolean
  readonly errorCode: number | undefined
  /** At most 1024 bytes of `error.message`. */
  readonly errorMessage: string | undefined
  /** `complete`, `input_required`, `task`; undefined from servers of the legacy era. */
  readonly resultType: string | undefined
  /** `result.protocolVersion` of initialize. */
  readonly protocolVersion: string | undefined
  /** Tasks that this result has created: they belong to whom it is sent. */
  readonly createdTaskIds: readonly string[]
  /** Whether the result has a list of tools, prompts, resources, templates, skills or tasks. */
  readonly hasList: boolean
}

/** Where a member stands: what its name means depends on it. */
export const BATCH = 1
export const MESSAGE = 2
export const RESULT = 3
export const ERROR = 4
export const TASK = 5

/** A member of interest; 0 for any other. */
export type Member = number
const ID_MEMBER = 1
const METHOD_MEMBER = 2
export const RESULT_MEMBER = 3
export const ERROR_MEMBER = 4
const CODE_MEMBER = 5
const TEXT_MEMBER = 6
const IS_ERROR_MEMBER = 7
const TYPE_MEMBER = 8
const TASK_ID_MEMBER = 9
export const TASK_MEMBER = 10
export const LIST_MEMBER = 11
const VERSION_MEMBER = 12

const MEMBERS: readonly ReadonlyMap<string, Member>[] = [
  new Map(),
  new Map(),
  new Map([
    ['id', ID_MEMBER],
    ['method', METHOD_MEMBER],
    ['result', RESULT_MEMBER],
    ['error', ERROR_MEMBER],
  ]),
  new Map([
    ['isError', IS_ERROR_MEMBER],
    ['resultType', TYPE_MEMBER],
    ['taskId', TASK_ID_MEMBER],
    ['task', TASK_MEMBER],
    ['protocolVersion', VERSION_MEMBER],
    ['tools', LIST_MEMBER],
    ['prompts', LIST_MEMBER],
    ['resources', LIST_MEMBER],
    ['resourceTemplates', LIST_MEMBER],
    ['skills', LIST_MEMBER],
    ['tasks', LIST_MEMBER],
  ]),
  new Map([
    ['code', CODE_MEMBER],
    ['message', TEXT_MEMBER],
  ]),
  new Map([['taskId', TASK_ID_MEMBER]]),
]

export function memberOf(place: number, name: string): Member {
  return MEMBERS[place]!.get(name) ?? 0
}

/** The same by the bytes of a name without escapes. */
export function memberAt(place: number, bytes: Buffer, start: number, end: number): Member {
  const candidates = BY_LENGTH[place]![end - start]
  if (candidates === undefined) return 0
  for (const { name, member } of candidates) {
    let i = 0
    while (i < name.length && bytes[start + i] === name[i]) i++
    if (i === name.length) return member
  }
  return 0
}

const BY_LENGTH: readonly (readonly { name: Buffer; member: Member }[] | undefined)[][] = MEMBERS.map(members => {
  const byLength: { name: Buffer; member: Member }[][] = []
  for (const [name, member] of members) (byLength[name.length] ??= []).push({ name: Buffer.from(name), member })
  return byLength
})

/** A message while it is being read. */
export class Draft {
  hasResult = false
  hasError = false
  hasList = false
  private id: RpcId | undefined
  private method: string | undefined
  private isError = false
  private errorCode: number | undefined
  private errorMessage: string | undefined
  private resultType: string | undefined
  private protocolVersion: string | undefined
  private taskId: string | undefined
  private innerTaskId: string | undefined

  set(place: number, member: Member, value: string | number | boolean | null): void {
    if (place === MESSAGE) {
      if (member === ID_MEMBER) this.id = typeof value === 'string' || typeof value === 'number' ? value : undefined
      else if (member === METHOD_MEMBER) this.method = typeof value === 'string' ? value : undefined
      else if (member === RESULT_MEMBER) this.hasResult = true
      else if (member === ERROR_MEMBER) this.hasError = value !== null
    } else if (place === RESULT) {
      if (member === IS_ERROR_MEMBER) this.isError = value === true
      else if (typeof value !== 'string') return
      else if (member === TYPE_MEMBER) this.resultType = value
      else if (member === TASK_ID_MEMBER) this.taskId = value
      else if (member === VERSION_MEMBER) this.protocolVersion = value
    } else if (place === ERROR) {
      // Of what else a server may call a code, an infinity among it, an audit line would be no JSON any more.
      if (member === CODE_MEMBER && Number.isSafeInteger(value)) this.errorCode = value as number
      else if (member === TEXT_MEMBER && typeof value === 'string') this.errorMessage = value
    } else if (place === TASK && member === TASK_ID_MEMBER && typeof value === 'string') this.innerTaskId = value
  }

  finish(): SeenMessage | undefined {
    const hasMethod = this.method !== undefined
    if (!hasMethod && !this.hasError && !this.hasResult) return undefined
    const created: string[] = []
    if (this.resultType === 'task' && this.taskId !== undefined) created.push(this.taskId)
    if (this.innerTaskId !== undefined) created.push(this.innerTaskId)
    return {
      kind: hasMethod ? (this.id === undefined ? 'notification' : 'request') : this.hasError ? 'error' : 'result',
      id: this.id,
      method: this.method,
      isError: this.isError,
      errorCode: this.errorCode,
      errorMessage: this.errorMessage,
      resultType: this.resultType,
      protocolVersion: this.protocolVersion,
      createdTaskIds: created,
      hasList: this.hasList,
    }
  }
}

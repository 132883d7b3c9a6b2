import type { JsonObject, JsonValue } from '../json.ts'

export type Era = 'modern' | 'legacy'

/** JSON-RPC id as MCP allows it: a string or a safe integer. */
export type RpcId = string | number

/**
 * One MCP message as policy, quota and audit see it. Everything in it was read from the very bytes that are forwarded.
 */
export interface Message {
  readonly kind: 'request' | 'notification' | 'response'
  readonly era: Era
  /** Protocol revision that the message (body first, then header) claims. */
  readonly version: string | undefined
  /** Empty for a response. */
  readonly method: string
  /** Absent for a notification. */
  readonly id: RpcId | undefined
  /** Every object that the message acts on; a call that names any is judged on each. */
  readonly objects: readonly McpObject[]
  /** `params.arguments` of tools/call and prompts/get. */
  readonly args: JsonObject | undefined
  readonly params: JsonObject | undefined
  /** Ids of tasks that the message acts on. */
  readonly taskIds: readonly string[]
  /** `params._meta.traceparent`, when well-formed. */
  readonly traceparent: string | undefined
  readonly clientInfo: { readonly name: string; readonly version: string } | undefined
  /** For a response: whether it carries an error. */
  readonly isError: boolean
  /** `params.protocolVersion` of initialize, `params.requestId` of cancelled, … are read from `params` where needed. */
  readonly raw?: JsonValue
}

export interface McpObject {
  readonly kind: 'tool' | 'prompt' | 'resource'
  /** Name, or the URI as it was sent. */
  readonly name: string
  /** For resources: the URI after normalisation, which rules match. */
  readonly normalized: string
  /** Where the URI leads by a shorter address: deny rules are asked about it, allow rules need not know it. */
  readonly isPlace?: true
}

/** What one POST body held: a single message, or a legacy batch when `limits.batch` admits it. */
export interface Posted {
  /** The bytes that were checked and that will be forwarded. */
  readonly bytes: Buffer
  readonly messages: readonly Message[]
  readonly isBatch: boolean
}

import type { Caller } from '../identity/caller.ts'
import type { JsonObject, JsonValue } from '../json.ts'
import type { Message } from '../mcp/message.ts'
import { reachOf } from '../mcp/objects.ts'
import { answerFor } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import { endSession, openStream } from './implicit.ts'

/** A call in few words, as fixtures and the command line give it: one of the four, and what belongs to it. */
export interface CallSpec {
  readonly tool?: string | undefined
  readonly prompt?: string | undefined
  readonly resource?: string | undefined
  /** How the object is reached, when not in the usual way; or a method by itself, `stream/open` and `session/end` too. */
  readonly method?: string | undefined
  readonly args?: JsonObject | undefined
  /** Parameters of a `method`, when there is more to it than a name. */
  readonly params?: JsonObject | undefined
}

/** A caller in few words. Without `user` it is one of whom only the peer is known. */
export interface CallerSpec {
  readonly peer?: string | undefined
  /** URI in the peer's certificate. */
  readonly uri?: string | undefined
  readonly user?: string | undefined
  readonly org?: string | undefined
  readonly scopes?: readonly string[] | undefined
  readonly roles?: readonly string[] | undefined
}

/** The message that such a call would be, read by the same code that reads the wire; or what is wrong with it. */
export function messageFor(spec: CallSpec): Result<Message, string> {
  const { tool, prompt, resource, args } = spec
  if ([tool, prompt, resource].filter(one => one !== undefined).length > 1) {
    return err('name one of tool, prompt and resource')
  }
  const method = spec.method ?? (tool ? 'tools/call' : prompt ? 'prompts/get' : resource ? 'resources/read' : undefined)
  if (method === undefined) return err('name a tool, a prompt, a resource or a method')
  if (method === 'stream/open') return ok(openStream('legacy'))
  if (method === 'session/end') return ok(endSession('legacy'))
  const params: JsonObject = { ...spec.params, ...paramsFor(method, spec) }
  const reach = reachOf(method, params)
  if (!reach.ok) return err(answerFor(reach.error).message)
  return ok({
    kind: method.startsWith('notifications/') ? 'notification' : 'request',
    era: 'modern',
    version: undefined,
    method,
    id: method.startsWith('notifications/') ? undefined : 1,
    objects: reach.value.objects,
    args: args ?? asObject(params['arguments']),
    params,
    taskIds: reach.value.taskIds,
    traceparent: undefined,
    clientInfo: undefined,
    isError: false,
  })
}

function paramsFor(method: string, { tool, prompt, resource, args }: CallSpec): JsonObject {
  const name = tool ?? prompt
  if (method === 'completion/complete' && prompt !== undefined) return { ref: { type: 'ref/prompt', name: prompt } }
  if (method === 'completion/complete' && resource !== undefined)
    return { ref: { type: 'ref/resource', uri: resource } }
  if (method === 'subscriptions/listen' && resource !== undefined) {
    return { notifications: { resourceSubscriptions: [resource] } }
  }
  return {
    ...(name === undefined ? {} : { name }),
    ...(resource === undefined ? {} : { uri: resource }),
    ...(args === undefined ? {} : { arguments: args }),
  }
}

function asObject(value: JsonValue | undefined): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
}

export function callerFor(spec: CallerSpec): Caller {
  const uris = spec.uri === undefined ? [] : [spec.uri]
  const name = spec.peer ?? ''
  return {
    peer: {
      name,
      matched: uris.length === 0 ? '' : `uri:${uris[0]}`,
      certificate: {
        subject: '',
        issuer: '',
        serial: '',
        fingerprint256: '',
        commonName: undefined,
        uris,
        dnsNames: [],
        ips: [],
        notBeforeMs: 0,
        notAfterMs: 0,
        der: NO_BYTES,
        chain: [],
      },
    },
    user:
      spec.user === undefined
        ? undefined
        : {
            id: spec.user,
            org: spec.org,
            email: undefined,
            scopes: spec.scopes ?? [],
            roles: spec.roles ?? [],
            source: 'headers',
            scopesCut: [],
            expiresAtMs: undefined,
          },
  }
}

const NO_BYTES = Buffer.alloc(0)

/** `alice of acme through gateway, scopes mcp.read` */
export function sayCaller(spec: CallerSpec): string {
  const parts = [spec.user === undefined ? 'no user' : spec.user + (spec.org === undefined ? '' : ` of ${spec.org}`)]
  if (spec.peer !== undefined || spec.uri !== undefined) parts[0] += ` through ${spec.peer ?? spec.uri}`
  if (spec.scopes?.length) parts.push(`scopes ${spec.scopes.join(' ')}`)
  if (spec.roles?.length) parts.push(`roles ${spec.roles.join(' ')}`)
  return parts.join(', ')
}

/** `tools/call search_web {"limit":5}` */
export function sayCall(spec: CallSpec): string {
  const message = messageFor(spec)
  const object = spec.tool ?? spec.prompt ?? spec.resource
  const method = message.ok ? message.value.method : (spec.method ?? '')
  const rest = spec.args ?? spec.params
  return [method, object, rest === undefined ? undefined : JSON.stringify(rest)].filter(Boolean).join(' ')
}

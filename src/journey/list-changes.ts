import type { Caller } from '../core/identity/caller.ts'
import { identifyAgain } from '../core/identity/identify.ts'
import { isObject } from '../core/mcp/objects.ts'
import { messageEvent } from '../core/mcp/sse-event.ts'
import { visible } from '../core/policy/decide.ts'
import { matchPeer } from '../core/trust/peer-match.ts'
import type { Settings } from '../live/settings.ts'
import type { Forwarded } from './call.ts'

type ListKind = 'tool' | 'prompt' | 'resource'

const KINDS: readonly ListKind[] = ['tool', 'prompt', 'resource']
const MOST_NAMES = 5000
const LONGEST_NAME = 512

/**
 * Names that the server's own lists have shown. They are what a change of policy can make appear or disappear for the
 * callers of open streams. Bounded; what comes beyond that is not remembered.
 */
export class Catalog {
  readonly #names: Record<ListKind, Set<string>> = { tool: new Set(), prompt: new Set(), resource: new Set() }

  learn(kind: ListKind, name: string): void {
    const names = this.#names[kind]
    if (names.size < MOST_NAMES && name.length <= LONGEST_NAME) names.add(name)
  }

  names(kind: ListKind): ReadonlySet<string> {
    return this.#names[kind]
  }
}

/**
 * The events that tell the client of an open stream which of its lists look different under another policy; none for a
 * stream that does not carry such notifications.
 *
 * @source MCP 2025-11-25 server features (list_changed); 2026-07-28 subscriptions (only what was subscribed to, with the
 *         id of the subscription).
 */
export function listChangedEvents(
  call: Forwarded,
  previous: Settings,
  next: Settings,
  catalog: Catalog,
  nowMs: number,
): Buffer[] {
  const meta = subscriptionOf(call)
  if (meta === undefined) return []
  const peer = matchPeer(next.peers, call.caller.peer.certificate)
  const caller = peer === undefined ? undefined : identifyAgain(next.identity, call.caller, peer, nowMs)
  if (caller?.ok !== true) return []
  return KINDS.filter(
    kind => meta.wants(kind) && looksDifferent(kind, call.caller, previous, caller.value, next, catalog),
  ).map(kind => {
    const notification = { jsonrpc: '2.0', method: `notifications/${kind}s/list_changed`, ...meta.params }
    return messageEvent(Buffer.from(JSON.stringify(notification)))
  })
}

function looksDifferent(
  kind: ListKind,
  before: Caller,
  previous: Settings,
  after: Caller,
  next: Settings,
  catalog: Catalog,
): boolean {
  for (const name of catalog.names(kind)) {
    if (visible(previous.policy, before, kind, name) !== visible(next.policy, after, kind, name)) return true
  }
  return false
}

interface Subscription {
  wants(kind: ListKind): boolean
  readonly params: { readonly params?: { readonly _meta: Record<string, unknown> } }
}

/** A GET stream of the legacy era carries every notification; a modern one what its `subscriptions/listen` asked for. */
function subscriptionOf(call: Forwarded): Subscription | undefined {
  if (call.route.kind === 'stream') return { wants: () => true, params: {} }
  const message = call.posted.messages[0]
  if (message?.method !== 'subscriptions/listen') return undefined
  const wanted = message.params?.['notifications']
  return {
    wants: kind => isObject(wanted) && wanted[`${kind}sListChanged`] === true,
    params: { params: { _meta: { 'io.modelcontextprotocol/subscriptionId': message.id } } },
  }
}

import { buildUpstreamHeaders } from '../core/identity/upstream-headers.ts'
import type { Message } from '../core/mcp/message.ts'
import type { Settings } from '../live/settings.ts'
import type { Admitted, Forwarded } from './call.ts'
import { Relay, type RelayParts } from './relay.ts'

/**
 * Sends the very bytes that were checked, with headers that the upstream can trust, and relays the answer.
 *
 * @param epoch  The breaker's, when it let the call pass.
 */
export function forward(admitted: Admitted, parts: RelayParts, epoch: number): Relay {
  const { arrival, caller, exchange, headers, posted, route, settings } = admitted
  const hasBody = route.kind === 'post'
  const upstreamHeaders = buildUpstreamHeaders(settings.value.identity, headers, caller, {
    requestId: exchange.requestId,
    remoteAddress: exchange.connection.remoteAddress,
    contentLength: hasBody ? posted.bytes.length : undefined,
  })
  const { timeouts } = settings.value.config.upstream
  const relay = new Relay(keptOf(admitted), parts, epoch)
  relay.start({
    method: hasBody ? 'POST' : route.kind === 'stream' ? 'GET' : 'DELETE',
    path: arrival.target,
    headers: upstreamHeaders,
    body: hasBody ? posted.bytes : undefined,
    firstByteMs: firstByteMs(settings.value, posted.messages[0]),
    idleMs: timeouts.streamIdleMs,
  })
  arrival.forgetHead()
  return relay
}

function keptOf(admitted: Admitted): Forwarded {
  const { arrival, exchange, settings, route, caller, session, lease, quotaHeaders } = admitted
  const posted = { messages: admitted.posted.messages }
  const { resumes } = admitted.headers
  return { arrival, exchange, settings, route, caller, posted, session, lease, quotaHeaders, resumes }
}

function firstByteMs(settings: Settings, message: Message | undefined): number {
  const { timeouts } = settings.config.upstream
  const tool = message?.objects[0]
  if (timeouts.tools.length === 0 || tool?.kind !== 'tool') return timeouts.firstByteMs
  for (const { matches, firstByteMs } of settings.toolTimeouts) if (matches(tool.name)) return firstByteMs
  return timeouts.firstByteMs
}

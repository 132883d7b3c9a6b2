import type { Exchange } from '../core/audit/exchange.ts'
import { readRequestId } from '../core/identity/arrival-headers.ts'
import type { Peer } from '../core/identity/caller.ts'
import { identify } from '../core/identity/identify.ts'
import type { TokenVerifier } from '../core/identity/token.ts'
import { believedForwardedFor } from '../core/identity/upstream-headers.ts'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'
import { matchPeer } from '../core/trust/peer-match.ts'
import type { Snapshot } from '../live/live.ts'
import type { Settings } from '../live/settings.ts'
import type { Arrival, ArrivalConnection } from './arrival.ts'
import type { Identified, Received } from './call.ts'
import type { MaybePromise } from './serve-call.ts'

/** Who is calling: the peer by its certificate, judged by this generation's list, and the user it speaks for. */
export function identifyCaller(
  received: Received,
  verifier: TokenVerifier | undefined,
): MaybePromise<Result<Identified, Refusal>> {
  const { arrival, exchange, settings, headers } = received
  const peer = peerOf(arrival.connection, settings)
  if (peer === undefined) return err({ reason: 'peer_not_listed', presented: presentedBy(arrival.connection) })
  exchange.peer = peer
  const { identity } = settings.value
  // Before the user is known: a refused caller's line says as much as can be believed of it.
  if (headers.requestId !== undefined) exchange.requestId = headers.requestId
  exchange.forwardedFor = believedForwardedFor(identity, headers, peer)

  const finish = (caller: Awaited<ReturnType<typeof identify>>): Result<Identified, Refusal> => {
    if (!caller.ok) return caller
    exchange.user = caller.value.user
    return ok({ ...received, caller: caller.value })
  }
  const caller = identify(identity, headers, peer, verifier)
  return caller instanceof Promise ? caller.then(finish) : finish(caller)
}

/** What can be believed of a listed peer whose request is refused before anybody is asked who calls: its name and its id. */
export function recognisePeer(arrival: Arrival, exchange: Exchange, settings: Snapshot<Settings>): void {
  if (exchange.peer !== undefined) return
  const peer = peerOf(arrival.connection, settings)
  if (peer === undefined) return
  exchange.peer = peer
  const requestId = readRequestId(arrival.rawHeaders, settings.value.identity.rules)
  if (requestId !== undefined) exchange.requestId = requestId
}

/** The entry of `peers` for a connection; matched once for each generation of the configuration. */
export function peerOf(connection: ArrivalConnection, settings: Snapshot<Settings>): Peer | undefined {
  const known = connection.peer
  if (known !== undefined && known.generation === settings.generation) return known.peer
  const { certificate } = connection.facts
  const peer = certificate === undefined ? undefined : matchPeer(settings.value.peers, certificate)
  connection.peer = { generation: settings.generation, peer }
  return peer
}

/** What a certificate calls itself, for the line of a refusal. */
export function presentedBy(connection: ArrivalConnection): string {
  const { certificate } = connection.facts
  return certificate?.uris[0] ?? certificate?.dnsNames[0] ?? certificate?.subject ?? ''
}

import type { Peer } from '../core/identity/caller.ts'
import { identifyAgain } from '../core/identity/identify.ts'
import { decide } from '../core/policy/decide.ts'
import { matchPeer } from '../core/trust/peer-match.ts'
import type { Settings } from '../live/settings.ts'
import type { Forwarded } from './call.ts'

/**
 * Why the caller of an open stream would be refused by another generation of the configuration; undefined when it may
 * stay. A deny rule is thereby the kill switch for a user, a peer or a tool.
 */
export function judgeStream(call: Forwarded, settings: Settings, nowMs: number): string | undefined {
  const { certificate } = call.caller.peer
  const peer: Peer | undefined = matchPeer(settings.peers, certificate)
  if (peer === undefined) return 'peer_not_listed'
  // The token is not kept, so whether it would still do can only be asked with the next request.
  if (call.caller.user !== undefined && call.caller.user.source !== 'headers') {
    if (JSON.stringify(settings.config.identity.jwt) !== JSON.stringify(call.settings.value.config.identity.jwt))
      return 'user_token_invalid'
  }
  const caller = identifyAgain(settings.identity, call.caller, peer, nowMs)
  if (!caller.ok) return caller.error.reason
  for (const message of call.posted.messages) {
    const verdict = decide(settings.policy, caller.value, message)
    if (verdict.effect === 'deny' && verdict.mode === 'enforce')
      return `${verdict.denied?.kind ?? 'method'}_not_permitted`
  }
  return undefined
}

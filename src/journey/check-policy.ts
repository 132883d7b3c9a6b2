import { scopesToAskFor } from '../core/identity/challenge.ts'
import { decide } from '../core/policy/decide.ts'
import type { Verdict } from '../core/policy/verdict.ts'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Called, Permitted } from './call.ts'

/** Whether this caller may do this. Each element of a batch is judged, and one that is denied denies all. */
export function checkPolicy(called: Called): Result<Permitted, Refusal> {
  const { caller, exchange, posted, settings } = called
  let verdict: Verdict | undefined
  for (const message of posted.messages) {
    const next = decide(settings.value.policy, caller, message)
    // Of those that are served, the line names the one that would have been denied.
    if (verdict === undefined || next.effect === 'deny') verdict = next
    if (next.effect === 'deny' && next.mode === 'enforce') break
  }
  if (verdict === undefined) throw new Error('a call without a message')
  exchange.verdict = verdict
  if (verdict.effect === 'deny' && verdict.mode === 'enforce') return err(refusalFor(verdict, called))
  return ok({ ...called, verdict })
}

/**
 * A token's user for whom only scopes are missing is told which, so that a client can step up. Not so when the peer may
 * not assert one of them: it would be cut from every token, and the client would fetch tokens without end.
 */
function refusalFor(verdict: Verdict, called: Called): Refusal {
  const { missingScopes, rule } = verdict
  const { caller, settings } = called
  const { kind, name } = verdict.denied ?? { kind: 'method', name: called.posted.messages[0]?.method ?? '' }
  const { user, peer } = caller
  if (missingScopes.length > 0 && user !== undefined && user.source !== 'headers') {
    const ceiling = settings.value.identity.assertions.get(peer.name)
    const cut = missingScopes.filter(scope => !user.scopes.includes(scope) && ceiling?.scopes(scope) !== true)
    if (cut.length > 0) {
      const detail = `peer ${peer.name} may not assert scope ${cut.join(' ')} (mayAssert.scopes)`
      return { reason: `${kind}_not_permitted`, name, rule, detail }
    }
    const required = settings.value.config.identity.jwt?.requiredScopes ?? []
    return { reason: 'user_scope_missing', requiredScopes: scopesToAskFor(required, missingScopes) }
  }
  return { reason: `${kind}_not_permitted`, name, rule }
}

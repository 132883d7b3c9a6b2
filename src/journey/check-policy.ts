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

/** A token's user for whom only scopes are missing is told which, so that a client can step up. */
function refusalFor(verdict: Verdict, called: Called): Refusal {
  const { missingScopes, rule } = verdict
  const source = called.caller.user?.source
  if (missingScopes.length > 0 && (source === 'jwt' || source === 'both')) {
    return { reason: 'user_scope_missing', requiredScopes: missingScopes }
  }
  const { kind, name } = verdict.denied ?? { kind: 'method', name: called.posted.messages[0]?.method ?? '' }
  return { reason: `${kind}_not_permitted`, name, rule }
}

import { performance } from 'node:perf_hooks'
import type { CompiledQuotas } from '../core/quota/compile.ts'
import type { QuotaDecision } from '../core/quota/decision.ts'
import { type Demand, demandsFor } from '../core/quota/demand.ts'
import { rateLimitHeaders } from '../core/quota/headers.ts'
import type { Refusal } from '../core/refusal.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Admitted, Permitted } from './call.ts'
import type { MaybePromise } from './serve-call.ts'

/** Where it is known what has been used; answers at once unless another process is asked. */
export interface QuotaLedger {
  readonly quotas: CompiledQuotas
  draw(demands: readonly Demand[], nowMono: number): MaybePromise<QuotaDecision>
}

/** Whether there is room for this call in every quota that covers it. A refused call charges nothing anywhere. */
export function drawQuota(permitted: Permitted, ledger: QuotaLedger): MaybePromise<Result<Admitted, Refusal>> {
  const { quotas } = ledger
  const demands = demandsFor(quotas, permitted.caller, permitted.session, permitted.posted.messages)
  if (demands.length === 0) return ok({ ...permitted, lease: undefined, quotaHeaders: NONE })

  const settle = (decision: QuotaDecision): Result<Admitted, Refusal> => {
    permitted.exchange.quota = decision.reading
    const when = permitted.settings.value.config.quotaHeaders
    const quotaHeaders = rateLimitHeaders(quotas, demands, decision, when)
    if (decision.admitted) {
      permitted.exchange.drawn = demands
      return ok({ ...permitted, lease: decision.lease, quotaHeaders })
    }
    permitted.arrival.quotaHeaders = quotaHeaders
    return err(decision.refusal)
  }
  const decision = ledger.draw(demands, performance.now())
  return decision instanceof Promise ? decision.then(settle) : settle(decision)
}

const NONE: readonly string[] = []

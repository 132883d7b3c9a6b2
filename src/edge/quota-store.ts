import type { QuotaConfig, QuotaStoreConfig } from '../config/config.ts'
import type { CompiledQuotas } from '../core/quota/compile.ts'
import type { QuotaDecision } from '../core/quota/decision.ts'
import type { Demand } from '../core/quota/demand.ts'
import type { QuotaExplanation, QuotaQuestion } from '../core/quota/explain.ts'
import type { LedgerStatus } from '../core/quota/ledger.ts'
import { MemoryQuotaStore } from './quota-store/memory.ts'
import { replicaCount } from './quota-store/replicas.ts'

/**
 * Where it is known what has been used. A call goes through it once, between policy and the upstream:
 *
 *     const demands = demandsFor(store.quotas, caller, session, posted.messages)
 *     const decision = store.draw(demands, performance.now())     // a promise only when another process is asked
 *     …
 *     if (decision.admitted) decision.lease?.release()            // when the exchange closes, whatever happened
 */
export interface QuotaStore {
  /** The quotas in use; demands are made from them. Read it anew for each call. */
  readonly quotas: CompiledQuotas
  /** Admits and charges, or refuses and charges nothing. @param nowMs  `performance.now()`. */
  draw(demands: readonly Demand[], nowMs: number): QuotaDecision | Promise<QuotaDecision>
  /** What a user's buckets hold. */
  explain(question: QuotaQuestion, nowMs: number): Promise<QuotaExplanation[]>
  status(): QuotaStoreStatus
  /** Goes on with other quotas; what has been used of a quota of the same name and key stays used. */
  reconfigure(quotas: readonly QuotaConfig[], nowMs: number): void
  close(): Promise<void>
}

/** For `/readyz` (details only: quotas never make a sidecar unready) and the metrics. */
export interface QuotaStoreStatus {
  readonly kind: 'memory' | 'redis'
  /** False: what is shared cannot be reached, and `onFailure` decides. The metric `mcp_sidecar_quota_store_up`. */
  readonly up: boolean
  /** One line for people: `redis at cache:6379: connected`. Without credentials. */
  readonly detail: string
  /** Among how many sidecars the limits are divided. */
  readonly replicas: number
  readonly ledger: LedgerStatus
}

/** What the stores need of the world around them; the defaults are the real ones. */
export interface QuotaStoreDeps {
  /** Something worth a line in the operational log has happened. */
  readonly report?: (line: string) => void
}

/** Opens the store that the configuration names. Never fails because of Redis or DNS: that is what `onFailure` is for. */
export async function openQuotaStore(
  config: QuotaStoreConfig,
  quotas: readonly QuotaConfig[],
  deps: QuotaStoreDeps = {},
): Promise<QuotaStore> {
  if (config.kind === 'redis') {
    const { RedisQuotaStore } = await import('./quota-store/redis.ts')
    return RedisQuotaStore.open(config, quotas, deps)
  }
  return new MemoryQuotaStore(quotas, await replicaCount(config.share, deps))
}

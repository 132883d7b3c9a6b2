import type { QuotaConfig } from '../../config/config.ts'
import { type CompiledQuotas, compileQuotas } from '../../core/quota/compile.ts'
import type { QuotaDecision } from '../../core/quota/decision.ts'
import type { Demand } from '../../core/quota/demand.ts'
import { bucketsOf, explainBucket, type QuotaExplanation, type QuotaQuestion } from '../../core/quota/explain.ts'
import { Ledger } from '../../core/quota/ledger.ts'
import type { QuotaStore, QuotaStoreStatus } from '../quota-store.ts'
import { ONE_REPLICA, type ReplicaCount } from './replicas.ts'

/** Quotas that are kept in this process, divided among the replicas when there are several. Answers at once. */
export class MemoryQuotaStore implements QuotaStore {
  #config: readonly QuotaConfig[]
  readonly #ledger: Ledger
  readonly #replicas: ReplicaCount

  constructor(quotas: readonly QuotaConfig[], replicas: ReplicaCount = ONE_REPLICA, budgetBytes?: number) {
    this.#config = quotas
    this.#replicas = replicas
    this.#ledger = new Ledger(compileQuotas(quotas, replicas.current), budgetBytes)
    replicas.follow(() => this.reconfigure(this.#config, performance.now()))
  }

  get quotas(): CompiledQuotas {
    return this.#ledger.compiled
  }

  draw(demands: readonly Demand[], nowMs: number): QuotaDecision {
    return this.#ledger.draw(demands, nowMs)
  }

  async explain(question: QuotaQuestion, nowMs: number): Promise<QuotaExplanation[]> {
    return bucketsOf(this.quotas, question, quota => this.#ledger.keys(quota)).map(bucket =>
      explainBucket(bucket, this.#ledger.inspect(bucket.quota, bucket.key, nowMs), question.tool),
    )
  }

  status(): QuotaStoreStatus {
    return {
      kind: 'memory',
      up: true,
      detail: this.#replicas.detail,
      replicas: this.quotas.replicas,
      ledger: this.#ledger.status(),
    }
  }

  reconfigure(quotas: readonly QuotaConfig[], nowMs: number): void {
    this.#config = quotas
    this.#ledger.reconfigure(compileQuotas(quotas, this.#replicas.current), nowMs)
  }

  async close(): Promise<void> {
    this.#replicas.close()
  }
}

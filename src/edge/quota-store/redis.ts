import { hash } from 'node:crypto'
import type { QuotaConfig, QuotaStoreConfig } from '../../config/config.ts'
import { type CompiledQuota, type CompiledQuotas, compileQuotas } from '../../core/quota/compile.ts'
import type { QuotaDecision } from '../../core/quota/decision.ts'
import type { Demand } from '../../core/quota/demand.ts'
import { bucketsOf, explainBucket, type QuotaExplanation, type QuotaQuestion } from '../../core/quota/explain.ts'
import { Ledger, type Refused } from '../../core/quota/ledger.ts'
import type { QuotaReading } from '../../core/quota/reading.ts'
import type { QuotaStore, QuotaStoreDeps, QuotaStoreStatus } from '../quota-store.ts'
import { Debts } from './debts.ts'
import { PROBE_EVERY_MS, RedisLink } from './redis-link.ts'

/**
 * Quotas that several sidecars share. Redis decides the windows, in one round trip for each call; what this sidecar has
 * admitted is also kept in a ledger of its own, which does three things:
 *
 * - while Redis is away (`onFailure: local`) it decides, and it knows what was admitted before;
 * - it is asked together with Redis, so that a Redis that comes back empty does not admit everything a second time;
 * - concurrency slots live only there: they hold for each sidecar on its own.
 *
 * What was admitted without Redis is a debt, which is written to Redis before calls are sent to it again.
 */
export class RedisQuotaStore implements QuotaStore {
  readonly #ledger: Ledger
  readonly #link: RedisLink
  readonly #debts = new Debts()
  readonly #onFailure: 'local' | 'deny'
  readonly #prefix: string
  readonly #where: string
  readonly #clock: 'redis' | 'given'

  /** @param clock  `given`: Redis counts on the clock of the caller of `draw`, which is for tests of the arithmetic. */
  static async open(
    config: Extract<QuotaStoreConfig, { kind: 'redis' }>,
    quotas: readonly QuotaConfig[],
    deps: QuotaStoreDeps = {},
    clock: 'redis' | 'given' = 'redis',
  ): Promise<RedisQuotaStore> {
    const store = new RedisQuotaStore(config, quotas, deps, clock)
    // Calls that come before this are treated as if Redis were away; the start does not wait longer than this for it.
    await store.#link.firstUp(FIRST_UP_MS)
    return store
  }

  private constructor(
    config: Extract<QuotaStoreConfig, { kind: 'redis' }>,
    quotas: readonly QuotaConfig[],
    deps: QuotaStoreDeps,
    clock: 'redis' | 'given',
  ) {
    const { url, where, prefix } = readUrl(config.url)
    const report = deps.report ?? (() => undefined)
    this.#ledger = new Ledger(compileQuotas(quotas))
    this.#onFailure = config.onFailure
    this.#prefix = `{${prefix}}`
    this.#where = where
    this.#clock = clock
    const meanwhile =
      config.onFailure === 'local' ? 'each sidecar limits on its own' : 'metered calls are refused (onFailure: deny)'
    this.#link = new RedisLink({
      url,
      deadlineMs: config.deadlineMs,
      probeKey: `${this.#prefix}:probe`,
      beforeUp: () => this.#payDebts(),
      onUp: () => report(`quotas: redis at ${where} answers, limits are shared`),
      onDown: why => report(`quotas: redis at ${where} is not usable (${why}); ${meanwhile}`),
    })
  }

  get quotas(): CompiledQuotas {
    return this.#ledger.compiled
  }

  draw(demands: readonly Demand[], nowMs: number): QuotaDecision | Promise<QuotaDecision> {
    if (!demands.some(({ cost }) => cost > 0)) return this.#ledger.draw(demands, nowMs)
    if (!this.#link.usable) return this.#withoutRedis(demands, nowMs)
    return this.#withRedis(demands, nowMs)
  }

  async explain(question: QuotaQuestion, nowMs: number): Promise<QuotaExplanation[]> {
    const explanations: QuotaExplanation[] = []
    for (const bucket of bucketsOf(this.quotas, question, quota => this.#ledger.keys(quota))) {
      const state = this.#ledger.inspect(bucket.quota, bucket.key, nowMs)
      const keys = bucket.quota.windows.map(({ perMs }) => this.#keyOf(bucket.quota, perMs, bucket.key))
      const args = [
        this.#nowArg(nowMs),
        '0',
        ...bucket.quota.windows.flatMap(({ perMs, limit }) => [`${perMs}`, `${limit}`, '1', '0']),
      ]
      const answer = this.#link.usable && keys.length > 0 ? await this.#link.runPatiently(keys, args) : undefined
      const windows = bucket.quota.windows.map((_, at) => ({
        used: answer?.[3 * at + 1] ?? state.windows[at]?.used ?? 0,
        nextFreeMs: answer?.[3 * at + 2] ?? state.windows[at]?.nextFreeMs ?? 0,
        resetMs: answer?.[3 * at + 3] ?? state.windows[at]?.resetMs ?? 0,
      }))
      const explained = explainBucket(bucket, { ...state, isOverflow: false, windows }, question.tool)
      const note = keys.length === 0 || answer !== undefined ? undefined : 'redis is away: this sidecar only'
      explanations.push({ ...explained, note })
    }
    return explanations
  }

  status(): QuotaStoreStatus {
    return {
      kind: 'redis',
      up: this.#link.up,
      detail: `redis at ${this.#where}: ${this.#link.detail}${this.#link.up ? '' : ` (onFailure: ${this.#onFailure})`}`,
      replicas: 1,
      ledger: this.#ledger.status(),
    }
  }

  reconfigure(quotas: readonly QuotaConfig[], nowMs: number): void {
    this.#ledger.reconfigure(compileQuotas(quotas), nowMs)
  }

  async close(): Promise<void> {
    this.#link.close()
  }

  async #withRedis(demands: readonly Demand[], nowMs: number): Promise<QuotaDecision> {
    // Charged here first, so that calls that wait for Redis together cannot pass the local limit together.
    const local = this.#ledger.draw(demands, nowMs, true)
    if (!local.admitted && local.refusal.reason !== 'quota_exhausted') return local
    const drawnAtMs = this.#ledger.drawnAtMs
    const draw = this.#drawOf(demands, nowMs, local.admitted)
    let admittedAlone = false
    const answer = await this.#link.run(draw.keys, draw.args, lateAnswer => {
      if (lateAnswer === undefined) this.#oweAll(draw.debts)
      if (admittedAlone && lateAnswer?.[0] !== 1) this.#owe(demands)
    })
    if (answer === 'late' || answer === 'failed') {
      if (answer === 'failed') this.#oweAll(draw.debts)
      if (!local.admitted) return local
      if (this.#onFailure === 'local') {
        if (answer === 'failed') this.#owe(demands)
        admittedAlone = true
        return local
      }
    } else if (local.admitted && answer[0] === 1) {
      return { admitted: true, reading: tightest(draw.windows, answer), lease: local.lease }
    }
    if (local.admitted) {
      local.lease?.release()
      this.#ledger.refund(demands, drawnAtMs)
    }
    return typeof answer === 'string' ? STORE_DOWN : latest(local, draw.windows, answer)
  }

  #withoutRedis(demands: readonly Demand[], nowMs: number): QuotaDecision {
    if (this.#onFailure === 'deny') return STORE_DOWN
    const decision = this.#ledger.draw(demands, nowMs)
    if (decision.admitted) this.#owe(demands)
    return decision
  }

  #drawOf(demands: readonly Demand[], nowMs: number, charge: boolean): Draw {
    const keys: string[] = []
    const args = [this.#nowArg(nowMs), charge ? '1' : '0']
    const windows: DrawnWindow[] = []
    const debts: Draw['debts'] = []
    for (const { quota, key, cost } of demands) {
      if (cost === 0) continue
      const debt = this.#debts.take(quota.identity, key)
      if (debt > 0) debts.push({ quota, key, units: debt })
      const digest = digestOf(quota, key)
      for (const { perMs, limit } of quota.windows) {
        keys.push(`${this.#prefix}:${perMs}:${digest}`)
        args.push(`${perMs}`, `${limit}`, `${cost}`, `${debt}`)
        windows.push({ name: quota.name, perMs, limit, cost })
      }
    }
    return { keys, args, windows, debts }
  }

  #nowArg(nowMs: number): string {
    return this.#clock === 'given' ? String(nowMs) : ''
  }

  #keyOf(quota: CompiledQuota, perMs: number, key: string): string {
    return `${this.#prefix}:${perMs}:${digestOf(quota, key)}`
  }

  #owe(demands: readonly Demand[]): void {
    for (const { quota, key, cost } of demands) {
      if (cost > 0 && quota.windows.length > 0) this.#debts.add(quota.identity, key, cost)
    }
  }

  #oweAll(debts: Draw['debts']): void {
    for (const { quota, key, units } of debts) this.#debts.add(quota.identity, key, units)
  }

  /** Writes what was admitted without Redis, at most for a while: Redis must not stay away because of it. */
  async #payDebts(): Promise<void> {
    const byIdentity = new Map(this.quotas.quotas.map(quota => [quota.identity, quota]))
    for (let batches = 0; batches < MAX_DEBT_BATCHES && this.#debts.size > 0; batches++) {
      const debts = this.#debts.takeSome(DEBTS_PER_BATCH)
      const keys: string[] = []
      const args = ['', '1']
      for (const { identity, key, units } of debts) {
        const quota = byIdentity.get(identity)
        for (const { perMs, limit } of quota?.windows ?? []) {
          if (quota === undefined) continue
          keys.push(this.#keyOf(quota, perMs, key))
          args.push(`${perMs}`, `${limit}`, '0', `${units}`)
        }
      }
      if (keys.length === 0) continue
      if ((await this.#link.runPatiently(keys, args)) !== undefined) continue
      for (const { identity, key, units } of debts) this.#debts.add(identity, key, units)
      return
    }
  }
}

interface DrawnWindow {
  readonly name: string
  readonly perMs: number
  readonly limit: number
  readonly cost: number
}

interface Draw {
  readonly keys: string[]
  readonly args: string[]
  readonly windows: DrawnWindow[]
  readonly debts: { readonly quota: CompiledQuota; readonly key: string; readonly units: number }[]
}

const STORE_DOWN: QuotaDecision = {
  admitted: false,
  refusal: { reason: 'quota_store_down', retryAfterMs: 4 * PROBE_EVERY_MS },
  reading: undefined,
}

const FIRST_UP_MS = 1000
const DEBTS_PER_BATCH = 100
const MAX_DEBT_BATCHES = 1000

/** Neither names nor their lengths reach Redis. */
function digestOf(quota: CompiledQuota, key: string): string {
  return hash('sha256', `${quota.identity}${key}`, 'base64url')
}

function tightest(windows: readonly DrawnWindow[], answer: readonly number[]): QuotaReading | undefined {
  let reading: QuotaReading | undefined
  for (let at = 0; at < windows.length; at++) {
    const { name, limit, perMs } = windows[at]!
    const remaining = Math.max(0, limit - (answer[3 * at + 1] ?? 0))
    if (reading !== undefined && reading.remaining <= remaining) continue
    reading = { name, limit, windowMs: perMs, remaining, resetMs: answer[3 * at + 3] ?? 0 }
  }
  return reading
}

/** The refusal that holds longest, of Redis and of this sidecar's own ledger: only then does a retry succeed. */
function latest(local: QuotaDecision, windows: readonly DrawnWindow[], answer: readonly number[]): Refused {
  let refused: Refused | undefined = local.admitted ? undefined : local
  for (let at = 0; at < windows.length; at++) {
    const { name, limit, perMs, cost } = windows[at]!
    const used = answer[3 * at + 1] ?? 0
    const retryAfterMs = answer[3 * at + 2] ?? 0
    if (used + cost <= limit || (refused !== undefined && refused.refusal.retryAfterMs >= retryAfterMs)) continue
    refused = {
      admitted: false,
      refusal: { reason: 'quota_exhausted', quota: name, limit, windowMs: perMs, retryAfterMs },
      reading: {
        name,
        limit,
        windowMs: perMs,
        remaining: Math.max(0, limit - used),
        resetMs: answer[3 * at + 3] ?? 0,
      },
    }
  }
  if (refused === undefined) throw new Error('a draw was refused by nobody')
  return refused
}

/**
 * `redis[s]://[user:password@]host[:port][/db][?prefix=name]`. Sidecars that use the same Redis, database and prefix
 * share their quotas.
 */
function readUrl(text: string): { url: string; where: string; prefix: string } {
  const url = new URL(text)
  const prefix = url.searchParams.get('prefix') ?? 'mcp-sidecar'
  url.search = ''
  return { url: url.href, where: url.host, prefix: prefix.replace(/[{}]/g, '_') }
}

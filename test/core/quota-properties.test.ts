import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { QuotaConfig } from '../../src/config/config.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { MemoryQuotaStore } from '../../src/edge/quota-store/memory.ts'
import { RedisQuotaStore } from '../../src/edge/quota-store/redis.ts'
import type { QuotaStore } from '../../src/edge/quota-store.ts'
import { caller, callTool, quota } from '../support/quotas.ts'
import { hasRedis, redisTitle, startRedis, type TestRedis } from '../support/redis.ts'

/**
 * One suite for every store. A model writes down each admitted call in real time, which only goes forward; the store is
 * told the time by a clock that now and then jumps back. After each step the promises are checked against the model.
 */

type Step =
  | { do: 'call'; user: string; tool: string; count: number }
  | { do: 'wait'; ms: number }
  | { do: 'retry'; user: string; tool: string }
  | { do: 'reload'; to: number }
  | { do: 'jump back'; ms: number }

const GENERATIONS: readonly QuotaConfig[][] = [
  [
    quota('fast', { windows: [{ limit: 4, perMs: 1000 }], cost: [{ tool: 'heavy', weight: 3 }] }),
    quota('slow', {
      key: ['user', 'tool'],
      windows: [
        { limit: 3, perMs: 700 * 3 },
        { limit: 7, perMs: 10_000 },
      ],
    }),
  ],
  // The same with other limits: what was used stays used.
  [
    quota('slow', {
      key: ['user', 'tool'],
      windows: [
        { limit: 2, perMs: 700 * 3 },
        { limit: 300, perMs: 10_000 },
      ],
    }),
    quota('fast', { windows: [{ limit: 6, perMs: 1000 }], cost: [{ tool: 'heavy', weight: 3 }] }),
  ],
]

const user = fc.constantFrom('ana@acme', 'ana@other', 'bob@acme')
const tool = fc.constantFrom('light', 'heavy')
const call = fc.record({ do: fc.constant('call' as const), user, tool, count: fc.integer({ min: 1, max: 2 }) })
const wait = fc.record({
  do: fc.constant('wait' as const),
  ms: fc.oneof(fc.integer({ min: 0, max: 120 }), fc.integer({ min: 100, max: 12_000 })),
})
const retry = fc.record({ do: fc.constant('retry' as const), user, tool })
const reload = fc.record({ do: fc.constant('reload' as const), to: fc.integer({ min: 0, max: 1 }) })
const jumpBack = fc.record({ do: fc.constant('jump back' as const), ms: fc.integer({ min: 1, max: 20_000 }) })

const steady = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: call },
    { weight: 4, arbitrary: wait },
    { weight: 2, arbitrary: retry },
    { weight: 1, arbitrary: reload },
  ),
  { minLength: 10, maxLength: 60 },
)
const jumpy = fc.array(
  fc.oneof(
    { weight: 10, arbitrary: call },
    { weight: 4, arbitrary: wait },
    { weight: 1, arbitrary: jumpBack },
    { weight: 1, arbitrary: reload },
  ),
  { minLength: 10, maxLength: 60 },
)

class World {
  readonly store: QuotaStore
  config = GENERATIONS[0]!
  realMs = 0
  offsetMs = 1_000_000
  readonly admitted: { bucket: string; atMs: number; cost: number }[] = []

  constructor(store: QuotaStore) {
    this.store = store
  }

  get clockMs(): number {
    return this.realMs + this.offsetMs
  }

  used(bucket: string, lastMs: number): number {
    let sum = 0
    for (const call of this.admitted) {
      if (call.bucket === bucket && call.atMs >= this.realMs - lastMs) sum += call.cost
    }
    return sum
  }

  /** Draws once and checks that the answer is within what was promised. Returns ms to wait, 0 when admitted. */
  async call(who: string, tool: string, count: number, jumped: boolean): Promise<number> {
    const messages = Array.from({ length: count }, () => callTool(tool))
    const demands = demandsFor(this.store.quotas, caller(who), undefined, messages)
    const decision = await this.store.draw(demands, this.clockMs)
    let mustRefuse = false
    let mayRefuse = false
    for (const demand of demands) {
      const bucket = `${demand.quota.name} ${demand.key}`
      for (const { limit, perMs } of demand.quota.windows) {
        if (this.used(bucket, perMs) + demand.cost > limit) mustRefuse = true
        if (this.used(bucket, (perMs * 33) / 32) + demand.cost > limit) mayRefuse = true
      }
    }
    if (decision.admitted) {
      expect(mustRefuse, 'a window would hold more than its limit').toBe(false)
      for (const { quota, key, cost } of demands) {
        this.admitted.push({ bucket: `${quota.name} ${key}`, atMs: this.realMs, cost })
      }
      return 0
    }
    // Refused calls have charged nothing: otherwise something would be refused that the model has room for.
    if (!jumped) expect(mayRefuse, 'refused although there is room').toBe(true)
    expect(decision.refusal.reason).toBe('quota_exhausted')
    return decision.refusal.retryAfterMs
  }

  async step(step: Step, jumped: boolean): Promise<void> {
    if (step.do === 'wait') this.realMs += step.ms
    else if (step.do === 'jump back') this.offsetMs -= step.ms
    else if (step.do === 'reload') {
      this.config = GENERATIONS[step.to]!
      this.store.reconfigure(this.config, this.clockMs)
    } else if (step.do === 'call') await this.call(step.user, step.tool, step.count, jumped)
    else {
      const waitMs = await this.call(step.user, step.tool, 1, jumped)
      if (waitMs === 0) return
      this.realMs += waitMs - 1
      expect(await this.call(step.user, step.tool, 1, jumped), 'one ms before its time').toBeGreaterThan(0)
      this.realMs += 1
      expect(await this.call(step.user, step.tool, 1, jumped), 'at the time that was named').toBe(0)
    }
  }
}

let redis: TestRedis | undefined
beforeAll(async () => {
  if (hasRedis) redis = await startRedis()
})
afterAll(async () => {
  await redis?.close()
})

let runs = 0
const STORES = [
  { name: 'memory', numRuns: 300, skipped: false, open: async () => new MemoryQuotaStore(GENERATIONS[0]!) },
  {
    name: redisTitle('redis'),
    numRuns: 40,
    skipped: !hasRedis,
    open: () =>
      RedisQuotaStore.open(
        { kind: 'redis', url: `${redis?.url}?prefix=run-${runs++}`, onFailure: 'deny', deadlineMs: 5000 },
        GENERATIONS[0]!,
        {},
        'given',
      ),
  },
]

describe.each(STORES)('$name', ({ open, numRuns, skipped }) => {
  test.skipIf(skipped)(
    'no interval holds more than its limit, refusals charge nothing and name the right time',
    async () => {
      await fc.assert(
        fc.asyncProperty(steady, async steps => {
          const world = new World(await open())
          try {
            for (const step of steps) await world.step(step, false)
          } finally {
            await world.store.close()
          }
        }),
        { numRuns },
      )
    },
  )

  test.skipIf(skipped)('a clock that jumps back frees nothing early and locks nobody out', async () => {
    await fc.assert(
      fc.asyncProperty(jumpy, async steps => {
        const world = new World(await open())
        try {
          for (const step of steps) await world.step(step, true)
          // However far it went back: each bucket is usable again after one window, counted from its next use.
          await world.call('ana@acme', 'light', 1, true)
          world.realMs += (10_000 * 33) / 32 + 400
          expect(await world.call('ana@acme', 'light', 1, true)).toBe(0)
        } finally {
          await world.store.close()
        }
      }),
      { numRuns },
    )
  })
})

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { QuotaDecision } from '../../src/core/quota/decision.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { RedisQuotaStore } from '../../src/edge/quota-store/redis.ts'
import { caller, callTool, quota } from '../support/quotas.ts'
import { hasRedis, redisTitle, startRedis, type TestRedis } from '../support/redis.ts'

const LIMIT = 20
const QUOTAS = [
  quota('per-user', {
    windows: [
      { limit: LIMIT, perMs: 600_000 },
      { limit: 1000, perMs: 3_600_000 },
    ],
    concurrent: 100,
  }),
]

let redis: TestRedis
let stores: RedisQuotaStore[]

describe.skipIf(!hasRedis)(redisTitle('quotas in a Redis that fails'), () => {
  beforeEach(async () => {
    redis = await startRedis()
    stores = []
  })
  afterEach(async () => {
    for (const store of stores) await store.close()
    await redis.close()
  })

  test('killed: calls go on at once, and the limit still holds for this sidecar', async () => {
    const store = await open()
    expect(await admittedOf(store, 12)).toBe(12)
    await redis.kill()
    expect(await admittedOf(store, 30)).toBe(LIMIT - 12)
    expect(store.status()).toMatchObject({ kind: 'redis', up: false })
  })

  test('killed, with onFailure deny: calls are refused as undecided and charge nothing', async () => {
    const store = await open('deny')
    await redis.kill()
    await eventually(() => !store.status().up)
    const decision = await draw(store)
    expect(decision).toMatchObject({ admitted: false, refusal: { reason: 'quota_store_down' } })
    await redis.start()
    await eventually(() => store.status().up)
    expect(await admittedOf(store, 30)).toBe(LIMIT)
  })

  test('restarted empty under load: no call fails, nothing is admitted twice', async () => {
    const store = await open()
    const reasons = new Set<string>()
    // Redis takes the knowledge of these with it.
    let admitted = await admittedOf(store, 12)
    let stop = false
    const load = (async () => {
      while (!stop) {
        const decisions = await Promise.all(Array.from({ length: 5 }, () => draw(store)))
        for (const decision of decisions) {
          if (decision.admitted) {
            admitted++
            decision.lease?.release()
          } else reasons.add(decision.refusal.reason)
        }
        await pause(10)
      }
    })()
    await redis.kill()
    await eventually(() => !store.status().up)
    await redis.start()
    await eventually(() => store.status().up)
    await pause(100)
    stop = true
    await load
    expect(admitted).toBe(LIMIT)
    expect([...reasons]).toEqual(['quota_exhausted'])
  })

  test('what was admitted without Redis is written to it before others can use it again', async () => {
    const store = await open()
    await redis.kill()
    await eventually(() => !store.status().up)
    expect(await admittedOf(store, 15)).toBe(15)
    await redis.start()
    await eventually(() => store.status().up)
    expect(await admittedOf(await open(), 30)).toBe(LIMIT - 15)
  })

  test('stopped (SIGSTOP): nobody waits longer than the deadline, and after a few calls nobody waits at all', async () => {
    const store = await open()
    expect(await admittedOf(store, 12)).toBe(12)
    redis.signal('SIGSTOP')
    try {
      expect(await admittedOf(store, 30)).toBe(LIMIT - 12)
      expect(store.status().up).toBe(false)
      // With the breaker open the answer is there without a promise.
      expect(store.draw(demands(store), performance.now())).not.toBeInstanceOf(Promise)
    } finally {
      redis.signal('SIGCONT')
    }
    await eventually(() => store.status().up)
    expect(await admittedOf(store, 5)).toBe(0)
    // Some were charged by Redis when it woke up, the others were written by this sidecar: none is missing.
    expect(await admittedOf(await open(), 30)).toBe(0)
  })

  test('slow: an answer that comes after the deadline is not counted twice', async () => {
    const store = await open()
    await redis.command('CLIENT', 'PAUSE', '600', 'ALL')
    expect(await admittedOf(store, 5)).toBe(5)
    await eventually(() => store.status().up)
    expect(await admittedOf(await open(), 30)).toBe(LIMIT - 5)
  })

  test('full (maxmemory, noeviction): calls go on, and Redis is used again when it has room', async () => {
    const store = await open()
    expect(await admittedOf(store, 2)).toBe(2)
    await redis.command('CONFIG', 'SET', 'maxmemory', '1')
    expect(await admittedOf(store, 10)).toBe(10)
    expect(store.status().up).toBe(false)
    expect(store.status().detail).toContain('OOM')
    await redis.command('CONFIG', 'SET', 'maxmemory', '0')
    await eventually(() => store.status().up)
    expect(await admittedOf(store, 30)).toBe(LIMIT - 12)
    expect(await admittedOf(await open(), 5)).toBe(0)
  })

  test('absent from the beginning: the sidecar starts and limits on its own', async () => {
    await redis.kill()
    const store = await open()
    expect(await admittedOf(store, 30)).toBe(LIMIT)
    await redis.start()
    await eventually(() => store.status().up)
    expect(await admittedOf(await open(), 30)).toBe(0)
  })

  test('a password in the URL is used and never shown', async () => {
    await redis.command('CONFIG', 'SET', 'requirepass', 'secret')
    const lines: string[] = []
    const config = { kind: 'redis', onFailure: 'local', deadlineMs: 50 } as const
    const right = await RedisQuotaStore.open({ ...config, url: redis.url.replace('//', '//:secret@') }, QUOTAS)
    const wrong = await RedisQuotaStore.open({ ...config, url: redis.url.replace('//', '//:wrong-secret@') }, QUOTAS, {
      report: line => lines.push(line),
    })
    stores.push(right, wrong)
    expect(right.status().up).toBe(true)
    expect(wrong.status().up).toBe(false)
    expect(wrong.status().detail).toContain('WRONGPASS')
    expect(JSON.stringify([wrong.status(), right.status(), lines])).not.toContain('secret')
  })

  test('what Redis refuses is not charged here either', async () => {
    expect(await admittedOf(await open(), LIMIT)).toBe(LIMIT)
    const store = await open()
    expect(await admittedOf(store, 30)).toBe(0)
    await redis.kill()
    expect(await admittedOf(store, 30)).toBe(LIMIT)
  })

  test('a concurrency slot is given back when Redis refuses', async () => {
    const store = await open()
    await admittedOf(store, LIMIT + 5)
    expect(store.status().ledger.quotas[0]?.inFlightKeys).toBe(0)
  })
})

async function open(onFailure: 'local' | 'deny' = 'local'): Promise<RedisQuotaStore> {
  const store = await RedisQuotaStore.open({ kind: 'redis', url: redis.url, onFailure, deadlineMs: 100 }, QUOTAS)
  stores.push(store)
  return store
}

function demands(store: RedisQuotaStore) {
  return demandsFor(store.quotas, caller('ana@acme'), undefined, [callTool()])
}

async function draw(store: RedisQuotaStore): Promise<QuotaDecision> {
  return store.draw(demands(store), performance.now())
}

async function admittedOf(store: RedisQuotaStore, calls: number): Promise<number> {
  let admitted = 0
  for (let i = 0; i < calls; i++) {
    const decision = await draw(store)
    if (!decision.admitted) continue
    admitted++
    decision.lease?.release()
  }
  return admitted
}

async function eventually(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (holds()) return
    await pause(20)
  }
  throw new Error('it did not come to be within 10 s')
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

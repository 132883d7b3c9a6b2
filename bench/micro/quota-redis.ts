import { readFileSync } from 'node:fs'
import type { QuotaConfig } from '../../src/config/config.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { RedisQuotaStore } from '../../src/edge/quota-store/redis.ts'
import { caller, callTool, quota } from '../../test/support/quotas.ts'
import { startRedis } from '../../test/support/redis.ts'

/**
 * What shared quotas cost: CPU here and in Redis and the time of a call, and the longest wait when Redis stands still.
 * `node bench/micro/quota-redis.ts`; needs /usr/bin/redis-server.
 */

const DEADLINE_MS = 100
const quotas: QuotaConfig[] = [
  quota('per-user', {
    windows: [
      { limit: 120, perMs: 60_000 },
      { limit: 2000, perMs: 3_600_000 },
    ],
  }),
]
const redis = await startRedis()
const store = await RedisQuotaStore.open(
  { kind: 'redis', url: redis.url, onFailure: 'local', deadlineMs: DEADLINE_MS },
  quotas,
)
const callers = Array.from({ length: 1000 }, (_, index) => caller(`user-${index}@acme`))
let next = 0

await draws(2000, 1)
for (const atOnce of [1, 16]) {
  const cpu = process.cpuUsage()
  const redisCpu = await redisCpuMs()
  const waits = await draws(10_000, atOnce)
  const { user, system } = process.cpuUsage(cpu)
  const perCall = ((user + system) / 10_000).toFixed(0)
  const perCallRedis = (((await redisCpuMs()) - redisCpu) / 10).toFixed(0)
  console.log(`${atOnce} at once: ${percentiles(waits)}; CPU per call: ${perCall} µs here, ${perCallRedis} µs in Redis`)
}
redis.signal('SIGSTOP')
const waits = await draws(500, 4)
console.log(
  `stopped, deadline ${DEADLINE_MS} ms: ${percentiles(waits)}; ${waits.filter(ms => ms > 10).length} of 500 waited`,
)
redis.signal('SIGCONT')
await store.close()
await redis.close()

async function draws(count: number, atOnce: number): Promise<number[]> {
  const waits: number[] = []
  const worker = async (): Promise<void> => {
    while (waits.length < count) {
      const startedMs = performance.now()
      const demands = demandsFor(store.quotas, callers[next++ % callers.length]!, undefined, [callTool()])
      await store.draw(demands, startedMs)
      waits.push(performance.now() - startedMs)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return waits
}

function percentiles(waits: readonly number[]): string {
  const sorted = [...waits].sort((a, b) => a - b)
  const at = (part: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0).toFixed(2)
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms`
}

async function redisCpuMs(): Promise<number> {
  const pid = /process_id:(\d+)/.exec(await redis.command('INFO', 'server'))?.[1]
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(stat[11]) + Number(stat[12])) * 10
}

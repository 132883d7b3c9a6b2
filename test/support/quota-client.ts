import { demandsFor } from '../../src/core/quota/demand.ts'
import { RedisQuotaStore } from '../../src/edge/quota-store/redis.ts'
import { caller, callTool, quota } from './quotas.ts'

/** One sidecar's share of a test with several processes: draws as fast as it can, prints how many were admitted. */

const [url = '', limit = '0', draws = '0'] = process.argv.slice(2)
const store = await RedisQuotaStore.open({ kind: 'redis', url, onFailure: 'deny', deadlineMs: 10_000 }, [
  quota('shared', { windows: [{ limit: Number(limit), perMs: 600_000 }] }),
])
let admitted = 0
let down = 0
const demands = demandsFor(store.quotas, caller('ana@acme'), undefined, [callTool()])
for (let done = 0; done < Number(draws); done += 20) {
  const decisions = await Promise.all(Array.from({ length: 20 }, async () => store.draw(demands, performance.now())))
  for (const decision of decisions) {
    if (decision.admitted) admitted++
    else if (decision.refusal.reason === 'quota_store_down') down++
  }
}
await store.close()
console.log(JSON.stringify({ admitted, down }))

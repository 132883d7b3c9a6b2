import { readFileSync } from 'node:fs'
import type { QuotaConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { rateLimitHeaders } from '../../src/core/quota/headers.ts'
import { MemoryQuotaStore } from '../../src/edge/quota-store/memory.ts'

/**
 * What quotas cost: CPU of a call with two windows, memory of 100,000 active users, and memory and time when 1,000,000
 * distinct users come by. Run alone: `node --expose-gc bench/micro/quota.ts`.
 */

const quotas: QuotaConfig[] = [
  {
    name: 'per-user',
    key: ['user'],
    match: { methods: ['tools/call'] },
    windows: [
      { limit: 120, perMs: 60_000 },
      { limit: 2000, perMs: 3_600_000 },
    ],
    cost: [{ tool: 'export_*', weight: 10 }],
    concurrent: undefined,
  },
]
const inFlight: QuotaConfig = { name: 'in-flight', key: ['user'], match: {}, windows: [], cost: [], concurrent: 16 }
const message = {
  kind: 'request',
  method: 'tools/call',
  objects: [{ kind: 'tool', name: 'search' }],
} as unknown as Message
const messages = [message]
const MIB = 1024 * 1024

if (globalThis.gc === undefined) throw new Error('run with node --expose-gc')

cpu()
memory(100_000)
million()

function callerOf(index: number): Caller {
  // As a request makes them: strings of their own, cut from headers.
  const user = { id: `user-${index}@people.example`, org: `org-${index % 50}` }
  return { peer: { name: 'gateway', matched: 'uri:spiffe://example.org/gateway' }, user } as unknown as Caller
}

function cpu(): void {
  for (const [what, config] of [
    ['two windows', quotas],
    ['two windows and a concurrency limit', [...quotas, inFlight]],
  ] as const) {
    const store = new MemoryQuotaStore(config)
    const callers = Array.from({ length: 10_000 }, (_, index) => callerOf(index))
    const rounds = 1_000_000
    let nowMs = 0
    const run = (count: number, headers: boolean): void => {
      for (let i = 0; i < count; i++) {
        nowMs += 0.7
        const demands = demandsFor(store.quotas, callers[(i * 7919) % callers.length]!, undefined, messages)
        const decision = store.draw(demands, nowMs)
        if (headers) rateLimitHeaders(store.quotas, demands, decision, 'always')
        if (decision.admitted) decision.lease?.release()
      }
    }
    for (const headers of [false, true]) {
      run(200_000, headers)
      const before = process.cpuUsage()
      run(rounds, headers)
      const { user, system } = process.cpuUsage(before)
      console.log(
        `${what}${headers ? ', with headers' : ''}: ${((user + system) / rounds).toFixed(2)} µs of CPU per call`,
      )
    }
  }
}

function memory(users: number): void {
  const before = used()
  const store = new MemoryQuotaStore(quotas)
  for (let i = 0; i < users; i++) store.draw(demandsFor(store.quotas, callerOf(i), undefined, messages), i * 0.1)
  const after = used()
  console.log(
    `${users} active users: ${mib(after.heap - before.heap)} of heap and buffers, RssAnon ${mib(after.rss - before.rss)} more`,
  )
  console.log(
    `  keys ${store.status().ledger.quotas[0]?.keys}, ${((after.heap - before.heap) / users).toFixed(0)} bytes each`,
  )
}

function million(): void {
  const before = used()
  const store = new MemoryQuotaStore(quotas)
  let slowestMs = 0
  let refused = 0
  const started = performance.now()
  for (let i = 0; i < 1_000_000; i++) {
    const demands = demandsFor(store.quotas, callerOf(i), undefined, messages)
    const at = performance.now()
    const decision = store.draw(demands, i * 0.01)
    slowestMs = Math.max(slowestMs, performance.now() - at)
    if (!decision.admitted) refused++
  }
  const tookMs = performance.now() - started
  const after = used()
  const { keys = 0, capacity = 0, overflowed = 0 } = store.status().ledger.quotas[0] ?? {}
  console.log(
    `1000000 distinct users within 10 s: ${mib(after.heap - before.heap)}, RssAnon ${mib(after.rss - before.rss)} more`,
  )
  console.log(
    `  cap ${mib(store.status().ledger.budgetBytes)} or ${capacity} keys; ${keys} kept, ${overflowed} shared the overflow, ${refused} refused`,
  )
  console.log(
    `  ${(tookMs / 1000).toFixed(2)} µs a call, the slowest ${slowestMs.toFixed(1)} ms, garbage collection and neighbours included`,
  )
  // Hours later everything is idle, and some calls are enough to give all of it back.
  for (let i = 0; i < 600_000; i++)
    store.draw(demandsFor(store.quotas, callerOf(i % 100), undefined, messages), 1e8 + i * 100)
  console.log(
    `  after they have gone: ${store.status().ledger.quotas[0]?.keys} keys, ${mib(used().heap - before.heap)}`,
  )
}

function used(): { heap: number; rss: number } {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  const rss = /RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))
  return { heap: heapUsed + arrayBuffers, rss: Number(rss?.[1] ?? 0) * 1024 }
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`
}

/**
 * CPU of the audit trail for one call: redaction, record, chain and write to a real pipe, and of the metrics.
 *
 *     node bench/audit-cost.ts | cat > /dev/null
 *
 * Prints µs of user and system time of the whole process to stderr, the least of several rounds. What the loop itself
 * costs is measured as well and is not taken off.
 */
import { Chain, Counter } from '../src/core/audit/chain.ts'
import type { Exchange } from '../src/core/audit/exchange.ts'
import { AuditSink } from '../src/edge/audit-sink.ts'
import { tuneHeap } from '../src/edge/heap.ts'
import { Metrics } from '../src/edge/metrics.ts'
import { newRequestId } from '../src/journey/request-id.ts'
import { exchangeWith, recorderWith, toolCall } from '../test/support/audit.ts'

tuneHeap()
const CALLS = 40_000
const ROUNDS = 6
/** Calls that end in one turn of the event loop: 16 busy connections make 3.9 to 5.4, counted in the sidecar. */
const PER_TURN = 4

const argSets = [
  { query: 'how to rotate a certificate', limit: 20 },
  { query: 'overview', path: '/srv/docs/readme.md', recursive: true, options: { depth: 3, tags: ['a', 'b'] } },
]
// As the journey makes them: a new exchange for each call, a peer and a user that are known already, a verdict of the index.
const { user, peer, verdict, connection, generation } = exchangeWith()
const bodies = argSets.map(args => JSON.stringify(args))
const exchangeOf = (i: number): Exchange =>
  exchangeWith({
    requestId: newRequestId(),
    startedAtMs: 1_795_000_000_000 + i,
    user,
    peer,
    verdict,
    connection,
    generation,
    messages: [toolCall('search_docs', JSON.parse(bodies[i % 2] as string))],
  })

const recorder = recorderWith()
const sink = (chain: Chain | Counter): AuditSink =>
  new AuditSink({
    stream: process.stdout,
    recorder,
    chain,
    onBlocked: 'block',
    checkpointEvery: 1000,
    now: Date.now,
    generation: () => generation,
  })

await measure('the loop itself', () => {})
await measure('record', exchange => {
  recorder.exchange('mcp.call', exchange, exchange.messages[0])
})
const chain = new Chain('bench')
await measure('record and chain', exchange => {
  chain.seal(recorder.exchange('mcp.call', exchange, exchange.messages[0]))
})
for (const [name, audit] of [
  ['record, chain and write', sink(new Chain('bench'))],
  ['record and write, without chain', sink(new Counter())],
] as const) {
  await measure(name, exchange => {
    if (audit.admit() !== true) return new Promise<void>(resolve => audit.written(resolve) && resolve())
    audit.record(exchange)
    audit.release()
    // Each answer waits for its line; those of one turn of the event loop have one write.
    audit.written(nothing)
    return undefined
  })
}
const metrics = new Metrics({ now: Date.now, policyTools: ['search_docs'], sources: {} as never })
await measure('metrics', exchange => metrics.observe(exchange))

function nothing(): void {}

async function measure(name: string, call: (exchange: Exchange) => void | Promise<void>): Promise<void> {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const exchanges = Array.from({ length: 1000 }, (_, i) => exchangeOf(i))
    const before = process.cpuUsage()
    for (let i = 0; i < CALLS; i++) {
      const wait = call(exchanges[i % 1000] as Exchange)
      if (wait !== undefined) await wait
      // As many calls as a busy loop serves in one turn.
      if (i % PER_TURN === 0) await new Promise(setImmediate)
    }
    const { user: userTime, system } = process.cpuUsage(before)
    least = Math.min(least, (userTime + system) / CALLS)
  }
  process.stderr.write(`${name.padEnd(34)} ${least.toFixed(2)} µs a call\n`)
}

/**
 * A process with the real sink on its own stdout, told by messages how many calls to make. Calls go the way of the
 * journey: room, work, line, and an answer only when the kernel has the line.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Chain } from '../../src/core/audit/chain.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { exchangeWith, recorderWith, toolCall } from './audit.ts'

export type Order =
  | { do: 'calls'; n: number; parallel: number; name: string; tellEach?: boolean }
  | { do: 'stats' }
  | { do: 'refuse'; n: number }
  | { do: 'close'; graceMs: number }

const onBlocked = process.argv[2] as 'block' | 'drop'
let mostPending = 0
const sink = new AuditSink({
  stream: process.stdout,
  recorder: recorderWith(),
  chain: new Chain(`chain-${process.pid}`),
  onBlocked,
  checkpointEvery: 1000,
  now: Date.now,
  generation: () => ({ config: 1, trust: 1 }),
})
sink.start({ image: 'test', node: process.versions.node })

const probe = createServer((_request, response) => response.end(sink.state)).listen(0, '127.0.0.1', () => {
  tell({ ready: (probe.address() as AddressInfo).port })
})

process.on('message', async (order: Order) => {
  if (order.do === 'calls') tell({ done: order.name, ...(await makeCalls(order)) })
  if (order.do === 'stats') tell({ stats: sink.stats(), mostPending })
  if (order.do === 'refuse') {
    for (let i = 0; i < order.n; i++)
      sink.record(
        exchangeWith({ outcome: 'refused', refusal: { reason: 'user_missing' }, upstreamStartedMono: undefined }),
      )
    tell({ refusals: order.n })
  }
  if (order.do === 'close') {
    const { lost } = await sink.close('test', order.graceMs)
    process.send?.({ closed: lost }, () => process.exit(lost === 0 ? 0 : 1))
  }
})

async function makeCalls(order: Extract<Order, { do: 'calls' }>): Promise<{ answered: number; refused: number }> {
  let next = 0
  let answered = 0
  let refused = 0
  const filler = 'x'.repeat(900)
  const worker = async (): Promise<void> => {
    while (next < order.n) {
      const id = `${order.name}-${next++}`
      const room = sink.admit()
      if (room !== true && !(await room)) {
        refused += 1
        continue
      }
      await new Promise(setImmediate)
      sink.record(exchangeWith({ requestId: id, messages: [toolCall('search', { filler })] }))
      sink.release()
      mostPending = Math.max(mostPending, sink.stats().pendingBytes)
      await new Promise<void>(resolve => sink.written(resolve) && resolve())
      answered += 1
      if (order.tellEach) tell({ answered: id })
    }
  }
  await Promise.all(Array.from({ length: order.parallel }, worker))
  return { answered, refused }
}

function tell(message: object): void {
  process.send?.(message)
}

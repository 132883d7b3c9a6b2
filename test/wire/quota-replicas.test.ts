import { expect, test } from 'vitest'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { MemoryQuotaStore } from '../../src/edge/quota-store/memory.ts'
import { replicaCount } from '../../src/edge/quota-store/replicas.ts'
import { caller, callTool, quota } from '../support/quotas.ts'

const v4 = (...hosts: number[]) => hosts.map(host => ({ address: `10.0.0.${host}`, family: 4 }))
const v6 = (...hosts: number[]) => hosts.map(host => ({ address: `fd00::${host}`, family: 6 }))

/** A DNS whose next answers are given; the last one stays. */
function dns(...answers: (readonly { address: string; family: number }[] | Error)[]) {
  return async () => {
    const answer = answers.length > 1 ? answers.shift() : answers[0]
    if (answer === undefined || answer instanceof Error) throw answer ?? new Error('no answer')
    return answer
  }
}

async function eventually(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (holds()) return
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  throw new Error('it did not come to be')
}

test.each([
  { name: 'nothing said', share: undefined, want: 1 },
  { name: 'a number', share: { kind: 'replicas', replicas: 3 }, want: 3 },
  { name: 'addresses', share: { kind: 'dns', name: 'peers' }, resolve: dns(v4(1, 2, 3)), want: 3 },
  {
    name: 'addresses of both families',
    share: { kind: 'dns', name: 'peers' },
    resolve: dns([...v4(1, 2), ...v6(1, 2)]),
    want: 2,
  },
  { name: 'an address twice', share: { kind: 'dns', name: 'peers' }, resolve: dns(v4(1, 1)), want: 1 },
  { name: 'no answer', share: { kind: 'dns', name: 'peers' }, resolve: dns(new Error('ENOTFOUND')), want: 1 },
] as const)('$name: $want', async ({ share, want, ...deps }) => {
  const count = await replicaCount(share, deps)
  expect(count.current).toBe(want)
  count.close()
})

test('the count is followed, and what was known last is kept while DNS is away', async () => {
  const lines: string[] = []
  const resolve = dns(v4(1), v4(1, 2, 3, 4), new Error('SERVFAIL'))
  const count = await replicaCount(
    { kind: 'dns', name: 'peers' },
    { resolve, everyMs: 5, report: line => lines.push(line) },
  )
  const store = new MemoryQuotaStore([quota('q', { windows: [{ limit: 8, perMs: 600_000 }] })], count)
  const draw = () => store.draw(demandsFor(store.quotas, caller('ana'), undefined, [callTool()]), 0)
  expect(draw()).toMatchObject({ admitted: true, reading: { limit: 8, remaining: 7 } })
  await eventually(() => store.status().detail.includes('DNS does not answer'))
  // A quarter of eight, of which one has been used already.
  expect(draw()).toMatchObject({ admitted: true, reading: { limit: 2, remaining: 0 } })
  expect(draw()).toMatchObject({ admitted: false })
  expect(store.status()).toMatchObject({ replicas: 4, up: true })
  expect(lines).toEqual([
    'quotas: limits are divided by 4 (were by 1)',
    'quotas: peers has no addresses; limits stay divided by 4',
  ])
  await store.close()
})

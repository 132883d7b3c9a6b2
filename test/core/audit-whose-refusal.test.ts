import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import type { User } from '../../src/core/identity/caller.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { exchangeWith, recorderWith } from '../support/audit.ts'

const REFUSED = {
  refusal: { reason: 'tool_not_permitted', name: 'search', rule: 'default' },
  outcome: 'refused',
  upstreamStartedMono: undefined,
} as const

/** The users in the lines that are written when each of these is refused once. */
async function usersOfLines(users: readonly Pick<User, 'id' | 'org'>[]): Promise<string[]> {
  let text = ''
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += String(chunk)
      done()
    },
  })
  const sink = new AuditSink({
    stream,
    recorder: recorderWith(),
    chain: new Chain('c'),
    onBlocked: 'block',
    checkpointEvery: 1000,
    now: Date.now,
    generation: () => ({ config: 1, trust: 1 }),
  })
  sink.start({ image: 'i', node: '24' })
  const { user } = exchangeWith()
  for (const { id, org } of users) sink.record(exchangeWith({ ...REFUSED, user: { ...(user as User), id, org } }))
  await sink.close('test', 1000)
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { event: string; count?: number; user?: { org: string; id: string } })
    .filter(({ event }) => event === 'mcp.refused')
    .map(line => `${line.user?.org} ${line.user?.id} ${line.count ?? 1}`)
}

test('refusals of one user are counted together', async () => {
  const mallory = { org: 'acme', id: 'mallory' }
  expect(await usersOfLines([mallory, mallory, mallory])).toEqual(['acme mallory 1', 'acme mallory 2'])
})

test('nobody is counted under another user, whatever stands in their names', async () => {
  const users = [
    { org: 'acme', id: 'x|mallory' },
    { org: 'acme|x', id: 'mallory' },
    { org: 'acme|x|mallory', id: 'y' },
  ]
  expect(await usersOfLines(users)).toEqual(users.map(({ org, id }) => `${org} ${id} 1`))
})

import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import type { Exchange } from '../../src/core/audit/exchange.ts'
import type { User } from '../../src/core/identity/caller.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { exchangeWith, recorderWith } from '../support/audit.ts'

const REFUSED = {
  refusal: { reason: 'tool_not_permitted', name: 'search', rule: 'default' },
  outcome: 'refused',
  upstreamStartedMono: undefined,
} as const

interface RefusalLine {
  readonly event: string
  readonly count?: number
  readonly error?: string
  readonly user?: { readonly org: string; readonly id: string }
}

/** The lines that are written when each of these is refused once. */
async function linesOf(exchanges: readonly Exchange[]): Promise<RefusalLine[]> {
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
  for (const exchange of exchanges) sink.record(exchange)
  await sink.close('test', 1000)
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as RefusalLine)
    .filter(({ event }) => event === 'mcp.refused')
}

async function usersOfLines(users: readonly Pick<User, 'id' | 'org'>[]): Promise<string[]> {
  const { user } = exchangeWith()
  const lines = await linesOf(users.map(who => exchangeWith({ ...REFUSED, user: { ...(user as User), ...who } })))
  return lines.map(line => `${line.user?.org} ${line.user?.id} ${line.count ?? 1}`)
}

/** One caller asserts all of these in turn. */
async function detailsOfLines(values: readonly string[]): Promise<string[]> {
  const refusals = values.map(value => ({ reason: 'peer_may_not_assert', field: 'role', value }) as const)
  const lines = await linesOf(refusals.map(refusal => exchangeWith({ ...REFUSED, refusal })))
  return lines.map(line => `${line.error} ${line.count ?? 1}`)
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

test('what a line says of one refusal is true of all that it counts', async () => {
  expect(await detailsOfLines(['admin', 'owner', 'admin'])).toEqual(['role: admin 1', 'role: owner 1', 'role: admin 1'])
})

test('a caller who makes up ever new details is told of under none of them', async () => {
  const lines = await detailsOfLines(Array.from({ length: 100 }, (_, i) => `made-up-${i}`))
  expect(lines).toHaveLength(33)
  expect(lines.at(-1)).toBe('of several kinds 68')
})

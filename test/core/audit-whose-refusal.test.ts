import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import type { Exchange } from '../../src/core/audit/exchange.ts'
import type { User } from '../../src/core/identity/caller.ts'
import type { Verdict } from '../../src/core/policy/verdict.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { exchangeWith, recorderWith, toolCall } from '../support/audit.ts'

const REFUSED = {
  refusal: { reason: 'tool_not_permitted', name: 'search', rule: 'default' },
  outcome: 'refused',
  upstreamStartedMono: undefined,
} as const

interface RefusalLine {
  readonly event: string
  readonly client?: { readonly forwardedFor?: string; readonly userAgent?: string }
  readonly mcp?: { readonly tool?: string; readonly session?: string }
  readonly decision?: { readonly rule?: string }
  readonly rpcError?: object
  readonly count?: number
  readonly error?: string
  readonly user?: { readonly org: string; readonly id: string; readonly scopes?: readonly string[] }
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

const USER = exchangeWith().user as User
const VERDICT = exchangeWith().verdict as Verdict
const DIFFERING: Record<string, [(i: number) => Partial<Exchange>, (line: RefusalLine) => unknown]> = {
  'behind several addresses': [i => ({ forwardedFor: `10.0.0.${i}` }), line => line.client?.forwardedFor],
  'with several programs': [i => ({ userAgent: `agent ${i}` }), line => line.client?.userAgent],
  'in several sessions': [i => ({ session: `${i}` }), line => line.mcp?.session],
  'with several scopes': [i => ({ user: { ...USER, scopes: [`s${i}`] } }), line => line.user?.scopes?.join()],
  'by several rules': [i => ({ verdict: { ...VERDICT, rule: `r${i}` } }), line => line.decision?.rule],
}

describe('a caller who is refused', () => {
  test.each(Object.entries(DIFFERING))('%s is counted for each', async (_, [differing, told]) => {
    const lines = await linesOf([1, 2, 3, 2].map(i => exchangeWith({ ...REFUSED, ...differing(i) })))
    expect(new Set(lines.map(told)).size).toBe(3)
    expect(lines.map(({ count }) => count ?? 1)).toEqual([1, 1, 1, 1])
  })

  test('under too many of everything is told of under none of it', async () => {
    const many = Array.from({ length: 100 }, (_, i) =>
      exchangeWith({
        ...REFUSED,
        ...{ forwardedFor: `10.0.0.${i}`, userAgent: `agent ${i}`, session: `${i}`, messages: [toolCall(`tool-${i}`)] },
        rpcError: { code: 403, message: `Permission denied: tool "tool-${i}"` },
      }),
    )
    const line = (await linesOf(many)).at(-1)
    expect(line).toMatchObject({ count: 68, user: { id: USER.id } })
    expect(line?.client).not.toHaveProperty('forwardedFor')
    expect(line?.client).not.toHaveProperty('userAgent')
    expect(line).not.toHaveProperty('mcp')
    expect(line).not.toHaveProperty('rpcError')
  })

  test('with a batch has a line for each of its messages', async () => {
    const lines = await linesOf([exchangeWith({ ...REFUSED, messages: [toolCall('search'), toolCall('drop_all')] })])
    expect(lines.map(({ mcp, count }) => [mcp?.tool, count ?? 1])).toEqual([
      ['search', 1],
      ['drop_all', 1],
    ])
  })
})

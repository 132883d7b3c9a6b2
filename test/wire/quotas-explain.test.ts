import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JsonValue } from '../../src/core/json.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { OperationsServer } from '../../src/edge/operations.ts'
import { MemoryQuotaStore } from '../../src/edge/quota-store/memory.ts'
import { cli } from '../support/cli.ts'
import { caller, callTool, message, quota } from '../support/quotas.ts'

const store = new MemoryQuotaStore([
  quota('per-user', {
    windows: [
      { limit: 12, perMs: 60_000 },
      { limit: 2000, perMs: 3_600_000 },
    ],
    cost: [{ tool: 'export_*', weight: 10 }],
    concurrent: 4,
  }),
  quota('per-tool', { key: ['user', 'tool'], windows: [{ limit: 3, perMs: 60_000 }] }),
  quota('reads', { match: { methods: ['resources/read'] }, windows: [{ limit: 5, perMs: 1000 }] }),
])
let folder: string
let server: OperationsServer

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mcp-sidecar-quotas-'))
  server = new OperationsServer(join(folder, 'ops.sock'), {
    drain: () => undefined,
    reload: async () => [],
    config: () => ({}),
    // One moment of the clock for the whole test, so that the texts are literal.
    explainQuotas: async query => (await store.explain(query, 10_000)) as unknown as JsonValue,
    health: () => ({ ok: true, checks: [] }),
  })
  await server.start()
  const draw = (who: string, tool: string) =>
    store.draw(demandsFor(store.quotas, caller(who), undefined, [callTool(tool)]), 10_000)
  draw('ana@acme', 'search')
  draw('ana@acme', 'search')
  draw('ana@other', 'search')
  draw('bob@acme', 'export_all')
  store.draw(demandsFor(store.quotas, caller('ana@acme'), undefined, [message('tasks/get')]), 10_000)
})
afterAll(async () => {
  await server.stop()
  rmSync(folder, { recursive: true })
})

const explain = (...flags: string[]) => cli(['quotas', 'explain', '--socket', join(folder, 'ops.sock'), ...flags])

describe('mcp-sidecar quotas explain', () => {
  test('says what each window holds and which quota refuses the next call', async () => {
    const { code, stdout } = await explain('--user', 'ana', '--org', 'acme', '--tool', 'export_all')
    expect(code).toBe(0)
    expect(stdout).toBe(
      [
        'per-user  user ana of acme',
        '  2 of 12 in 1m, 10 left, empty in 1m 2s',
        '  2 of 2000 in 1h, 1998 left, empty in 1h 1m 53s',
        '  2 of 4 at a time',
        '  a call costs 10',
        'per-user  user ana of acme (task polls)',
        '  1 of 12 in 1m, 11 left, empty in 1m 2s',
        '  1 of 2000 in 1h, 1999 left, empty in 1h 1m 53s',
        '  1 of 4 at a time',
        '  a call costs 10',
        'per-tool  user ana of acme, tool export_all',
        '  0 of 3 in 1m, 3 left, empty',
        '',
      ].join('\n'),
    )
  })

  test('names the one that bites, and when a unit is free', async () => {
    const { stdout } = await explain('--user', 'bob', '--org', 'acme', '--tool', 'export_all')
    expect(stdout).toContain(
      'per-user  user bob of acme  refuses the next call\n  10 of 12 in 1m, 2 left, empty in 1m 2s\n',
    )
  })

  test('without an org it shows the users of that name in every org, without a tool every tool', async () => {
    const { stdout } = await explain('--user', 'ana')
    for (const line of [
      'per-user  user ana of acme',
      'per-user  user ana of other',
      'per-tool  user ana of acme, tool search',
    ]) {
      expect(stdout.split('\n')).toContain(line)
    }
    expect(stdout).not.toContain('bob')
  })

  test('--json is the answer of the sidecar', async () => {
    const { stdout } = await explain('--user', 'bob', '--org', 'acme', '--json')
    expect(JSON.parse(stdout)).toContainEqual({
      quota: 'per-tool',
      bucket: 'user bob of acme, tool export_all',
      cost: 1,
      windows: [{ limit: 3, perMs: 60_000, used: 1, remaining: 2, nextFreeMs: 0, resetMs: 61_875 }],
      bites: false,
    })
  })

  test('the user is needed', async () => {
    expect((await explain()).code).toBe(2)
  })
})

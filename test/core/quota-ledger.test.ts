import { describe, expect, test } from 'vitest'
import type { QuotaConfig } from '../../src/config/config.ts'
import { compileQuotas } from '../../src/core/quota/compile.ts'
import type { QuotaDecision } from '../../src/core/quota/decision.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { rateLimitHeaders } from '../../src/core/quota/headers.ts'
import { Ledger } from '../../src/core/quota/ledger.ts'
import { caller, callTool, message, quota } from '../support/quotas.ts'

const MINUTE = 60_000

function draw(ledger: Ledger, who: string | undefined, nowMs: number, ...tools: string[]): QuotaDecision {
  const messages = (tools.length === 0 ? ['search'] : tools).map(callTool)
  return ledger.draw(demandsFor(ledger.compiled, caller(who), undefined, messages), nowMs)
}

function told(decision: QuotaDecision): string {
  return decision.admitted ? 'admitted' : `${decision.refusal.reason}`
}

const one = (limit: number, perMs = MINUTE): QuotaConfig[] => [quota('q', { windows: [{ limit, perMs }] })]

describe('windows', () => {
  test('no double burst at the edge of a window', () => {
    const ledger = new Ledger(compileQuotas(one(10)))
    for (let i = 0; i < 10; i++) expect(told(draw(ledger, 'ana', 59_000 + i))).toBe('admitted')
    expect(draw(ledger, 'ana', 60_001)).toMatchObject({
      admitted: false,
      refusal: { reason: 'quota_exhausted', quota: 'q', limit: 10, windowMs: MINUTE },
      reading: { name: 'q', limit: 10, windowMs: MINUTE, remaining: 0 },
    })
  })

  test('at least 97 % of the limit is there for somebody who calls without pause', () => {
    const ledger = new Ledger(compileQuotas(one(100)))
    let admitted = 0
    for (let nowMs = 0; nowMs < 100 * MINUTE; nowMs += 20) if (draw(ledger, 'ana', nowMs).admitted) admitted++
    expect(admitted).toBeLessThanOrEqual(100 * 100)
    expect(admitted).toBeGreaterThanOrEqual(97 * 99)
  })

  test('the same id in another org is another user; callers without a user share one bucket for each peer', () => {
    const ledger = new Ledger(compileQuotas(one(1)))
    expect(told(draw(ledger, 'ana@acme', 0))).toBe('admitted')
    expect(told(draw(ledger, 'ana@other', 0))).toBe('admitted')
    expect(told(draw(ledger, 'ana', 0))).toBe('admitted')
    expect(told(draw(ledger, undefined, 0))).toBe('admitted')
    expect(told(draw(ledger, undefined, 0))).toBe('quota_exhausted')
  })

  test('a batch is admitted whole or not at all', () => {
    const ledger = new Ledger(compileQuotas(one(3)))
    expect(told(draw(ledger, 'ana', 0, 'a', 'b'))).toBe('admitted')
    expect(told(draw(ledger, 'ana', 0, 'a', 'b'))).toBe('quota_exhausted')
    expect(told(draw(ledger, 'ana', 0, 'a'))).toBe('admitted')
  })

  test('the reading is of the window with the least left', () => {
    const ledger = new Ledger(
      compileQuotas([
        quota('wide', { windows: [{ limit: 50, perMs: MINUTE }] }),
        quota('narrow', {
          windows: [
            { limit: 90, perMs: 1000 },
            { limit: 5, perMs: MINUTE },
          ],
        }),
      ]),
    )
    expect(draw(ledger, 'ana', 0)).toMatchObject({
      reading: { name: 'narrow', limit: 5, windowMs: MINUTE, remaining: 4 },
    })
  })
})

describe('concurrency', () => {
  const quotas = [quota('in-flight', { concurrent: 2 })]

  test('a slot is given back once, however often it is said', () => {
    const ledger = new Ledger(compileQuotas(quotas))
    const first = draw(ledger, 'ana', 0)
    const second = draw(ledger, 'ana', 0)
    expect(draw(ledger, 'ana', 0)).toMatchObject({
      admitted: false,
      refusal: { reason: 'quota_concurrency', quota: 'in-flight', limit: 2 },
      reading: { name: 'in-flight', limit: 2, windowMs: 0, remaining: 0 },
    })
    if (!first.admitted || !second.admitted) throw new Error('both fit')
    first.lease?.release()
    first.lease?.release()
    expect(told(draw(ledger, 'ana', 0))).toBe('admitted')
    expect(told(draw(ledger, 'ana', 0))).toBe('quota_concurrency')
  })

  test('open streams hold slots and no units', () => {
    const ledger = new Ledger(compileQuotas([quota('both', { windows: [{ limit: 1, perMs: MINUTE }], concurrent: 2 })]))
    const stream = demandsFor(ledger.compiled, caller('ana'), undefined, [message('stream/open')])
    expect(told(ledger.draw(stream, 0))).toBe('admitted')
    expect(told(draw(ledger, 'ana', 0))).toBe('admitted')
    expect(told(ledger.draw(stream, 0))).toBe('quota_concurrency')
  })

  test('a refused slot charges no window', () => {
    const ledger = new Ledger(compileQuotas([...quotas, ...one(3)]))
    draw(ledger, 'ana', 0)
    const held = draw(ledger, 'ana', 0)
    for (let i = 0; i < 5; i++) expect(told(draw(ledger, 'ana', 0))).toBe('quota_concurrency')
    if (held.admitted) held.lease?.release()
    expect(told(draw(ledger, 'ana', 0))).toBe('admitted')
  })

  test('slots survive a reload, and those of a quota that is gone do no harm', () => {
    const ledger = new Ledger(compileQuotas(quotas))
    const held = draw(ledger, 'ana', 0)
    ledger.reconfigure(compileQuotas([quota('in-flight', { concurrent: 1 })]), 0)
    expect(told(draw(ledger, 'ana', 0))).toBe('quota_concurrency')
    ledger.reconfigure(compileQuotas([]), 0)
    if (held.admitted) held.lease?.release()
    expect(told(draw(ledger, 'ana', 0))).toBe('admitted')
  })
})

describe('memory', () => {
  // Room for four keys of this quota.
  const small = (): Ledger => new Ledger(compileQuotas(one(2)), 800)

  test('at the cap nobody is forgotten, and all new keys share one bucket', () => {
    const ledger = small()
    const capacity = ledger.status().quotas[0]!.capacity
    for (let i = 0; i < capacity; i++) {
      draw(ledger, `early-${i}`, 0)
      draw(ledger, `early-${i}`, 0)
    }
    expect(told(draw(ledger, 'late-1', 0))).toBe('admitted')
    expect(told(draw(ledger, 'late-2', 0))).toBe('admitted')
    for (let i = 0; i < 1000; i++) expect(told(draw(ledger, `invented-${i}`, i))).toBe('quota_exhausted')
    for (let i = 0; i < capacity; i++) expect(told(draw(ledger, `early-${i}`, 1000))).toBe('quota_exhausted')
    expect(ledger.status().quotas[0]).toMatchObject({ keys: capacity, overflowed: 2 })
  })

  test('whoever drew from the shared bucket does not begin anew when there is room again', () => {
    const ledger = small()
    const capacity = ledger.status().quotas[0]!.capacity
    for (let i = 0; i < capacity; i++) draw(ledger, `early-${i}`, 0)
    // Half used up in the shared bucket at 50 s; the early ones leave at about 62 s.
    draw(ledger, 'late', 50_000)
    expect(told(draw(ledger, 'late', 65_000))).toBe('admitted')
    expect(told(draw(ledger, 'late', 65_000))).toBe('quota_exhausted')
    // A stranger cannot be told from those who drew from the shared bucket, as long as it has units in it.
    expect(told(draw(ledger, 'stranger', 66_000))).toBe('admitted')
    expect(told(draw(ledger, 'stranger', 66_000))).toBe('quota_exhausted')
    expect(told(draw(ledger, 'late', 113_000))).toBe('admitted')
  })

  test('idle keys go by themselves', () => {
    const ledger = new Ledger(compileQuotas(one(2)))
    for (let i = 0; i < 500; i++) draw(ledger, `u${i}`, 0)
    expect(ledger.status().quotas[0]?.keys).toBe(500)
    for (let i = 0; i < 600; i++) draw(ledger, 'ana', 2 * MINUTE + i)
    expect(ledger.status().quotas[0]?.keys).toBe(1)
  })

  test('refused calls take no room', () => {
    const quotas = [
      quota('tight', { windows: [{ limit: 1, perMs: MINUTE }] }),
      quota('by-tool', { key: ['tool'], windows: [{ limit: 9, perMs: MINUTE }] }),
    ]
    const ledger = new Ledger(compileQuotas(quotas))
    for (let i = 0; i < 100; i++) draw(ledger, 'ana', 0, `invented-${i}`)
    expect(ledger.status().quotas[1]?.keys).toBe(1)
  })
})

describe('reload', () => {
  test.each([
    { name: 'a lower limit', to: one(3), want: 0 },
    { name: 'a higher limit', to: one(7), want: 2 },
    { name: 'a limit that needs wider counters', to: one(70_000), want: 20 },
    { name: 'a longer window', to: one(7, 10 * MINUTE), want: 2 },
    { name: 'a shorter window, still within it', to: one(7, MINUTE / 2), want: 2 },
    { name: 'another place in the list', to: [quota('first', { concurrent: 99 }), ...one(7)], want: 2 },
    {
      name: 'another name: another quota',
      to: [quota('renamed', { windows: [{ limit: 7, perMs: MINUTE }] })],
      want: 7,
    },
  ])('$name', ({ to, want }) => {
    const ledger = new Ledger(compileQuotas(one(5)))
    for (let i = 0; i < 5; i++) draw(ledger, 'ana', 1000)
    ledger.reconfigure(compileQuotas(to), 2000)
    let admitted = 0
    for (let i = 0; i < 20; i++) if (draw(ledger, 'ana', 3000).admitted) admitted++
    expect(admitted).toBe(want)
  })

  test('a call that was judged before the reload draws from the quota of today', () => {
    const ledger = new Ledger(compileQuotas(one(5)))
    const before = demandsFor(ledger.compiled, caller('ana'), undefined, [callTool()])
    ledger.reconfigure(compileQuotas([quota('first', { concurrent: 9 }), ...one(1)]), 0)
    expect(told(ledger.draw(before, 0))).toBe('admitted')
    expect(told(ledger.draw(before, 0))).toBe('quota_exhausted')
  })
})

describe('headers', () => {
  const quotas = [
    quota('per-user', {
      windows: [
        { limit: 2, perMs: MINUTE },
        { limit: 2000, perMs: 60 * MINUTE },
      ],
      concurrent: 16,
    }),
    quota('we"ird\\näme', { key: ['org'], windows: [{ limit: 9, perMs: MINUTE }] }),
  ]
  const policy =
    '"per-user-1m";q=2;w=60, "per-user-1h";q=2000;w=3600, "per-user-concurrent";q=16;qu="concurrent-requests", "we\\"ird\\\\n_me";q=9;w=60'

  function headersOf(calls: number, when: 'always' | 'refused' | 'never'): readonly string[] {
    const ledger = new Ledger(compileQuotas(quotas))
    const demands = demandsFor(ledger.compiled, caller('ana@acme'), undefined, [callTool()])
    let headers: readonly string[] = []
    for (let i = 0; i < calls; i++) headers = rateLimitHeaders(ledger.compiled, demands, ledger.draw(demands, 0), when)
    return headers
  }

  test.each([
    {
      name: 'admitted, always',
      calls: 1,
      when: 'always',
      want: ['RateLimit', '"per-user-1m";r=1;t=62', 'RateLimit-Policy', policy],
    },
    { name: 'admitted, refused', calls: 1, when: 'refused', want: [] },
    { name: 'admitted, never', calls: 1, when: 'never', want: [] },
    {
      name: 'refused, always',
      calls: 3,
      when: 'always',
      want: ['Retry-After', '62', 'RateLimit', '"per-user-1m";r=0;t=62', 'RateLimit-Policy', policy],
    },
    {
      name: 'refused, refused',
      calls: 3,
      when: 'refused',
      want: ['Retry-After', '62', 'RateLimit', '"per-user-1m";r=0;t=62', 'RateLimit-Policy', policy],
    },
    { name: 'refused, never', calls: 3, when: 'never', want: ['Retry-After', '62'] },
  ] as const)('$name', ({ calls, when, want }) => {
    expect(headersOf(calls, when)).toEqual(want)
  })

  test('a concurrency limit has a policy without a window', () => {
    const ledger = new Ledger(compileQuotas([quota('in-flight', { concurrent: 1 })]))
    const demands = demandsFor(ledger.compiled, caller('ana'), undefined, [callTool()])
    const headers = () => rateLimitHeaders(ledger.compiled, demands, ledger.draw(demands, 0), 'always')
    expect(headers()).toEqual([
      'RateLimit',
      '"in-flight";r=0',
      'RateLimit-Policy',
      '"in-flight";q=1;qu="concurrent-requests"',
    ])
    expect(headers()).toEqual([
      'Retry-After',
      '1',
      'RateLimit',
      '"in-flight";r=0;t=1',
      'RateLimit-Policy',
      '"in-flight";q=1;qu="concurrent-requests"',
    ])
  })

  test('a call that no quota covers has none', () => {
    const ledger = new Ledger(compileQuotas(quotas))
    const demands = demandsFor(ledger.compiled, caller('ana'), undefined, [message('server/discover')])
    expect(rateLimitHeaders(ledger.compiled, demands, ledger.draw(demands, 0), 'always')).toEqual([])
  })
})

import { expect, test } from 'vitest'
import { Coalescer, type Rung } from '../../src/core/audit/coalesce.ts'

const ladder = (what: string, caller = 'caller', reason = 'reason'): Rung[] => [
  { key: `${reason}|${caller}|${what}`, draft: () => `{${what}` },
  { key: `${reason}|${caller}`, draft: () => `{${caller}` },
  { key: reason, draft: () => `{${reason}` },
]

test('the first is written at once, the rest of the window becomes one line', () => {
  const coalescer = new Coalescer(10_000)
  expect([0, 1, 2, 9_999].map(at => coalescer.note(ladder('a'), at, false))).toEqual([true, false, false, false])
  expect(coalescer.take(9_999)).toEqual([])
  expect(coalescer.take(10_000)).toMatchObject([{ draft: '{a', count: 3, firstAtMs: 1, lastAtMs: 9_999 }])
  expect(coalescer.isEmpty).toBe(true)
  expect(coalescer.note(ladder('a'), 10_001, false)).toBe(true)
})

test('one that happened once leaves no second line', () => {
  const coalescer = new Coalescer(10_000)
  coalescer.note(ladder('a'), 0, false)
  expect(coalescer.take(10_000)).toEqual([])
  expect(coalescer.isEmpty).toBe(true)
})

test('while nothing can be written the first one is counted too', () => {
  const coalescer = new Coalescer(10_000)
  expect([0, 1].map(at => coalescer.note(ladder('a'), at, true))).toEqual([false, false])
  expect(coalescer.take(20_000)).toMatchObject([{ count: 2, firstAtMs: 0, lastAtMs: 1 }])
})

test('a caller who makes up one name after the other gets a bounded number of lines; the rest is counted for the caller', () => {
  const coalescer = new Coalescer(10_000)
  const written = Array.from({ length: 1000 }, (_, i) => coalescer.note(ladder(`tool-${i}`), i, false)).filter(Boolean)
  expect(written).toHaveLength(32)
  expect(coalescer.take(10_000, true)).toMatchObject([{ draft: '{caller', count: 968 }])
  expect(coalescer.note(ladder('tool-1'), 10_000, false)).toBe(true)
})

test('many callers get a bounded number of lines; the rest is counted by reason', () => {
  const coalescer = new Coalescer(10_000, 100)
  const written = Array.from({ length: 5000 }, (_, i) => coalescer.note(ladder('x', `caller-${i}`), 0, false)).filter(
    Boolean,
  )
  expect(written).toHaveLength(100)
  const counted = coalescer.take(0, true)
  expect(counted).toMatchObject([{ draft: '{reason', count: 4900 }])
})

test('nothing is counted twice and nothing is forgotten', () => {
  const coalescer = new Coalescer(10, 5)
  let written = 0
  let counted = 0
  for (let i = 0; i < 10_000; i++) {
    if (coalescer.note(ladder(`t${(i * 7) % 50}`, `c${i % 9}`, `r${i % 2}`), i, i % 100 > 90)) written += 1
    if (i % 13 === 0) for (const { count } of coalescer.take(i)) counted += count
  }
  for (const { count } of coalescer.take(10_000, true)) counted += count
  expect(written + counted).toBe(10_000)
})

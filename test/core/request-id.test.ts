import { expect, test } from 'vitest'
import { newRequestId } from '../../src/journey/request-id.ts'

test('each request has an id of its own, a random UUID', () => {
  const ids = Array.from({ length: 10_000 }, newRequestId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
})

test('every random digit of it takes every value', () => {
  const seen = Array.from({ length: 36 }, () => new Set<string>())
  for (let i = 0; i < 2000; i++) for (const [at, digit] of [...newRequestId()].entries()) seen[at]?.add(digit)
  const counts = seen.map(({ size }) => size)
  const fixed = [8, 13, 18, 23, 14]
  for (const at of fixed) expect(counts[at]).toBe(1)
  expect(counts[19]).toBe(4)
  expect(counts.filter((_, at) => at !== 19 && !fixed.includes(at)).every(count => count === 16)).toBe(true)
})

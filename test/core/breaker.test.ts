import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Breaker } from '../../src/core/upstream/breaker.ts'

const OPTIONS = { errorPercent: 50, minimum: 4, windowMs: 10_000, openForMs: 30_000 }

/** One call from beginning to end; undefined when it was let pass, else after how many ms to come again. */
function call(breaker: Breaker, atMono: number, ends: 'well' | 'badly'): number | undefined {
  const retryAfterMs = breaker.admit(atMono)
  if (retryAfterMs === undefined) breaker.note(ends === 'badly', atMono, breaker.epoch)
  return retryAfterMs
}

function opened(): Breaker {
  const breaker = new Breaker(OPTIONS)
  for (let i = 0; i < 4; i++) call(breaker, 0, 'badly')
  return breaker
}

describe('what opens it', () => {
  test.each([
    { name: 'half of the calls, when there are enough of them', ends: 'bbggb', want: 'open' },
    { name: 'every call, but too few', ends: 'bbb', want: 'closed' },
    { name: 'exactly as many as must be', ends: 'bbbb', want: 'open' },
    { name: 'less than half', ends: 'gggbbggb', want: 'closed' },
    { name: 'nothing but good calls', ends: 'gggggggggggg', want: 'closed' },
  ])('$name: $want', ({ ends, want }) => {
    const breaker = new Breaker(OPTIONS)
    for (const end of ends) call(breaker, 0, end === 'b' ? 'badly' : 'well')
    expect(breaker.state).toBe(want)
  })

  test.each([
    { name: 'internal errors that callers are told in turns', told: ['ada', 'bob', 'ada', 'bob'], want: 'open' },
    { name: 'those that one caller brings about, however many', told: Array(50).fill('mallory'), want: 'closed' },
    {
      name: 'those, and one that somebody else is told among them',
      told: ['mallory', 'mallory', 'ada', ...Array(50).fill('mallory')],
      want: 'closed',
    },
  ])('$name: $want', ({ told, want }) => {
    const breaker = new Breaker(OPTIONS)
    for (const who of told) {
      expect(breaker.admit(0)).toBeUndefined()
      breaker.noteInternalError(who, 0, breaker.epoch)
    }
    expect(breaker.state).toBe(want)
  })

  test('a probe that its caller may have spoilt himself does not keep it open; the next may be one', () => {
    const breaker = opened()
    breaker.admit(30_000)
    breaker.noteInternalError('mallory', 30_000, breaker.epoch)
    expect(breaker.state).toBe('open')
    expect(breaker.admit(60_000)).toBeUndefined()
    breaker.noteInternalError('mallory', 60_000, breaker.epoch)
    expect(breaker.state).toBe('half-open')
    expect(call(breaker, 60_000, 'well')).toBeUndefined()
    expect(breaker.state).toBe('closed')
  })

  test('failures that lie further back than the window are forgotten', () => {
    const breaker = new Breaker(OPTIONS)
    for (let i = 0; i < 3; i++) call(breaker, 0, 'badly')
    call(breaker, 10_001, 'badly')
    expect(breaker.state).toBe('closed')
  })

  test('failures at the two ends of one window add up', () => {
    const breaker = new Breaker(OPTIONS)
    for (let i = 0; i < 3; i++) call(breaker, 500, 'badly')
    call(breaker, 9_900, 'badly')
    expect(breaker.state).toBe('open')
  })

  test('a long silence costs no time and leaves nothing behind', () => {
    const breaker = new Breaker(OPTIONS)
    for (let i = 0; i < 3; i++) call(breaker, 0, 'badly')
    call(breaker, 1e12, 'badly')
    expect(breaker.state).toBe('closed')
  })
})

describe('while it is open', () => {
  test('calls are told when to come again', () => {
    const breaker = opened()
    expect(breaker.admit(1)).toBe(29_999)
    expect(breaker.admit(29_000)).toBe(1000)
  })

  test('one call is let through when its time is over, and the others are told to wait for it', () => {
    const breaker = opened()
    expect(breaker.admit(30_000)).toBeUndefined()
    expect(breaker.state).toBe('half-open')
    expect(breaker.admit(30_001)).toBe(1000)
  })

  test('the probe that ends well closes it, and what was before is forgotten', () => {
    const breaker = opened()
    call(breaker, 30_000, 'well')
    expect(breaker.state).toBe('closed')
    for (let i = 0; i < 3; i++) call(breaker, 30_001, 'badly')
    expect(breaker.state).toBe('closed')
  })

  test('the probe that fails opens it for as long again', () => {
    const breaker = opened()
    call(breaker, 30_000, 'badly')
    expect([breaker.state, breaker.admit(59_999), breaker.admit(60_000)]).toEqual(['open', 1, undefined])
  })

  test('a probe whose client left makes room for another', () => {
    const breaker = opened()
    breaker.admit(30_000)
    breaker.forget(breaker.epoch)
    expect(breaker.admit(30_001)).toBeUndefined()
  })

  test('a probe that opens a stream need not end to be good', () => {
    const breaker = opened()
    breaker.admit(30_000)
    breaker.began(30_001, breaker.epoch)
    expect(breaker.state).toBe('closed')
  })
})

test('a server that accepts connections again is tried at once', () => {
  const breaker = opened()
  breaker.reconsider()
  expect([breaker.admit(1), breaker.state]).toEqual([undefined, 'half-open'])
})

describe('calls that were let pass before it opened', () => {
  test.each([
    { name: 'end well', end: (breaker: Breaker, epoch: number) => breaker.note(false, 30_001, epoch) },
    { name: 'fail', end: (breaker: Breaker, epoch: number) => breaker.note(true, 30_001, epoch) },
    { name: 'are left by their client', end: (breaker: Breaker, epoch: number) => breaker.forget(epoch) },
    { name: 'become streams', end: (breaker: Breaker, epoch: number) => breaker.began(30_001, epoch) },
  ])('do not decide the probe when they $name', ({ end }) => {
    const breaker = new Breaker(OPTIONS)
    breaker.admit(0)
    const { epoch } = breaker
    for (let i = 0; i < 4; i++) call(breaker, 0, 'badly')
    breaker.admit(30_000)
    end(breaker, epoch)
    expect([breaker.state, breaker.admit(30_002)]).toEqual(['half-open', 1000])
  })
})

test('whatever happens in whatever order, at most one probe is out, and open lasts as long as it says', () => {
  const step = fc.record({ wait: fc.integer({ min: 0, max: 8000 }), end: fc.constantFrom('well', 'badly', 'left') })
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), fc.infiniteStream(fc.nat(5)), (steps, order) => {
      const breaker = new Breaker(OPTIONS)
      const out: { epoch: number; isProbe: boolean; end: string }[] = []
      let now = 0
      let openedAt = 0
      let before = breaker.state
      for (const { wait, end } of steps) {
        now += wait
        const refused = breaker.admit(now)
        if (refused === undefined) out.push({ epoch: breaker.epoch, isProbe: breaker.state === 'half-open', end })
        else expect(refused).toBeGreaterThan(0)
        if (before === 'open' && breaker.state !== 'open') expect(now - openedAt).toBeGreaterThanOrEqual(30_000)
        before = breaker.state
        for (let i = order.next().value as number; i > 0 && out.length > 0; i--) {
          const [over] = out.splice((order.next().value as number) % out.length, 1)
          if (over?.end === 'left') breaker.forget(over.epoch)
          else if (over !== undefined) breaker.note(over.end === 'badly', now, over.epoch)
        }
        if (before !== 'open' && breaker.state === 'open') openedAt = now
        before = breaker.state
        const probes = out.filter(({ isProbe, epoch }) => isProbe && epoch === breaker.epoch)
        expect(probes.length).toBeLessThanOrEqual(1)
      }
    }),
    { numRuns: 300 },
  )
})

import { describe, expect, test } from 'vitest'
import { LoadJudge } from '../../src/edge/overload.ts'

/** What the judge says after so many ticks of the same. */
function after(judge: LoadJudge, ticks: number, lateMs: number, memoryShare = 0.5): string {
  for (let i = 0; i < ticks; i++) judge.look(lateMs, memoryShare)
  return judge.level
}

describe('lateness', () => {
  test.each([
    { lateMs: 0, level: 'normal' },
    { lateMs: 150, level: 'normal' },
    { lateMs: 300, level: 'busy' },
    { lateMs: 500, level: 'full' },
  ])('of $lateMs ms for two seconds is $level', ({ lateMs, level }) => {
    expect(after(new LoadJudge(), 20, lateMs)).toBe(level)
  })

  test('of one timer, a second long, is a pause and no overload of calls', () => {
    const judge = new LoadJudge()
    after(judge, 20, 1)
    judge.look(1000, 0.5)
    expect(judge.share).toBe(0)
  })

  test('is over when it has fallen well below its line, and not before', () => {
    const judge = new LoadJudge()
    after(judge, 30, 500)
    expect(after(judge, 30, 300)).toBe('full')
    expect(after(judge, 30, 150)).toBe('busy')
    expect(after(judge, 30, 100)).toBe('normal')
  })
})

describe('memory', () => {
  test.each([
    { share: 0.8, level: 'normal' },
    { share: 0.86, level: 'busy' },
    { share: 0.94, level: 'full' },
  ])('of which $share is used is $level', ({ share, level }) => {
    expect(after(new LoadJudge(), 1, 0, share)).toBe(level)
  })

  test('is left five points below', () => {
    const judge = new LoadJudge()
    expect(after(judge, 1, 0, 0.94)).toBe('full')
    expect(after(judge, 1, 0, 0.9)).toBe('full')
    expect(after(judge, 1, 0, 0.87)).toBe('busy')
    expect(after(judge, 1, 0, 0.79)).toBe('normal')
  })
})

test.each([
  { lateMs: 410, memoryShare: 0.5, share: 0.2 },
  { lateMs: 600, memoryShare: 0.5, share: 0.5 },
  { lateMs: 5000, memoryShare: 0.5, share: 0.9 },
  { lateMs: 0, memoryShare: 0.965, share: 0.5 },
  { lateMs: 0, memoryShare: 1, share: 0.9 },
  { lateMs: 250, memoryShare: 0.5, share: 0 },
])(
  '$lateMs ms late and $memoryShare of the memory: $share of the calls are refused',
  ({ lateMs, memoryShare, share }) => {
    const judge = new LoadJudge()
    after(judge, 100, lateMs, memoryShare)
    expect(judge.share).toBeCloseTo(share, 1)
  },
)

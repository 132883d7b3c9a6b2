import { describe, expect, test } from 'vitest'
import { AtTurnsEnd, isTurnsEnd, OneByOne, WhileInTime } from '../../src/edge/turns.ts'

const turn = () => new Promise(resolve => setImmediate(resolve))

describe('one by one', () => {
  test('the first is done at once, the rest in the turns after it, in order', async () => {
    const done: string[] = []
    const turns = new OneByOne<string>(item => done.push(item))
    for (const item of ['a', 'b', 'c']) turns.add(item)
    expect(done).toEqual(['a'])
    await turn()
    expect(done).toEqual(['a', 'b'])
    // Who comes while others wait is behind them.
    turns.add('d')
    expect(done).toEqual(['a', 'b'])
    await turn()
    await turn()
    expect(done).toEqual(['a', 'b', 'c', 'd'])
  })

  test('after a pause it is as at first', async () => {
    const done: string[] = []
    const turns = new OneByOne<string>(item => done.push(item))
    turns.add('a')
    await turn()
    turns.add('b')
    turns.add('c')
    expect(done).toEqual(['a', 'b'])
    await turn()
    expect(done).toEqual(['a', 'b', 'c'])
  })

  test('what is added while something is done waits for its turn', async () => {
    const done: string[] = []
    const turns: OneByOne<string> = new OneByOne(item => {
      done.push(item)
      if (item === 'a') turns.add('b')
    })
    turns.add('a')
    expect(done).toEqual(['a'])
    await turn()
    expect(done).toEqual(['a', 'b'])
  })
})

describe('one by one, but for those with whom there is nothing to do', () => {
  test('the next one need not wait', async () => {
    const done: string[] = []
    const turns = new OneByOne<string>(item => {
      done.push(item)
      return item !== 'gone'
    })
    for (const item of ['gone', 'a', 'gone', 'gone', 'b', 'c']) turns.add(item)
    expect(done).toEqual(['gone', 'a'])
    await turn()
    expect(done).toEqual(['gone', 'a', 'gone', 'gone', 'b'])
    expect(turns.empty()).toEqual(['c'])
    await turn()
    expect(done).toHaveLength(5)
  })
})

describe('all at the end of a turn', () => {
  test('what comes in a turn is done in order, when everything else of the turn is over', async () => {
    const done: string[] = []
    const turns = new AtTurnsEnd<string>(item => done.push(item))
    turns.add('a')
    turns.add('b')
    expect(done).toEqual([])
    await turn()
    expect(done).toEqual(['a', 'b'])
    turns.add('c')
    await turn()
    expect(done).toEqual(['a', 'b', 'c'])
  })

  test('what is added meanwhile is for the next turn', async () => {
    const done: string[] = []
    const turns: AtTurnsEnd<string> = new AtTurnsEnd(item => {
      done.push(item)
      if (item === 'a') turns.add('c')
    })
    turns.add('a')
    turns.add('b')
    await turn()
    expect(done).toEqual(['a', 'b'])
    await turn()
    expect(done).toEqual(['a', 'b', 'c'])
  })

  test('a crowd is not done in one turn, and is done in order', async () => {
    const done: number[] = []
    const turns = new AtTurnsEnd<number>(item => done.push(item))
    const crowd = Array.from({ length: 100 }, (_, i) => i)
    for (const item of crowd) turns.add(item)
    await turn()
    expect(done.length).toBeGreaterThan(0)
    expect(done.length).toBeLessThan(50)
    turns.add(100)
    for (let i = 0; i < 4; i++) await turn()
    expect(done).toEqual([...crowd, 100])
  })

  test('of those that take long a few are done in one turn, and all in order', async () => {
    const done: number[] = []
    const turns = new AtTurnsEnd<number>(item => {
      done.push(item)
      for (const until = performance.now() + 3; performance.now() < until; );
    })
    for (let i = 0; i < 5; i++) turns.add(i)
    await turn()
    expect(done.length).toBeLessThan(3)
    for (let i = 0; i < 4; i++) await turn()
    expect(done).toEqual([0, 1, 2, 3, 4])
  })

  test('one that fails takes nobody with it', async () => {
    const done: string[] = []
    const turns = new AtTurnsEnd<string>(item => {
      if (item === 'bad') throw new Error('a bug')
      done.push(item)
    })
    const failed = new Promise(resolve => {
      const others = process.listeners('uncaughtException')
      process.removeAllListeners('uncaughtException')
      process.once('uncaughtException', error => {
        for (const other of others) process.on('uncaughtException', other)
        resolve(error.message)
      })
    })
    for (const item of ['a', 'bad', 'b']) turns.add(item)
    expect(await failed).toBe('a bug')
    await turn()
    await turn()
    expect(done).toEqual(['a', 'b'])
  })

  test('whether one is still wanted is asked at the end of its own turn, also behind a crowd', async () => {
    const [done, asked]: [number[], number[]] = [[], []]
    const turns = new AtTurnsEnd<number>(
      item => done.push(item),
      item => {
        asked.push(item)
        return item % 2 === 0
      },
    )
    for (let i = 0; i < 100; i++) turns.add(i)
    await turn()
    expect(asked).toHaveLength(100)
    turns.add(100)
    await turn()
    expect(asked).toHaveLength(101)
    await turn()
    expect(done).toEqual(Array.from({ length: 51 }, (_, i) => i * 2))
  })

  test('who acts then can know that everything has been read, and nobody else is told so', async () => {
    const told: boolean[] = []
    const turns = new AtTurnsEnd<string>(() => {
      told.push(isTurnsEnd())
      queueMicrotask(() => told.push(isTurnsEnd()))
    })
    turns.add('a')
    expect(isTurnsEnd()).toBe(false)
    await turn()
    expect(told).toEqual([true, false])
  })
})

describe('at once while there is time', () => {
  const busy = (ms: number): void => {
    for (const until = performance.now() + ms; performance.now() < until; );
  }

  function doer(ms: number): { done: number[]; add: (item: number) => void } {
    const done: number[] = []
    const act = (item: number): void => {
      busy(ms)
      done.push(item)
    }
    const turns = new WhileInTime<number>(act)
    return { done, add: item => (turns.isLate(performance.now()) ? turns.wait(item) : act(item)) }
  }

  test('what takes no time is done as it comes', async () => {
    const { done, add } = doer(0)
    for (let i = 0; i < 100; i++) add(i)
    expect(done).toHaveLength(100)
  })

  test('of what takes long a few are done in a turn, also of those that wait, and all in order', async () => {
    const { done, add } = doer(3)
    for (let i = 0; i < 7; i++) add(i)
    // As late as the machine makes it, but never more.
    expect(done.length).toBeLessThanOrEqual(2)
    await turn()
    // Who comes now is behind those that wait, though this turn has only begun.
    add(7)
    expect(done.length).toBeLessThanOrEqual(4)
    for (let i = 0; i < 7; i++) await turn()
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  })

  test('a turn in which nothing was late is followed by one with time of its own', async () => {
    const { done, add } = doer(3)
    add(0)
    await turn()
    busy(10)
    add(1)
    expect(done).toEqual([0, 1])
  })
})

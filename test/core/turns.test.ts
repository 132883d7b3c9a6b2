import { expect, test } from 'vitest'
import { Turns } from '../../src/edge/turns.ts'

const turn = () => new Promise(resolve => setImmediate(resolve))

test('the first is done at once, the rest in the turns after it, in order', async () => {
  const done: string[] = []
  const turns = new Turns<string>(item => done.push(item))
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
  const turns = new Turns<string>(item => done.push(item))
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
  const turns: Turns<string> = new Turns(item => {
    done.push(item)
    if (item === 'a') turns.add('b')
  })
  turns.add('a')
  expect(done).toEqual(['a'])
  await turn()
  expect(done).toEqual(['a', 'b'])
})

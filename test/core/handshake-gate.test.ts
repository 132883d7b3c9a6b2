import { describe, expect, test } from 'vitest'
import { HandshakeGate } from '../../src/edge/handshake-gate.ts'

interface Socket {
  readonly of: string
}

/** So many sockets of one address, and how many of them were admitted. */
function come(gate: HandshakeGate<Socket>, of: string, count: number, atMono: number) {
  const entries = Array.from({ length: count }, () => {
    const socket: Socket = { of }
    return { socket, ...gate.enter(socket, of, atMono) }
  })
  return {
    admitted: entries.filter(({ admitted }) => admitted).map(({ socket }) => socket),
    evicted: entries.flatMap(({ evicted }) => (evicted === undefined ? [] : [evicted.of])),
  }
}

describe('handshakes under way', () => {
  test('are so many and no more', () => {
    const gate = new HandshakeGate<Socket>(10)
    expect(come(gate, 'a', 12, 0).admitted).toHaveLength(10)
    expect(gate.underWay).toBe(10)
  })

  test('of somebody who has most make room for somebody else', () => {
    const gate = new HandshakeGate<Socket>(10)
    come(gate, 'silent', 9, 0)
    come(gate, 'other', 1, 0)
    const honest = come(gate, 'honest', 2, 5)
    expect([honest.admitted.length, honest.evicted]).toEqual([2, ['silent', 'silent']])
  })

  test('that have been silent for long make room for others of the same address', () => {
    const gate = new HandshakeGate<Socket>(10)
    come(gate, 'a', 10, 0)
    expect(come(gate, 'a', 1, 500).admitted).toHaveLength(0)
    expect(come(gate, 'a', 1, 1500)).toMatchObject({ admitted: [{ of: 'a' }], evicted: ['a'] })
  })

  test('leave once, however often it is said', () => {
    const gate = new HandshakeGate<Socket>(10)
    const { admitted } = come(gate, 'a', 10, 0)
    for (const socket of admitted) for (let i = 0; i < 3; i++) gate.leave(socket, 'well')
    expect(gate.underWay).toBe(0)
    expect(come(gate, 'a', 11, 0).admitted).toHaveLength(10)
  })
})

describe('handshakes that begin', () => {
  test('wait after a flood from the same address, and from no other', () => {
    const gate = new HandshakeGate<Socket>(10)
    gate.charge('flood', 0)
    expect(come(gate, 'flood', 1, 0).admitted).toHaveLength(0)
    expect(come(gate, 'other', 1, 0).admitted).toHaveLength(1)
    // After the first one hardly at all, after the second for two seconds.
    expect(come(gate, 'flood', 1, 60).admitted).toHaveLength(1)
    gate.charge('flood', 60)
    expect(come(gate, 'flood', 1, 1900).admitted).toHaveLength(0)
    expect(come(gate, 'flood', 1, 2100).admitted).toHaveLength(1)
  })

  /** How many of one address are admitted in a second, each over at once. */
  function inASecond(gate: HandshakeGate<Socket>, from: number, how: 'well' | 'failed', of = 'a'): number {
    let count = 0
    for (let ms = 0; ms < 1000; ms++) {
      for (const socket of come(gate, of, 3, from + ms).admitted) {
        gate.leave(socket, how)
        count += 1
      }
    }
    return count
  }

  test('are twice as many in a second as may be under way, after a burst', () => {
    const gate = new HandshakeGate<Socket>(100)
    expect(inASecond(gate, 0, 'well')).toBeGreaterThan(500)
    expect(inASecond(gate, 1000, 'well')).toBeCloseTo(200, -1)
  })

  test('and fail are a tenth of that', () => {
    const gate = new HandshakeGate<Socket>(100)
    inASecond(gate, 0, 'failed')
    expect(inASecond(gate, 1000, 'failed')).toBeLessThanOrEqual(21)
  })

  test('and fail cost nobody at another address anything', () => {
    const gate = new HandshakeGate<Socket>(100)
    inASecond(gate, 0, 'failed')
    expect(inASecond(gate, 1000, 'well', 'b')).toBeGreaterThan(500)
  })

  test('are let in again after a pause, whatever was before', () => {
    const gate = new HandshakeGate<Socket>(100)
    for (let second = 0; second < 10; second++) inASecond(gate, second * 1000, 'failed')
    expect(come(gate, 'a', 50, 14_000).admitted).toHaveLength(50)
  })
})

test('addresses without end are not remembered without end', () => {
  const gate = new HandshakeGate<Socket>(100)
  for (let i = 0; i < 20_000; i++)
    for (const socket of come(gate, `address ${i}`, 1, i).admitted) gate.leave(socket, 'failed')
  expect(gate.visitors).toBeLessThanOrEqual(4096)
})

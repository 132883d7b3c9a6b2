import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Door } from '../../src/edge/door.ts'

let begun: string[]
let refused: string[]
let isFull: boolean
let door: Door

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setImmediate', 'setTimeout', 'performance'] })
  begun = []
  refused = []
  isFull = false
  door = new Door({
    handshakes: 20,
    isFull: () => isFull,
    begin: socket => begun.push(nameOf(socket)),
    refused: (reason, address) => refused.push(`${reason} ${address}`),
  })
})
afterEach(() => {
  vi.useRealTimers()
})

class FakeSocket extends EventEmitter {
  readonly name: string
  readonly remoteAddress: string
  destroyed = false

  constructor(name: string, remoteAddress: string) {
    super()
    this.name = name
    this.remoteAddress = remoteAddress
  }

  destroy(): void {
    this.destroyed = true
    this.emit('close')
  }
}

const nameOf = (socket: Socket) => (socket as unknown as FakeSocket).name

function arrive(name: string, address: string): Socket {
  const socket = new FakeSocket(name, address) as unknown as Socket
  door.arrive(socket)
  return socket
}

/** A connection that is through with its handshake, and has not asked for anything. */
function enter(name: string, address: string): Socket {
  const socket = arrive(name, address)
  nextTurns(1)
  door.entered(socket)
  return socket
}

function nextTurns(count: number): void {
  for (let i = 0; i < count; i++) vi.advanceTimersToNextTimer()
}

describe('handshakes', () => {
  test('begin one in a turn of the event loop, in the order in which they came', () => {
    for (const name of ['a', 'b', 'c']) arrive(name, '10.0.0.1')
    expect(begun).toEqual(['a'])
    nextTurns(1)
    expect(begun).toEqual(['a', 'b'])
    nextTurns(1)
    expect(begun).toEqual(['a', 'b', 'c'])
  })

  test('do not begin for who is gone by then', () => {
    arrive('a', '10.0.0.1')
    arrive('gone', '10.0.0.1').destroy()
    arrive('c', '10.0.0.1')
    nextTurns(2)
    expect(begun).toEqual(['a', 'c'])
  })

  test('do not begin at all while there is too much to do', () => {
    isFull = true
    expect(arrive('a', '10.0.0.1').destroyed).toBe(true)
    expect(begun).toEqual([])
    expect(refused).toEqual(['OVERLOADED 10.0.0.1'])
  })
})

describe('an address with four connections that are silent', () => {
  let silent: Socket[]
  beforeEach(() => {
    silent = ['1', '2', '3', '4'].map(name => enter(name, '10.0.0.1'))
    begun = []
  })

  test('has its next handshakes begin eight milliseconds apart', () => {
    for (const name of ['a', 'b', 'c']) arrive(name, '10.0.0.1')
    expect(begun).toEqual(['a'])
    vi.advanceTimersByTime(7)
    expect(begun).toEqual(['a'])
    vi.advanceTimersByTime(1)
    expect(begun).toEqual(['a', 'b'])
    vi.advanceTimersByTime(8)
    expect(begun).toEqual(['a', 'b', 'c'])
  })

  test('does not hold up other addresses', () => {
    for (const name of ['a', 'b', 'c']) arrive(name, '10.0.0.1')
    for (const name of ['x', 'y', 'z']) arrive(name, '10.0.0.2')
    expect(begun).toEqual(['a', 'x'])
    vi.advanceTimersByTime(7)
    expect(begun).toEqual(['a', 'x', 'y', 'z'])
  })

  test.each([
    ['has asked for something', (socket: Socket) => door.spoke(socket)],
    ['has ended', (socket: Socket) => void socket.destroy()],
  ])('is as any other when one of them %s', (_, happens) => {
    happens(silent[2] as Socket)
    for (const name of ['a', 'b', 'c']) arrive(name, '10.0.0.1')
    vi.advanceTimersByTime(7)
    expect(begun).toEqual(['a', 'b', 'c'])
  })

  test('stays so when one of them asks for something again and again', () => {
    door.spoke(silent[0] as Socket)
    door.spoke(silent[0] as Socket)
    enter('5', '10.0.0.1')
    begun = []
    for (const name of ['a', 'b']) arrive(name, '10.0.0.1')
    vi.advanceTimersByTime(7)
    expect(begun).toEqual(['a'])
  })
})

import { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { BodyRoom } from '../../src/edge/body-room.ts'
import { Connection } from '../../src/edge/connection.ts'
import type { Http1Arrival } from '../../src/edge/http1-arrival.ts'
import { Http1Connection } from '../../src/edge/http1-connection.ts'
import { AtTurnsEnd } from '../../src/edge/turns.ts'

/** A socket whose client is the test: `push` is what it sends, `written` what it gets. */
class TestSocket extends Duplex {
  written = ''
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written += chunk.toString('latin1')
    setImmediate(done)
  }
  setNoDelay(): void {}
  destroySoon(): void {
    this.end()
  }
}

let socket: TestSocket
let connection: Connection
let arrivals: Http1Arrival[]

const turn = new AtTurnsEnd<Http1Connection>(connection => connection.read())

beforeEach(() => {
  socket = new TestSocket()
  arrivals = []
  const facts = { remoteAddress: '127.0.0.1', certificate: undefined, tls: '', httpVersion: '1.1' as const }
  connection = new Connection(socket as unknown as TLSSocket, facts)
  const deadlines = { bodyMs: 1000, readMs: 1000, readBytesPerMs: 100 }
  void new Http1Connection(socket as unknown as TLSSocket, connection, {
    headBytes: 16 * 1024,
    headersMs: 1000,
    idleMs: 1000,
    deadlines,
    bodyRoom: new BodyRoom(1024 * 1024),
    inTurn: connection => turn.add(connection),
    arrival: arrival => void arrivals.push(arrival),
    malformed() {},
  })
})

const request = (path: string, body = '') =>
  `POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`

async function turns(): Promise<void> {
  for (let i = 0; i < 8; i++) await new Promise(setImmediate)
}

function answer(arrival: Http1Arrival | undefined): void {
  arrival?.head(200, [], false)
  arrival?.end(Buffer.from('ok'))
}

test('requests that were sent ahead are told of one after the other', async () => {
  socket.push(request('/1') + request('/2', 'x') + request('/3').slice(0, 20))
  await turns()
  expect(arrivals.map(({ target }) => target)).toEqual(['/1'])
  answer(arrivals[0])
  await turns()
  expect(arrivals.map(({ target }) => target)).toEqual(['/1', '/2'])
  answer(arrivals[1])
  socket.push(request('/3').slice(20))
  await turns()
  expect(arrivals.map(({ target }) => target)).toEqual(['/1', '/2', '/3'])
})

test('a body that nobody asked for, and that was too much to hold, does not stop the connection when it has come whole', async () => {
  const whole = request('/1', 'x'.repeat(70_000))
  for (let at = 0; at < whole.length; at += 16_384) socket.push(whole.slice(at, at + 16_384))
  await turns()
  answer(arrivals[0])
  await turns()
  socket.push(request('/2'))
  await turns()
  expect(arrivals.map(({ target }) => target)).toEqual(['/1', '/2'])
})

test('what was sent ahead is not done when the connection ends with the answer that is under way', async () => {
  socket.push(request('/1') + request('/2'))
  await turns()
  arrivals[0]?.head(200, [], true)
  connection.retire('draining', 5000, 'soon')
  arrivals[0]?.end(Buffer.from('ok'))
  await turns()
  expect(socket.writableEnded).toBe(true)
  socket.push(request('/3'))
  await turns()
  expect(arrivals.map(({ target }) => target)).toEqual(['/1'])
})

/** Data has been handed over, and the turn of the event loop is not over. */
async function ticks(): Promise<void> {
  for (let i = 0; i < 8; i++) await new Promise<void>(resolve => process.nextTick(resolve))
}

test('a request that was sent ahead byte by byte is read like any other', async () => {
  socket.push(request('/1'))
  await turns()
  const body = 'x'.repeat(3000)
  for (const byte of request('/2', body)) {
    socket.push(byte)
    await new Promise<void>(resolve => process.nextTick(resolve))
  }
  answer(arrivals[0])
  await turns()
  expect(arrivals[1]?.readBody(10_000)).toEqual({ ok: true, value: Buffer.from(body) })
})

test('a request whose client leaves before its turn has come is told of, as one that nobody waits for', async () => {
  socket.push(request('/1', 'body'))
  await ticks()
  expect(arrivals).toEqual([])
  socket.destroy()
  await turns()
  expect(arrivals.map(({ target, isGone }) => [target, isGone])).toEqual([['/1', true]])
  expect(arrivals[0]?.readBody(100)).toEqual({ ok: true, value: Buffer.from('body') })
})

test('a connection that is told to go answers what has come and is not read yet', async () => {
  socket.push(request('/1'))
  await ticks()
  connection.retire('draining', 1000, 'soon')
  expect(socket.writableEnded).toBe(false)
  await turns()
  answer(arrivals[0])
  await turns()
  expect(socket.written).toMatch(/^HTTP\/1\.1 200 [\s\S]*Connection: close/)
  expect(socket.writableEnded).toBe(true)
})

test('a connection that is told to go while half a head has come ends all the same', async () => {
  socket.push(request('/1').slice(0, 20))
  await ticks()
  connection.retire('draining', 1000, 'soon')
  await turns()
  expect(socket.writableEnded).toBe(true)
  expect(arrivals).toEqual([])
})

/** As it comes out of the TLS layer. */
function send(text: string): void {
  for (let at = 0; at < text.length; at += 16_384) socket.push(text.slice(at, at + 16_384))
}

describe('a client that leaves is noticed', () => {
  const leave = async (): Promise<string | undefined> => {
    let why: string | undefined
    const [arrival] = arrivals
    if (arrival !== undefined) arrival.listener = { drained() {}, left: reason => void (why = reason) }
    socket.push(null)
    await turns()
    return why
  }

  test.each(['GET', 'DELETE'])('behind a large body of its %s, for which nobody asks', async method => {
    send(request('/1', 'x'.repeat(200_000)).replace('POST', method))
    await turns()
    expect(await leave()).toBe('the client left')
  })

  test('behind a large body that has come whole before it was asked for', async () => {
    send(request('/1', 'x'.repeat(70_000)))
    await turns()
    expect(arrivals[0]?.readBody(100_000)).toMatchObject({ ok: true })
    expect(await leave()).toBe('the client left')
  })

  test('behind a small part of what it has sent ahead', async () => {
    send(request('/1') + request('/2', 'x'.repeat(60_000)))
    await turns()
    expect(await leave()).toBe('the client left')
  })
})

describe('more than is taken has been sent ahead', () => {
  const AHEAD = request('/2', 'x'.repeat(200_000))
  let pastMs = 0
  const passTime = async (ms: number): Promise<void> => {
    pastMs += ms
    connection.checkTime(performance.now(), { maxMs: undefined, graceMs: 0 })
    await turns()
  }

  beforeEach(() => {
    pastMs = 0
    const now = performance.now.bind(performance)
    vi.spyOn(performance, 'now').mockImplementation(() => now() + pastMs)
  })
  afterEach(() => void vi.restoreAllMocks())

  test('a client that leaves is noticed after some time', async () => {
    send(request('/1') + AHEAD)
    await turns()
    socket.push(null)
    await passTime(9000)
    expect(arrivals[0]?.isGone).toBe(false)
    await passTime(2000)
    expect(arrivals[0]?.isGone).toBe(true)
    expect(connection.retiredFor).toBeUndefined()
  })

  test('a call that takes longer is answered, and the connection ends with it', async () => {
    send(request('/1') + AHEAD)
    await turns()
    await passTime(11_000)
    send(AHEAD)
    await turns()
    answer(arrivals[0])
    await turns()
    expect(socket.written).toMatch(/^HTTP\/1\.1 200 [\s\S]*Connection: close[\s\S]*ok$/)
    expect([socket.writableEnded, connection.retiredFor]).toEqual([true, 'TOO_MUCH_SENT_AHEAD'])
    expect(arrivals.map(({ target }) => target)).toEqual(['/1'])
  })

  test('the connection ends with a stream that had begun before', async () => {
    send(request('/1'))
    await turns()
    arrivals[0]?.head(200, [], true)
    await passTime(60_000)
    send(AHEAD)
    await turns()
    await passTime(11_000)
    expect(socket.writableEnded).toBe(false)
    arrivals[0]?.end()
    await turns()
    expect([socket.writableEnded, connection.retiredFor]).toEqual([true, 'TOO_MUCH_SENT_AHEAD'])
  })

  test('calls that are each over before that are all done', async () => {
    const targets = ['/1', '/2', '/3', '/4', '/5']
    send(targets.map(target => request(target, 'x'.repeat(50_000))).join(''))
    await turns()
    for (let i = 0; i < targets.length; i++) {
      await passTime(9000)
      expect(arrivals[i]?.readBody(100_000)).toMatchObject({ ok: true })
      answer(arrivals[i])
      await turns()
    }
    expect(arrivals.map(({ target }) => target)).toEqual(targets)
    expect([socket.writableEnded, connection.retiredFor]).toEqual([false, undefined])
  })
})

import dns from 'node:dns'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { AtTurnsEnd } from '../../src/edge/turns.ts'
import { Http1Upstream } from '../../src/edge/upstream-http1.ts'
import type { UpstreamCall, UpstreamFailure } from '../../src/journey/upstream.ts'
import { eventually } from '../support/eventually.ts'

const cleanups: (() => unknown)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

interface Result {
  readonly status: number
  readonly body: string
  readonly failure: UpstreamFailure | undefined
}

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

function upstreamAt(
  port: number,
  { host = '127.0.0.1', ...more }: { host?: string; connectMs?: number; maxConnections?: number } = {},
): Http1Upstream {
  const upstream = new Http1Upstream({
    target: { kind: 'tcp', host, port },
    connectMs: 2000,
    maxConnections: 100,
    ...more,
  })
  cleanups.push(() => upstream.destroy())
  return upstream
}

function send(
  upstream: Http1Upstream,
  firstByteMs = 5000,
  hold: (call: UpstreamCall) => void = () => {},
  path = '/mcp',
  body = Buffer.from('{}'),
  onData = () => {},
): Promise<Result> {
  return new Promise(resolve => {
    let status = 0
    let answer = ''
    const done = (failure?: UpstreamFailure): void => resolve({ status, body: answer, failure })
    hold(
      upstream.send(
        {
          method: 'POST',
          path,
          headers: ['Content-Length', String(body.length)],
          body,
          firstByteMs,
          idleMs: 5000,
        },
        {
          head: got => {
            status = got
          },
          data: chunk => {
            answer += String(chunk)
            onData()
            return true
          },
          end: () => done(),
          fail: done,
        },
      ),
    )
  })
}

/** A server that does as told with each connection's first bytes. */
async function serve(
  answer: (socket: net.Socket, bytes: Buffer) => void,
  port = 0,
): Promise<{ port: number; accepted: () => number }> {
  let accepted = 0
  const sockets = new Set<net.Socket>()
  const server = net.createServer(socket => {
    accepted += 1
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', bytes => answer(socket, bytes))
  })
  await new Promise<void>(resolve => server.listen(port, '127.0.0.1', resolve))
  cleanups.push(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { port: (server.address() as net.AddressInfo).port, accepted: () => accepted }
}

async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

describe('a server that does not accept connections', () => {
  test('yet: calls wait for it, and every one of them is answered', async () => {
    const port = await freePort()
    const upstream = upstreamAt(port, { connectMs: 10_000 })
    const calls = Array.from({ length: 20 }, () => send(upstream))
    await sleep(250)
    const late = send(upstream)
    const { accepted } = await serve(socket => socket.write(OK), port)
    const results = await Promise.all([...calls, late])
    expect(results.map(({ status }) => status)).toEqual(new Array(21).fill(200))
    expect(accepted()).toBeLessThanOrEqual(21)
  })

  test('at all: calls are told so when the time to connect is over, with nothing sent', async () => {
    const upstream = upstreamAt(await freePort(), { connectMs: 250 })
    const results = await Promise.all([send(upstream), send(upstream), send(upstream)])
    for (const { failure } of results)
      expect(failure).toMatchObject({ kind: 'unreachable', detail: 'ECONNREFUSED', sent: false })
    expect(upstream.openConnections).toBe(0)
  })

  test('does not get what a client has given up meanwhile', async () => {
    const port = await freePort()
    const upstream = upstreamAt(port, { connectMs: 10_000 })
    let given: UpstreamCall | undefined
    void send(upstream, 5000, call => (given = call))
    await sleep(150)
    given?.cancel()
    const seen: string[] = []
    await serve(socket => {
      seen.push('call')
      socket.write(OK)
    }, port)
    expect((await send(upstream)).status).toBe(200)
    expect(seen).toEqual(['call'])
  })

  test('does not keep the others waiting when the client of the one that tries leaves', async () => {
    const port = await freePort()
    const upstream = upstreamAt(port, { connectMs: 10_000 })
    const given: UpstreamCall[] = []
    for (let i = 0; i < 5; i++) void send(upstream, 5000, call => given.push(call))
    const last = send(upstream)
    await sleep(150)
    for (const call of given) {
      call.cancel()
      await sleep(37)
    }
    await serve(socket => socket.write(OK), port)
    expect((await last).status).toBe(200)
  })
})

test('a pool without room says that it is the pool', async () => {
  const { port } = await serve(() => {})
  const upstream = upstreamAt(port, { maxConnections: 2 })
  void send(upstream)
  void send(upstream)
  expect((await send(upstream)).failure).toMatchObject({ kind: 'busy', sent: false })
})

test('a connection that breaks after the request was sent is not tried again', async () => {
  let calls = 0
  const { port } = await serve(socket => {
    calls += 1
    socket.destroy()
  })
  expect((await send(upstreamAt(port))).failure).toMatchObject({ kind: 'broke', sent: true })
  expect(calls).toBe(1)
})

test('a head that drips does not put off the time by which an answer must have begun', async () => {
  const { port } = await serve(socket => {
    socket.write('HTTP/1.1 200 OK\r\nX-Slow: ')
    const drip = setInterval(() => socket.write('x'), 20)
    socket.on('close', () => clearInterval(drip))
  })
  expect((await send(upstreamAt(port), 300)).failure).toMatchObject({ kind: 'timeout' })
})

const atTurnsEnd = new AtTurnsEnd<() => void>(begin => begin())

describe('a connection that the server has closed never fails a call that comes before this process has seen it', () => {
  test.each([
    ['begun at once', (begin: () => void) => begin()],
    ["begun at the turn's end", (begin: () => void) => atTurnsEnd.add(begin)],
  ])('%s', async (_, when) => {
    let answering: net.Socket | undefined
    const { port } = await serve(socket => {
      answering = socket
      socket.write(OK)
    })
    const rung = await new Promise<{ near: net.Socket; far: net.Socket }>(resolve => {
      const server = net.createServer(far => resolve({ near, far }))
      let near: net.Socket
      server.listen(0, '127.0.0.1', () => {
        near = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
      })
      cleanups.push(() => server.close())
    })
    cleanups.push(() => rung.near.destroy())
    const upstream = upstreamAt(port)
    for (let round = 0; round < 20; round++) {
      expect((await send(upstream)).failure).toBeUndefined()
      await sleep(3)
      // Both are with the kernel before either is read, and what asks for the call is read first.
      const second = new Promise<Result>(resolve => rung.near.once('data', () => when(() => resolve(send(upstream)))))
      rung.far.write('.')
      answering?.destroy()
      expect((await second).failure).toBeUndefined()
    }
  })
})

test('calls are written in the order in which they were sent, whatever connection each of them gets', async () => {
  const { port } = await serve(socket => socket.write(OK))
  const upstream = upstreamAt(port)
  await send(upstream)
  // The one connection has been idle for long enough to be looked at, and the others are yet to be made.
  await sleep(5)
  await new Promise(resolve => setImmediate(resolve))
  const written = vi.spyOn(net.Socket.prototype, 'write')
  cleanups.push(() => written.mockRestore())
  const paths = ['/first', '/second', '/third']
  await Promise.all(paths.map(path => send(upstream, 5000, undefined, path)))
  const inOrder = written.mock.calls.map(([bytes]) => / (\/\w+) HTTP/.exec(String(bytes))?.[1]).filter(Boolean)
  expect(inOrder).toEqual(paths)
})

test('who waits for a connection is not overtaken by who finds an idle one: that one is for the first in line', async () => {
  const seen: string[] = []
  const { port } = await serve((socket, bytes) => {
    seen.push(/ (\/\w+) HTTP/.exec(String(bytes))?.[1] as string)
    setTimeout(() => socket.write(OK), 20)
  })
  const upstream = upstreamAt(port, { host: 'localhost' })
  const busy = send(upstream, 5000, undefined, '/busy')
  await eventually(() => seen.length === 1)
  // From now on no name is found, as when a name server does not answer.
  const lookup = vi.spyOn(dns, 'lookup').mockImplementation((() => {}) as never)
  cleanups.push(() => lookup.mockRestore())
  const waiting = ['/first', '/second'].map(path => send(upstream, 5000, undefined, path))
  const newcomer = busy.then(() => send(upstream, 5000, undefined, '/newcomer'))
  for (const { status } of await Promise.all([...waiting, newcomer])) expect(status).toBe(200)
  expect(seen).toEqual(['/busy', '/first', '/second', '/newcomer'])
  expect(lookup).toHaveBeenCalledTimes(2)
})

describe('a server that answers before it has read the body takes the rest for the next request', () => {
  const unread = (status: string) => (socket: net.Socket) => {
    socket.pause()
    socket.write(OK.replace('200 OK', status))
  }

  test('so no call follows on a connection on which one was refused', async () => {
    const { port, accepted } = await serve(unread('404 Not Found'))
    const upstream = upstreamAt(port)
    expect((await send(upstream)).status).toBe(404)
    expect(upstream.openConnections).toBe(0)
    expect((await send(upstream)).status).toBe(404)
    expect(accepted()).toBe(2)
  })

  test('so no call follows on a connection that has not taken all of the body', async () => {
    const { port } = await serve(unread('200 OK'))
    const upstream = upstreamAt(port)
    expect((await send(upstream, 5000, undefined, '/mcp', Buffer.alloc(32 * 2 ** 20))).status).toBe(200)
    expect(upstream.openConnections).toBe(0)
  })

  test('and a connection whose call was answered is used again', async () => {
    const { port, accepted } = await serve(socket => socket.write(OK))
    const upstream = upstreamAt(port)
    for (let i = 0; i < 3; i++) expect((await send(upstream)).status).toBe(200)
    expect(accepted()).toBe(1)
  })
})

describe('answers that come at once and take long', () => {
  const CROWD = 20
  const busy = (): void => {
    for (const until = performance.now() + 3; performance.now() < until; );
  }
  const sendSlowly = (upstream: Http1Upstream, body?: Buffer<ArrayBuffer>, onData = () => {}) =>
    send(upstream, 5000, undefined, '/mcp', body, () => {
      busy()
      onData()
    })

  /** A server that answers so many calls together. */
  async function together(answer: (socket: net.Socket) => void): Promise<{ port: number; accepted: () => number }> {
    const waiting = new Set<net.Socket>()
    return serve(socket => {
      if (waiting.add(socket).size < CROWD) return
      for (const each of waiting) answer(each)
      waiting.clear()
    })
  }

  test('are taken a few in a turn of the event loop, so that others get theirs', async () => {
    const { port } = await together(socket => socket.write(OK))
    const upstream = upstreamAt(port)
    let [inTurn, most, isOver] = [0, 0, false]
    const turn = (): void => {
      most = Math.max(most, inTurn)
      inTurn = 0
      if (!isOver) setImmediate(turn)
    }
    turn()
    const calls = Array.from({ length: CROWD }, () => sendSlowly(upstream, undefined, () => (inTurn += 1)))
    for (const result of await Promise.all(calls))
      expect(result).toEqual({ status: 200, body: 'ok', failure: undefined })
    isOver = true
    // Two while they come and two of those that are late.
    expect(most).toBeLessThanOrEqual(4)
  })

  test('arrive whole, and their connections are used again', async () => {
    const long = 'x'.repeat(300_000)
    const { port, accepted } = await together(socket =>
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${long.length}\r\n\r\n${long}`),
    )
    const upstream = upstreamAt(port)
    for (let round = 0; round < 2; round++) {
      const results = await Promise.all(Array.from({ length: CROWD }, () => sendSlowly(upstream)))
      for (const { body, failure } of results) expect([body === long, failure]).toEqual([true, undefined])
      await eventually(() => upstream.idleConnections === CROWD)
    }
    expect(accepted()).toBe(CROWD)
  })

  test('a connection that the server closed after such an answer is not used again', async () => {
    const { port } = await together(socket => {
      socket.end(OK)
    })
    const upstream = upstreamAt(port)
    const followUps: Promise<Result>[] = []
    const thenAnother = (): void => atTurnsEnd.add(() => followUps.push(send(upstream)))
    await Promise.all(Array.from({ length: CROWD }, () => sendSlowly(upstream, undefined, thenAnother)))
    await eventually(() => followUps.length === CROWD)
    for (const { status, failure } of await Promise.all(followUps)) expect([status, failure]).toEqual([200, undefined])
    await eventually(() => upstream.openConnections === 0)
  })

  test('one that has come counts, though its connection broke before its turn', async () => {
    const { port } = await together(socket => {
      socket.write(OK)
      // With what it has not read the connection is reset.
      socket.pause().destroy()
    })
    const upstream = upstreamAt(port)
    const body = Buffer.alloc(4 * 2 ** 20)
    const results = await Promise.all(Array.from({ length: CROWD }, () => sendSlowly(upstream, body)))
    for (const { status, body: answer } of results) expect([status, answer]).toEqual([200, 'ok'])
  })

  test('a connection that had not taken all of the body when its answer came is not used again', async () => {
    const begun = new Map<net.Socket, string>()
    const { port } = await serve((socket, bytes) => {
      const before = begun.get(socket)
      begun.set(socket, before ?? '')
      // What is left of a body is the beginning of the next request, as it sees it.
      if (before !== undefined) return void (bytes.includes('POST ') && socket.write(OK.replace('200 OK', '400 Bad')))
      socket.pause()
      if (begun.size !== CROWD) return
      for (const each of begun.keys()) {
        each.write(OK)
        each.resume()
      }
    })
    const upstream = upstreamAt(port)
    const body = Buffer.alloc(6 * 2 ** 20)
    const results = await Promise.all(Array.from({ length: CROWD }, () => sendSlowly(upstream, body)))
    for (const { status } of results) expect(status).toBe(200)
    expect(upstream.openConnections).toBe(0)
  })
})

test('what a server sends unasked answers nobody, though it comes with answers that take long', async () => {
  const [asked, others] = [new Set<net.Socket>(), new Set<net.Socket>()]
  const { port } = await serve((socket, bytes) => {
    others.add(socket.setNoDelay())
    if (!String(bytes).startsWith('POST /slow')) return void socket.write(OK)
    others.delete(socket)
    if (asked.add(socket).size < 2) return
    // All three are with the kernel before any is read.
    for (const slow of asked) slow.write(OK)
    for (const idle of others) idle.write(OK.replace('\r\n\r\nok', '\r\n\r\nNO'))
    busy(2)
  })
  const busy = (ms: number): void => {
    for (const until = performance.now() + ms; performance.now() < until; );
  }
  const upstream = upstreamAt(port)
  await Promise.all([send(upstream), send(upstream), send(upstream)])
  await eventually(() => upstream.idleConnections === 3)
  const next: Promise<Result>[] = []
  const slowly = (): void => {
    busy(8)
    atTurnsEnd.add(() => next.push(send(upstream)))
  }
  const slow = () => send(upstream, 5000, undefined, '/slow', undefined, slowly)
  await Promise.all([slow(), slow()])
  await eventually(() => next.length === 2)
  for (const { body, failure } of await Promise.all(next)) expect([body, failure]).toEqual(['ok', undefined])
})

test('an answer that its client takes slowly does not cost the connection, with which its call has nothing more to do then', async () => {
  const bytes = 400_000
  const { port, accepted } = await serve(socket =>
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n${'a'.repeat(bytes)}`),
  )
  const upstream = upstreamAt(port)
  const first = takenSlowly(upstream)
  while (first.seen.bytes < bytes) {
    first.call.resume()
    await sleep(1)
  }
  expect(first.seen.isOver).toBe(true)
  const second = takenSlowly(upstream)
  await eventually(() => second.seen.bytes > 0)
  const before = second.seen.bytes
  first.call.resume()
  await sleep(50)
  expect(second.seen.bytes).toBe(before)
  expect(before).toBeLessThan(bytes)
  while (!second.seen.isOver) {
    second.call.resume()
    await sleep(1)
  }
  expect(second.seen.bytes).toBe(bytes)
  expect(accepted()).toBe(1)
})

/** A call whose client asks for a pause at each piece. */
function takenSlowly(upstream: Http1Upstream): { call: UpstreamCall; seen: { bytes: number; isOver: boolean } } {
  const seen = { bytes: 0, isOver: false }
  const call = upstream.send(
    { method: 'GET', path: '/mcp', headers: [], body: undefined, firstByteMs: 5000, idleMs: 5000 },
    {
      head: () => {},
      data: chunk => {
        seen.bytes += chunk.length
        return false
      },
      end: () => {
        seen.isOver = true
      },
      fail: failure => {
        throw new Error(failure.detail)
      },
    },
  )
  return { call, seen }
}

test('connections are counted back to nothing', async () => {
  const { port } = await serve(socket => socket.write(OK.replace('200 OK', '200 OK\r\nConnection: close')))
  const upstream = upstreamAt(port)
  await Promise.all(Array.from({ length: 30 }, () => send(upstream)))
  await eventually(() => upstream.openConnections === 0)
})

import { expect, test } from 'vitest'
import { BodyRoom, SMALL_BODY } from '../../src/edge/body-room.ts'
import { IncomingBody } from '../../src/edge/incoming-body.ts'

/** Pieces of these lengths, each filled with a letter of its own. */
function piecesOf(lengths: readonly number[]): Buffer[] {
  return lengths.map((length, i) => Buffer.alloc(length, 97 + (i % 26)))
}

test.each([
  { name: 'one piece', lengths: [500] },
  { name: 'large pieces', lengths: [16_384, 16_384, 5000] },
  { name: 'bytes, one by one', lengths: new Array(10_000).fill(1) },
  { name: 'small ones between large ones', lengths: [1, 16_384, 3, 700, 700, 1023, 1024, 2, 60_000, 9] },
  { name: 'nothing', lengths: [] },
])('$name: the body is what has come, in order', ({ lengths }) => {
  const pieces = piecesOf(lengths)
  const body = new IncomingBody()
  for (const piece of pieces) body.take(piece)
  body.end()
  expect(body.read(1_000_000, 1000)).toEqual({ ok: true, value: Buffer.concat(pieces) })
})

test('small pieces are copied, so that nothing of them is kept but their bytes', () => {
  const pieces = piecesOf(new Array(200).fill(10))
  const body = new IncomingBody()
  for (const piece of pieces) {
    body.take(piece)
    // The first is kept as it is.
    if (piece !== pieces[0]) piece.fill('?')
  }
  body.end()
  const read = body.read(10_000, 1000)
  expect(read).toEqual({ ok: true, value: Buffer.concat(piecesOf(new Array(200).fill(10))) })
})

test('who waits for the rest gets it, and who waits too long a refusal', async () => {
  const waited = new IncomingBody()
  waited.take(Buffer.from('ab'))
  const rest = waited.read(10, 1000)
  waited.take(Buffer.from('cd'))
  waited.end()
  expect(await rest).toEqual({ ok: true, value: Buffer.from('abcd') })

  const late = new IncomingBody()
  const never = late.read(10, 1000)
  late.checkTime(Number.MAX_SAFE_INTEGER)
  expect(await never).toEqual({ ok: false, error: { reason: 'request_timeout', waitedMs: 1000 } })
})

test('more than is asked for is refused, before and after it has come', async () => {
  const tooLarge = { ok: false, error: { reason: 'message_too_large', limitBytes: 3 } }
  const here = new IncomingBody()
  here.take(Buffer.from('abcd'))
  here.end()
  expect(here.read(3, 1000)).toEqual(tooLarge)

  const coming = new IncomingBody()
  const read = coming.read(3, 1000)
  coming.take(Buffer.from('ab'))
  coming.take(Buffer.from('cd'))
  expect(await read).toEqual(tooLarge)
})

test('large bodies share their room, and small ones need none', async () => {
  const room = new BodyRoom(2 * SMALL_BODY)
  const piece = Buffer.alloc(SMALL_BODY)
  const read = (pieces: number): { body: IncomingBody; read: unknown } => {
    const body = new IncomingBody(room)
    const read = body.read(1_000_000, 1000)
    for (let i = 0; i < pieces; i++) body.take(piece)
    body.end()
    return { body, read }
  }
  const noRoom = { ok: false, error: { reason: 'sidecar_overloaded', retryAfterMs: 1000 } }
  const first = read(2)
  expect(await first.read).toMatchObject({ ok: true })
  expect(await read(2).read).toEqual(noRoom)
  expect(await read(1).read).toMatchObject({ ok: true })

  first.body.letGo()
  first.body.letGo()
  const second = read(2)
  expect(await second.read).toMatchObject({ ok: true })
  // What had come of one that is refused has gone with it.
  second.body.letGo()
  expect(await read(3).read).toEqual(noRoom)
  expect(await read(2).read).toMatchObject({ ok: true })
})

test('large ones leave a quarter of the room to those that are not large', async () => {
  const room = new BodyRoom(400_000)
  const read = (bytes: number): unknown => {
    const body = new IncomingBody(room)
    body.take(Buffer.alloc(bytes))
    body.end()
    return body.read(1_000_000, 1000)
  }
  const noRoom = { ok: false, error: { reason: 'sidecar_overloaded' } }
  expect(read(301_000)).toMatchObject(noRoom)
  expect(read(299_000)).toMatchObject({ ok: true })
  expect(read(70_000)).toMatchObject(noRoom)
  expect(read(60_000)).toMatchObject({ ok: true })
  expect(read(60_000)).toMatchObject(noRoom)
  expect(read(20_000)).toMatchObject({ ok: true })
})

test('what has come before anybody asked takes its room when somebody does', () => {
  const room = new BodyRoom(SMALL_BODY)
  const body = new IncomingBody(room)
  body.take(Buffer.alloc(2 * SMALL_BODY))
  body.end()
  expect(room.take(SMALL_BODY, SMALL_BODY)).toBe(true)
  room.giveBack(SMALL_BODY)
  expect(body.read(1_000_000, 1000)).toMatchObject({ ok: false, error: { reason: 'sidecar_overloaded' } })
})

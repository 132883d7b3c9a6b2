import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { filterLists } from '../src/core/mcp/list-filter.ts'
import { type PostedHeaders, readPostedHeaders } from '../src/core/mcp/posted-headers.ts'
import { readPosted } from '../src/core/mcp/read-posted.ts'
import { SseReader } from '../src/core/mcp/sse-reader.ts'
import { bodyOf, readCorpus } from '../test/support/corpus.ts'
import { worstBodies } from '../test/support/worst-bodies.ts'

/**
 * Throws mutated requests and event streams at the two readers that strangers can reach:
 * `npm run fuzz -- [--seconds 20] [--seed 1] [--no-ceilings]`.
 *
 * Wrong is: an exception; a body that is read though JSON.parse refuses it, or read differently; changed bytes; an
 * event stream that tells something else when it is cut elsewhere; a worst body of 1 MiB that takes more than 20 ms (on
 * a machine that parses a plain one in 5 ms), or whose time grows faster than its size.
 *
 * Exit code 1 with the input in base64 and the seed when something is wrong.
 */

const { values } = parseArgs({
  allowNegative: true,
  options: {
    seconds: { type: 'string', default: '20' },
    seed: { type: 'string' },
    // Off where other work shares the machine: growth is still judged, milliseconds are only printed.
    ceilings: { type: 'boolean', default: true },
  },
})
const seconds = Number(values.seconds)
const seed = values.seed === undefined ? Date.now() >>> 0 : Number(values.seed)
if (!(seconds > 0) || !Number.isInteger(seed)) {
  console.error('usage: node scripts/fuzz.ts [--seconds N] [--seed N] [--no-ceilings]')
  process.exit(2)
}
console.log(`seed ${seed}, ${seconds} s`)

const LIMITS = { depth: 64, batch: 4 }
const PLAIN_MS = 5
const random = generator(seed)
const requests = [...readCorpus().values()].flat().filter(request => (request.body?.length ?? 0) < 4000)
const pieces = [
  ...'{}[]":,\\\n\r\t 0-1.eE+',
  '\u0000',
  'é',
  '\ufeff',
  'ſ',
  'K',
  '\\u0000',
  '\\ud800',
  '"name":"x",',
  '"id":2,',
  '"_meta":{',
  '"io.modelcontextprotocol/protocolVersion":"2026-07-28",',
  'data: ',
  '\n\n',
  '\r\r',
  'event: e\n',
  'id: 7\n',
  ': c\n',
].map(text => Buffer.from(text))
const OPEN: PostedHeaders = readPostedHeaders(['Content-Type', 'application/json'])

let bodies = 0
let accepted = 0
let streams = 0
const until = performance.now() + seconds * 800
while (performance.now() < until) {
  const request = requests[random(requests.length)]!
  const body = mutate(bodyOf(request), random(6))
  tried('body', body, () => checkBody(body, random(3) === 0 ? readPostedHeaders(request.headers.flat()) : OPEN))
  bodies++
  const stream = makeStream(body)
  const size = 1 + random(40)
  tried('stream', stream, () => checkStream(stream, size))
  streams++
}
console.log(`${bodies} bodies, ${accepted} of them read; ${streams} event streams; nothing wrong`)
checkTimes()

function checkBody(body: Buffer, headers: PostedHeaders): void {
  const before = Buffer.from(body)
  const read = readPosted(body, headers, LIMITS)
  if (!body.equals(before)) throw new Error('the bytes have changed')
  if (!read.ok) return
  accepted++
  const plain = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)) as Plain | Plain[]
  const expected = Array.isArray(plain) ? plain : [plain]
  for (const [i, message] of read.value.messages.entries()) {
    const { method, id, params } = expected[i]!
    if (message.method !== (method ?? '') || message.id !== id)
      throw new Error('another method or id than JSON.parse has')
    if (JSON.stringify(message.params) !== JSON.stringify(params)) throw new Error('other params than JSON.parse has')
    if (method === 'tools/call' && message.objects[0]?.name !== params?.['name']) throw new Error('another tool')
  }
}

interface Plain {
  method?: string
  id?: string | number
  params?: Record<string, unknown>
}

function checkStream(stream: Buffer, size: number): void {
  const whole = follow(stream, stream.length, false)
  const cut = follow(stream, size, false)
  if (!whole.out.equals(stream) || !cut.out.equals(stream)) throw new Error('the stream has changed')
  if (whole.told !== cut.told) throw new Error(`cut every ${size} bytes it tells something else`)
  const held = follow(stream, stream.length, true)
  const heldCut = follow(stream, size, true)
  if (!held.out.equals(heldCut.out)) throw new Error(`held and cut every ${size} bytes it becomes something else`)
}

function follow(stream: Buffer, size: number, holds: boolean): { out: Buffer; told: string } {
  const told: unknown[] = []
  const reader = new SseReader(
    {
      holds: () => holds,
      message: seen => told.push(seen),
      text: (type, data) => told.push([type, data]),
      eventId: id => told.push(id),
      rewrite: data => {
        const result = filterLists(data, { isPending: () => true, allows: (_kind, name) => name.length % 2 === 0 })
        return result.ok ? result : { ok: true, value: data }
      },
    },
    1 << 20,
  )
  const out: Buffer[] = []
  for (let at = 0; at < stream.length; at += size) {
    const piece = reader.take(stream.subarray(at, at + size))
    if (piece !== undefined) out.push(Buffer.from(piece))
  }
  const rest = reader.finish()
  if (rest !== undefined) out.push(rest)
  return { out: Buffer.concat(out), told: JSON.stringify(told) }
}

function makeStream(body: Buffer): Buffer {
  const ends = ['\n', '\r', '\r\n']
  const end = ends[random(3)]!
  const list = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"bb"}]}}'
  const events = [
    `data: ${body.toString('latin1')}`,
    `data: ${list}`,
    `event: message${end}id: ${random(99)}${end}data:{"id":1,"result":{}}`,
    ': alive',
    'data',
  ]
  let text = ''
  for (let i = random(5); i >= 0; i--) text += `${events[random(events.length)]}${end}${random(4) === 0 ? '' : end}`
  return mutate(Buffer.from(text, 'latin1'), random(4))
}

function mutate(bytes: Buffer, times: number): Buffer {
  let out = bytes
  for (let i = 0; i < times; i++) {
    const at = random(out.length + 1)
    const kind = random(6)
    const piece = pieces[random(pieces.length)]!
    if (kind === 0) out = Buffer.concat([out.subarray(0, at), out.subarray(at + 1 + random(3))])
    else if (kind === 1) out = Buffer.concat([out.subarray(0, at), piece, out.subarray(at)])
    else if (kind === 2) out = Buffer.concat([out.subarray(0, at), piece, out.subarray(at + piece.length)])
    else if (kind === 3) out = Buffer.concat([out.subarray(0, at), out.subarray(Math.max(0, at - random(30)))])
    else if (kind === 4 && out.length > 0) {
      out = Buffer.from(out)
      out[at % out.length] = random(256)
    } else out = out.subarray(0, at)
  }
  return out
}

/** Each worst body at one and at four times its size: below the ceiling, and not growing faster than the size. */
function checkTimes(): void {
  const plain = Buffer.from(JSON.stringify(Array.from({ length: 30_000 }, (_, i) => ({ id: i, name: `user ${i}` }))))
  const small = worstBodies(1 << 18)
  for (const [name, body] of Object.entries(worstBodies(1 << 20))) {
    const steps: [string, (bytes: Buffer) => unknown][] = [
      ['reading', bytes => readPosted(bytes, OPEN, { depth: 64, batch: 0 })],
      [
        'scanning as a stream',
        bytes => follow(Buffer.concat([Buffer.from('data: '), bytes, Buffer.from('\n\n')]), 16_384, false),
      ],
    ]
    for (const [step, run] of steps) {
      const most = step === 'reading' ? 20 : 60
      let ms = Number.POSITIVE_INFINITY
      let quarter = Number.POSITIVE_INFINITY
      let wrong: string | undefined
      // Other work on the machine slows everything: what the plain megabyte takes at this moment says how much.
      for (let again = 0; again < 6 && (again === 0 || wrong !== undefined); again++) {
        const pace = again === 0 ? 1 : Math.max(1, best(plain, bytes => JSON.parse(bytes.toString())) / PLAIN_MS)
        ms = Math.min(ms, best(body, run))
        quarter = Math.min(quarter, best(small[name]!, run))
        wrong =
          values.ceilings && ms > most * pace
            ? 'too slow'
            : ms > 5 * pace && ms > quarter * 16
              ? 'not linear'
              : undefined
      }
      const verdict = `${name}, ${step}: ${ms.toFixed(1)} ms for 1 MiB, ${quarter.toFixed(1)} ms for a quarter of it`
      if (wrong !== undefined) fail(`${wrong}: ${verdict}`)
      console.log(verdict)
    }
  }
}

function best(bytes: Buffer, run: (bytes: Buffer) => unknown): number {
  let ms = Number.POSITIVE_INFINITY
  for (let i = 0; i < 7; i++) {
    const start = performance.now()
    run(bytes)
    ms = Math.min(ms, performance.now() - start)
  }
  return ms
}

function tried(what: string, input: Buffer, run: () => void): void {
  try {
    run()
  } catch (error) {
    fail(`${what} ${input.toString('base64')}\n${error instanceof Error ? error.stack : String(error)}`)
  }
}

function fail(what: string): never {
  console.error(`${what}\nseed ${seed}`)
  process.exit(1)
}

/** Mulberry32: the same seed, the same run. */
function generator(start: number): (below: number) => number {
  let state = start | 0
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below)
  }
}

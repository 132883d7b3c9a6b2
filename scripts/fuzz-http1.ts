import http from 'node:http'
import { performance } from 'node:perf_hooks'
import { Duplex } from 'node:stream'
import { parseArgs } from 'node:util'
import { AnswerReader } from '../src/core/http1/answer-reader.ts'
import { RequestReader } from '../src/core/http1/request-reader.ts'
import { readAnswer } from '../test/support/answers.ts'
import { readRequests } from '../test/support/requests-read.ts'

/**
 * Throws mutated requests and answers at the readers of HTTP/1.1: `node scripts/fuzz-http1.ts [--seconds 20] [--seed 1]`.
 *
 * Wrong is: an exception; a message that is read differently when it is cut elsewhere; bytes handed on that were never
 * sent; a head or a body that costs more than linear time when it drips byte by byte; and a request which Node's own
 * parser (llhttp) takes for another one, or refuses, when ours takes it.
 *
 * Exit code 1 with the input in base64 and the seed when something is wrong.
 */

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '20' }, seed: { type: 'string' } } })
const seconds = Number(values.seconds)
const seed = values.seed === undefined ? Date.now() >>> 0 : Number(values.seed)
if (!(seconds > 0) || !Number.isInteger(seed)) {
  console.error('usage: node scripts/fuzz-http1.ts [--seconds N] [--seed N]')
  process.exit(2)
}
console.log(`seed ${seed}, ${seconds} s`)

const SEEDS = [
  'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"id":1234}',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nX-A: 1\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nab',
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {}\n\n',
  'HTTP/1.1 204 No Content\r\nX-Empty:\r\n\r\n',
]
const PIECES = [
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  '0\r\n\r\n',
  'ffffffffffff',
  '\u0000',
  '\u00ff',
  'chunked',
  'Content-Length: 1\r\n',
  'Transfer-Encoding: chunked\r\n',
  'HTTP/1.1 200 OK\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\n',
]
const REQUESTS = [
  'POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"id":1234}',
  'POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-A: 1\r\n\r\n',
  'GET /mcp?x=1 HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\nX-Empty:\r\n\r\n',
  'DELETE /mcp HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nMcp-Session-Id: x\r\n\r\n',
]
/** Node hands over the bare socket for CONNECT and reads PRI as HTTP/2. */
const NOT_LIKE_OTHERS: ReadonlySet<string> = new Set(['CONNECT', 'PRI'])
const NOTHING = { head() {}, data() {}, end() {} }
const random = generator(seed)

await fuzzRequests(performance.now() + seconds * 500)

let tried = 0
let whole = 0
const until = performance.now() + seconds * 500
while (performance.now() < until) {
  const bytes = mutated(SEEDS[random(SEEDS.length)] as string, random(6))
  const closes = random(2) === 0
  try {
    const read = readAnswer([bytes], { closes })
    const cut = readAnswer(inPieces(bytes, 1 + random(30)), { closes })
    if (JSON.stringify(read) !== JSON.stringify(cut)) throw new Error('read differently when it is cut')
    if (read.body.length > bytes.length) throw new Error('more bytes than were sent')
    tried += 1
    if (read.ended && read.fault === undefined) whole += 1
  } catch (error) {
    console.error(`seed ${seed}, answer ${tried}: ${String(error)}\n${bytes.toString('base64')}`)
    process.exit(1)
  }
}
console.log(`${tried} answers, ${whole} of them whole; nothing wrong`)
checkTimes()

async function fuzzRequests(until: number): Promise<void> {
  let tried = 0
  let read = 0
  let judged = 0
  while (performance.now() < until) {
    const bytes = mutated(REQUESTS[random(REQUESTS.length)] as string, random(6))
    try {
      const atOnce = readRequests([bytes])
      const cut = readRequests(inPieces(bytes, 1 + random(30)))
      if (JSON.stringify(atOnce) !== JSON.stringify(cut)) throw new Error('read differently when it is cut')
      const taken = atOnce.requests.filter(({ isWhole }) => isWhole)
      if (taken.reduce((sum, { body }) => sum + body.length, 0) > bytes.length)
        throw new Error('more bytes than were sent')
      tried++
      read += taken.length
      if (taken.length === 0) continue
      const theirs = await readByNode(bytes)
      for (const [i, { method, target, headers, body }] of taken.entries()) {
        // Node knows a fixed list of methods; ours are judged by name later.
        if (!http.METHODS.includes(method) || NOT_LIKE_OTHERS.has(method)) break
        const ours = JSON.stringify([method, target, headers, body])
        if (theirs[i] === undefined) throw new Error(`refused by Node: ${ours}`)
        if (theirs[i] !== ours) throw new Error(`Node reads ${theirs[i]}, we ${ours}`)
        judged++
        if (!taken[i]?.keepAlive) break
      }
    } catch (error) {
      console.error(`seed ${seed}, request ${tried}: ${String(error)}\n${bytes.toString('base64')}`)
      process.exit(1)
    }
  }
  console.log(`${tried} inputs, ${read} requests in them, ${judged} compared with Node's parser; nothing wrong`)
}

/** What Node's server makes of the bytes: one text for each request that it has read to its end. */
async function readByNode(bytes: Buffer): Promise<string[]> {
  const requests: string[] = []
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    const body: Buffer[] = []
    request.on('data', (chunk: Buffer) => body.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(body).toString('latin1')
      requests.push(JSON.stringify([request.method, request.url, request.rawHeaders, text]))
    })
    response.end()
  })
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
  // What was read before the fault still counts; Node would cut it off.
  server.on('clientError', () => {})
  let isSent = false
  const socket = new Duplex({
    read() {
      if (isSent) return
      isSent = true
      this.push(bytes)
    },
    write: (_chunk, _encoding, done) => done(),
  })
  socket.on('error', () => {})
  server.emit('connection', socket)
  for (let turn = 0; turn < 12; turn++) await new Promise(setImmediate)
  socket.destroy()
  return requests
}

function checkTimes(): void {
  const head = (size: number) => Buffer.from(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(size)}\r\nContent-Length: 0\r\n\r\n`)
  const chunks = (n: number) =>
    Buffer.from(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\na\r\n'.repeat(n)}0\r\n\r\n`)
  const requestHead = (size: number) => Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(size)}\r\n\r\n`)
  for (const [name, make, small, large] of [
    ['head byte by byte', head, 6_000, 60_000],
    ['chunks of one byte, byte by byte', chunks, 10_000, 100_000],
    ['head of a request, byte by byte', requestHead, 6_000, 60_000],
  ] as const) {
    const time = make === requestHead ? requestTimeOf : timeOf
    const [few, many] = [time(make(small)), time(make(large))]
    const ratio = many / few
    console.log(`${name}: 10 times the bytes cost ${ratio.toFixed(1)} times the time (${many.toFixed(1)} ms)`)
    // Quadratic would be 100; a shared machine makes linear look like up to 25 now and then.
    if (ratio > 40) {
      console.error(`${name}: not linear`)
      process.exit(1)
    }
  }
}

function timeOf(bytes: Buffer): number {
  return bestOf(() => {
    const reader = new AnswerReader()
    reader.begin()
    for (let i = 0; i < bytes.length; i++) reader.feed(bytes.subarray(i, i + 1), NOTHING)
  })
}

function requestTimeOf(bytes: Buffer): number {
  return bestOf(() => {
    const reader = new RequestReader(64 * 1024)
    for (let i = 0; i < bytes.length; i++) reader.feed(bytes.subarray(i, i + 1), 0, NOTHING)
  })
}

/** Best of several runs, in ms. */
function bestOf(run: () => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 7; i++) {
    const begun = performance.now()
    run()
    best = Math.min(best, performance.now() - begun)
  }
  return best
}

function mutated(text: string, times: number): Buffer {
  let out = text
  for (let i = 0; i < times; i++) {
    const at = random(out.length + 1)
    const piece = PIECES[random(PIECES.length)] as string
    const kind = random(4)
    if (kind === 0) out = out.slice(0, at) + out.slice(at + 1 + random(4))
    else if (kind === 1) out = out.slice(0, at) + piece + out.slice(at)
    else if (kind === 2) out = out.slice(0, at) + piece + out.slice(at + piece.length)
    else out = out.slice(0, at) + out.slice(at, at + 20) + out.slice(at)
  }
  return Buffer.from(out, 'latin1')
}

function inPieces(bytes: Buffer, size: number): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size))
  return pieces
}

/** Mulberry32: small, and the same on every machine. */
function generator(from: number): (below: number) => number {
  let state = from
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

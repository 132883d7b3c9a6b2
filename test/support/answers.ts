import fc from 'fast-check'
import { AnswerReader } from '../../src/core/http1/answer-reader.ts'

/** All that a reader told of the bytes of a connection. */
export interface ReadAnswer {
  readonly status: number | undefined
  readonly headers: readonly string[]
  readonly body: string
  readonly ended: boolean
  readonly keepAlive: boolean
  readonly fault: string | undefined
}

/** Feeds the pieces to a new reader, up to the first fault; `closes` when the server then ends the connection. */
export function readAnswer(pieces: readonly Buffer[], { closes = false } = {}): ReadAnswer {
  const reader = new AnswerReader()
  reader.begin()
  const told = { status: undefined as number | undefined, headers: [] as string[], body: '', ended: false }
  const parts = {
    head(status: number, headers: string[]) {
      if (told.status !== undefined) throw new Error('a second head')
      told.status = status
      told.headers = headers
    },
    data(chunk: Buffer) {
      if (told.status === undefined || told.ended) throw new Error('a body outside of its answer')
      told.body += chunk.toString('latin1')
    },
    end() {
      if (told.status === undefined || told.ended) throw new Error('an end without a beginning')
      told.ended = true
    },
  }
  let fault: string | undefined
  for (const piece of pieces) {
    fault = reader.feed(piece, parts)
    if (fault !== undefined) break
  }
  if (fault === undefined && closes) fault = reader.close(parts)
  return { ...told, keepAlive: reader.keepAlive, fault }
}

/** The bytes cut at these places, which are fractions of their length. */
export function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [0, ...places.map(place => Math.floor(place * bytes.length)).toSorted((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end))
}

export const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 })

const headerName = fc
  .stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,11}$/)
  .filter(name => !NAMES_THAT_FRAME.has(name.toLowerCase()))
const headerValue = fc.stringMatching(/^([!-~]([ -~]{0,20}[!-~])?)?$/)
const NAMES_THAT_FRAME = new Set(['content-length', 'transfer-encoding', 'connection', 'keep-alive'])

/** An answer as a server may send it, and what is to be read from it. */
export interface MadeAnswer {
  readonly bytes: Buffer
  readonly closes: boolean
  readonly status: number
  readonly headers: readonly string[]
  readonly body: string
}

export const answers: fc.Arbitrary<MadeAnswer> = fc
  .record({
    status: fc.integer({ min: 200, max: 599 }).filter(status => status !== 204 && status !== 304),
    reason: fc.constantFrom(' OK', ' ', '', ' Not Found'),
    interim: fc.nat({ max: 3 }),
    headers: fc.array(fc.tuple(headerName, headerValue), { maxLength: 5 }),
    blank: fc.constantFrom('', ' ', ' \t'),
    pieces: fc.array(fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 40 }), { maxLength: 5 }),
    framing: fc.constantFrom('length', 'chunks', 'close'),
    extension: fc.constantFrom('', ';a=b', ';x'),
    trailer: fc.constantFrom('', 'X-Late: 1\r\n'),
  })
  .map(({ status, reason, interim, headers, blank, pieces, framing, extension, trailer }) => {
    const body = pieces.join('')
    const lines = headers.map(([name, value]) => [name, value] as const)
    if (framing === 'length') lines.push(['Content-Length', String(body.length)])
    if (framing === 'chunks') lines.push(['Transfer-Encoding', 'chunked'])
    const chunks = pieces.map(piece => `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`).join('')
    const text =
      'HTTP/1.1 100 Continue\r\n\r\n'.repeat(interim) +
      `HTTP/1.1 ${status}${reason}\r\n` +
      lines.map(line => headerLine(line, blank)).join('') +
      `\r\n${framing === 'chunks' ? `${chunks}0\r\n${trailer}\r\n` : body}`
    return { bytes: Buffer.from(text, 'latin1'), closes: framing === 'close', status, headers: lines.flat(), body }
  })

/** A framing has no tab beside it. */
function headerLine([name, value]: readonly [string, string], blank: string): string {
  const around = name === 'Content-Length' || name === 'Transfer-Encoding' ? blank.trimEnd() : blank
  return `${name}:${around}${value}${around}\r\n`
}

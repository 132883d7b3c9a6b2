import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { AnswerReader } from '../../src/core/http1/answer-reader.ts'
import { RequestReader } from '../../src/core/http1/request-reader.ts'
import { eventually } from '../support/eventually.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function bytesOfBuffers(): number {
  collect()
  return process.memoryUsage().arrayBuffers
}

const LARGE = 'x'.repeat(30_000)
const READERS = 100

/** Cut within what is large, so that it has to be held. */
function halvesOf(text: string): Buffer[] {
  return [Buffer.from(text.slice(0, -9)), Buffer.from(text.slice(-9))]
}

const requestRead = (text: string, areOver: boolean) => (): unknown => {
  const reader = new RequestReader(32 * 1024)
  for (const half of halvesOf(text)) reader.feed(half, 0, { head() {}, data() {} })
  expect(reader.isWhole).toBe(true)
  if (areOver) reader.next()
  return reader
}

function answerRead(): unknown {
  const reader = new AnswerReader()
  reader.begin()
  for (const half of halvesOf(ANSWER)) reader.feed(half, { head() {}, data() {}, end() {} })
  expect(reader.done).toBe(true)
  return reader
}

const ANSWER = `HTTP/1.1 204 No Content\r\nX: ${LARGE}\r\n\r\n`
const HEAD = `GET / HTTP/1.1\r\nHost: a\r\nX: ${LARGE}\r\n\r\n`
const TRAILER = `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ${LARGE}\r\n\r\n`

test.each([
  { name: 'a request with a large head, which is being answered', read: requestRead(HEAD, false) },
  { name: 'a request with a large head, which is over', read: requestRead(HEAD, true) },
  { name: 'a request with large trailers, which is over', read: requestRead(TRAILER, true) },
  { name: 'an answer with a large head, which is over', read: answerRead },
])('of $name, a connection keeps no bytes', async ({ read }) => {
  const before = bytesOfBuffers()
  const readers = Array.from({ length: READERS }, read)
  await eventually(() => bytesOfBuffers() - before < (READERS * LARGE.length) / 10, 2000)
  expect(readers).toHaveLength(READERS)
})

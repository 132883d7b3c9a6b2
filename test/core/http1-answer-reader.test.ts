import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AnswerReader } from '../../src/core/http1/answer-reader.ts'
import { answers, cutAt, cuts, readAnswer } from '../support/answers.ts'

const OK = 'HTTP/1.1 200 OK\r\n'

describe('an answer that is read', () => {
  test.each([
    { name: 'with a length', bytes: `${OK}Content-Length: 3\r\n\r\nabc`, body: 'abc', keepAlive: true },
    { name: 'of no bytes', bytes: `${OK}Content-Length: 0\r\n\r\n`, body: '', keepAlive: true },
    {
      name: 'in chunks',
      bytes: `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n`,
      body: 'abc',
      keepAlive: true,
    },
    {
      name: 'in chunks, spelt otherwise',
      bytes: `${OK}transfer-ENCODING: Chunked\r\n\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n`,
      body: '0123456789',
      keepAlive: true,
    },
    { name: 'without a body', bytes: 'HTTP/1.1 204 No Content\r\n\r\n', body: '', keepAlive: true },
    { name: 'without a reason', bytes: 'HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n', body: '', keepAlive: true },
    {
      name: 'whose server closes',
      bytes: `${OK}Connection: close\r\nContent-Length: 1\r\n\r\na`,
      body: 'a',
      keepAlive: false,
    },
    { name: 'of HTTP/1.0', bytes: 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na', body: 'a', keepAlive: false },
    {
      name: 'of HTTP/1.0 that stays',
      bytes: 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na',
      body: 'a',
      keepAlive: true,
    },
    {
      name: 'after interim ones',
      bytes: `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${OK}Content-Length: 1\r\n\r\na`,
      body: 'a',
      keepAlive: true,
    },
    {
      name: 'with trailers',
      bytes: `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-User-ID: eve\r\n\r\n`,
      body: 'a',
      keepAlive: true,
    },
  ])('$name', ({ bytes, body, keepAlive }) => {
    expect(readAnswer([Buffer.from(bytes)])).toMatchObject({ body, keepAlive, ended: true, fault: undefined })
  })

  test('until the server closes', () => {
    expect(readAnswer([Buffer.from(`${OK}\r\nabc`)], { closes: true })).toMatchObject({
      body: 'abc',
      ended: true,
      keepAlive: false,
    })
  })

  test('keeps its header lines in order, as they were spelt, without blanks around values', () => {
    const bytes = `${OK}X-A:  one \t\r\nx-a:two\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n`
    expect(readAnswer([Buffer.from(bytes)]).headers).toEqual([
      'X-A',
      'one',
      'x-a',
      'two',
      'X-Empty',
      '',
      'Content-Length',
      '0',
    ])
  })

  test('drops what comes in trailers', () => {
    const bytes = `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Late: 1\r\n\r\n`
    expect(readAnswer([Buffer.from(bytes)]).headers).toEqual(['Transfer-Encoding', 'chunked'])
  })

  test('says how long its connection may rest', () => {
    const reader = new AnswerReader()
    reader.begin()
    reader.feed(Buffer.from(`${OK}Keep-Alive: max=5, timeout=7\r\nContent-Length: 0\r\n\r\n`), {
      head() {},
      data() {},
      end() {},
    })
    expect(reader.idleHintMs).toBe(7000)
    reader.begin()
    expect(reader.idleHintMs).toBeUndefined()
  })
})

describe('an answer that is refused', () => {
  const chunked = `${OK}Transfer-Encoding: chunked\r\n\r\n`
  test.each([
    { name: 'no HTTP', bytes: 'SSH-2.0-OpenSSH\r\n\r\n' },
    { name: 'HTTP/2', bytes: 'HTTP/2.0 200 OK\r\n\r\n' },
    { name: 'a status of four digits', bytes: 'HTTP/1.1 2000 OK\r\n\r\n' },
    { name: 'a status below 100', bytes: 'HTTP/1.1 099 OK\r\n\r\n' },
    { name: 'another protocol', bytes: 'HTTP/1.1 101 Switching Protocols\r\n\r\n' },
    { name: 'an interim answer with a body', bytes: 'HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc' },
    { name: 'interim answers without end', bytes: 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(17) },
    { name: 'a folded line', bytes: `${OK}X-A: 1\r\n 2\r\n\r\n` },
    { name: 'a blank before the colon', bytes: `${OK}X-A : 1\r\n\r\n` },
    { name: 'a line without a name', bytes: `${OK}: 1\r\n\r\n` },
    { name: 'a line without a colon', bytes: `${OK}X-A\r\n\r\n` },
    { name: 'a bare line feed within a value', bytes: `${OK}X-A: 1\nX-B: 2\r\n\r\n` },
    { name: 'a NUL within a value', bytes: `${OK}X-A: 1\u00002\r\n\r\n` },
    { name: 'two lengths, though the same', bytes: `${OK}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc` },
    { name: 'a length with a sign', bytes: `${OK}Content-Length: +3\r\n\r\nabc` },
    { name: 'a list of lengths', bytes: `${OK}Content-Length: 3, 3\r\n\r\nabc` },
    { name: 'a length that no number holds', bytes: `${OK}Content-Length: 9999999999999999\r\n\r\n` },
    { name: 'two framings', bytes: `${OK}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n` },
    { name: 'a coding besides chunked', bytes: `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n` },
    { name: 'chunked twice', bytes: `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n` },
    { name: 'chunks in HTTP/1.0', bytes: 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n' },
    { name: 'a chunk size that is no number', bytes: `${chunked}zz\r\n` },
    { name: 'a chunk size with a sign', bytes: `${chunked}-1\r\n` },
    { name: 'a chunk size in C notation', bytes: `${chunked}0x5\r\n` },
    { name: 'a chunk size of nothing', bytes: `${chunked}\r\n` },
    { name: 'a chunk size that overflows', bytes: `${chunked}1000000000000\r\n` },
    { name: 'a chunk size line without CR', bytes: `${chunked}3\nabc\r\n` },
    { name: 'a chunk longer than it says', bytes: `${chunked}1\r\nab\r\n` },
    { name: 'a chunk extension without end', bytes: `${chunked}1;${'x'.repeat(300)}` },
    { name: 'a head without end', bytes: `${OK}X-A: ${'x'.repeat(70_000)}` },
    { name: 'more lines than anybody needs', bytes: `${OK}${'X-A: 1\r\n'.repeat(300)}\r\n` },
    { name: 'trailers without end', bytes: `${chunked}0\r\n${`X-A: ${'x'.repeat(1000)}\r\n`.repeat(70)}` },
    { name: 'bytes behind its end', bytes: `${OK}Content-Length: 1\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n` },
  ])('$name', ({ bytes }) => {
    const whole = readAnswer([Buffer.from(bytes, 'latin1')])
    expect(whole.fault).toEqual(expect.any(String))
    // Byte by byte as well: what is wrong must not depend on how it happens to be cut.
    const bytewise = readAnswer([...Buffer.from(bytes, 'latin1')].map(byte => Buffer.from([byte])))
    expect({ ...bytewise, fault: whole.fault }).toEqual(whole)
    expect(bytewise.fault).toBeDefined()
  })

  test.each([
    { name: 'in its head', bytes: `${OK}Content-` },
    { name: 'in its body', bytes: `${OK}Content-Length: 5\r\n\r\nabc` },
    { name: 'in a chunk', bytes: `${chunked}5\r\nabc` },
    { name: 'before its last chunk', bytes: `${chunked}1\r\na\r\n` },
    { name: 'in its trailers', bytes: `${chunked}0\r\nX-A: 1\r\n` },
  ])('because it is cut $name', ({ bytes }) => {
    expect(readAnswer([Buffer.from(bytes)], { closes: true })).toMatchObject({
      ended: false,
      fault: 'connection closed before the answer was whole',
    })
  })
})

test('the largest head and one byte more are told apart, wherever they are cut', () => {
  const head = (size: number) => Buffer.from(`${OK}X: ${'x'.repeat(size - OK.length - 3)}\r\n\r\n`)
  for (const [size, fault] of [
    [65_536, undefined],
    [65_537, 'head larger than 65536 bytes'],
  ] as const) {
    const bytes = head(size)
    for (const at of [1, 1000, size - 1, size, size + 1, size + 2, size + 3, bytes.length]) {
      const { status, ...read } = readAnswer([bytes.subarray(0, at), bytes.subarray(at)])
      expect([read.fault, status]).toEqual([fault, fault === undefined ? 200 : undefined])
    }
  }
})

test('what a server may send is read as it was meant, however it is cut', () => {
  fc.assert(
    fc.property(answers, cuts, ({ bytes, closes, status, headers, body }, places) => {
      expect(readAnswer(cutAt(bytes, places), { closes })).toMatchObject({
        status,
        headers,
        body,
        ended: true,
        fault: undefined,
      })
    }),
    { numRuns: 1000 },
  )
})

test('whatever else is sent never throws, and is the same however it is cut', () => {
  const edits = fc.array(
    fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      take: fc.nat({ max: 3 }),
      put: fc.constantFrom(
        '',
        '\r',
        '\n',
        '\r\n',
        ' ',
        ':',
        ';',
        '0',
        'f',
        '\u0000',
        '\u00ff',
        'chunked',
        'HTTP/1.1 200\r\n',
      ),
    }),
    { minLength: 1, maxLength: 4 },
  )
  fc.assert(
    fc.property(answers, edits, cuts, ({ bytes, closes }, changes, places) => {
      let text = bytes.toString('latin1')
      for (const { at, take, put } of changes) {
        const from = Math.floor(at * text.length)
        text = text.slice(0, from) + put + text.slice(from + take)
      }
      const changed = Buffer.from(text, 'latin1')
      const whole = readAnswer([changed], { closes })
      expect(readAnswer(cutAt(changed, places), { closes })).toEqual(whole)
    }),
    { numRuns: 3000 },
  )
})

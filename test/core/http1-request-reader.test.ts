import { describe, expect, test } from 'vitest'
import { readRequests } from '../support/requests-read.ts'

const HOST = 'Host: a\r\n'

describe('what is read', () => {
  test('a request without a body', () => {
    expect(readRequests([`GET /mcp?x=1 HTTP/1.1\r\n${HOST}Accept: text/event-stream\r\n\r\n`])).toEqual({
      requests: [
        {
          method: 'GET',
          target: '/mcp?x=1',
          headers: ['Host', 'a', 'Accept', 'text/event-stream'],
          minor: 1,
          keepAlive: true,
          expectsContinue: false,
          body: '',
          isWhole: true,
        },
      ],
      fault: undefined,
    })
  })

  test.each([
    { name: 'by its length', framing: 'Content-Length: 5\r\n\r\nhello' },
    {
      name: 'in chunks',
      framing:
        'Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y;z;q="a \\\\\\"b"\r\nllo\r\n0\r\nX-Trailer: 1\r\n\r\n',
    },
  ])('a body $name, wherever the bytes are cut', ({ framing }) => {
    const text = `POST /mcp HTTP/1.1\r\n${HOST}${framing}`
    for (let cut = 1; cut < text.length; cut++) {
      const { requests, fault } = readRequests([text.slice(0, cut), text.slice(cut)])
      expect([fault, requests.length, requests[0]?.body, requests[0]?.isWhole]).toEqual([undefined, 1, 'hello', true])
    }
  })

  test('many on one connection, byte by byte and at once', () => {
    const one = (i: number) => `POST /${i} HTTP/1.1\r\n${HOST}Content-Length: 2\r\n\r\n${i}${i}`
    const text = Array.from({ length: 9 }, (_, i) => one(i)).join('')
    for (const pieces of [[text], [...text]]) {
      const { requests } = readRequests(pieces)
      expect(requests.map(({ target, body }) => `${target} ${body}`)).toEqual(
        Array.from({ length: 9 }, (_, i) => `/${i} ${i}${i}`),
      )
    }
  })

  test('an empty line before a request is passed over', () => {
    expect(readRequests([`\r\nGET / HTTP/1.1\r\n${HOST}\r\n`]).requests).toHaveLength(1)
  })

  test.each([
    { version: '1.1', lines: '', keepAlive: true },
    { version: '1.1', lines: 'Connection: close\r\n', keepAlive: false },
    { version: '1.1', lines: 'Connection: x, Close\r\n', keepAlive: false },
    { version: '1.0', lines: '', keepAlive: false },
    { version: '1.0', lines: 'Connection: Keep-Alive\r\n', keepAlive: true },
    { version: '1.0', lines: 'Connection: keep-alive\r\nConnection: close\r\n', keepAlive: false },
    { version: '1.0', lines: 'Connection: keep-alive0\r\n', keepAlive: false },
    { version: '1.1', lines: 'Connection: closed, not-close\r\n', keepAlive: true },
  ])('HTTP/$version with "$lines" keeps the connection: $keepAlive', ({ version, lines, keepAlive }) => {
    const { requests } = readRequests([`GET / HTTP/${version}\r\n${HOST}${lines}\r\n`])
    expect(requests[0]?.keepAlive).toBe(keepAlive)
  })

  test('bytes beyond ASCII in a value are one character each, for whoever judges them', () => {
    const head = Buffer.from(`GET / HTTP/1.1\r\n${HOST}X-Name: \u00e9\r\n\r\n`, 'latin1')
    expect(readRequests([head]).requests[0]?.headers.at(-1)).toBe('\u00e9')
  })
})

describe('what is refused', () => {
  const refused = (text: string) => readRequests([Buffer.from(text, 'latin1')]).fault?.detail

  test.each([
    ['GET  / HTTP/1.1\r\nHost: a\r\n\r\n', 'request target with a character that may not be there'],
    ['GET / x HTTP/1.1\r\nHost: a\r\n\r\n', 'request target with a character that may not be there'],
    ['GET /\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n', 'request target with a character that may not be there'],
    ['GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n', 'request line without a method'],
    [' GET / HTTP/1.1\r\nHost: a\r\n\r\n', 'request line without a method'],
    ['GET / HTTP/1.2\r\nHost: a\r\n\r\n', 'request line without HTTP/1'],
    ['GET / HTTP/2.0\r\nHost: a\r\n\r\n', 'request line without HTTP/1'],
    ['GET / HTTP/1.1 \r\nHost: a\r\n\r\n', 'request line without HTTP/1'],
    ['GET / http/1.1\r\nHost: a\r\n\r\n', 'request line without HTTP/1'],
    ['GET /\r\nHost: a\r\n\r\n', 'request line without HTTP/1'],
    ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'request line without HTTP/1'],
    ['GET mcp HTTP/1.1\r\nHost: a\r\n\r\n', 'request target of no known form'],
    ['CONNECT db:5432 HTTP/1.1\r\nHost: a\r\n\r\n', 'request target of no known form'],
    ['GET / HTTP/1.1\r\nAccept: x\r\n\r\n', 'no Host'],
    ['\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n', 'empty lines before a request'],
    ['\rGET / HTTP/1.1\r\nHost: a\r\n\r\n', 'empty lines before a request'],
  ])('%j: %s', (text, detail) => {
    expect(refused(text)).toBe(detail)
  })

  test.each([
    ['Host : a', 'header name with a character that may not be there'],
    ['Host: a\r\n folded', 'header line without a name'],
    ['Host: a\r\nX: 1\r\n\tfolded: 1', 'header name with a character that may not be there'],
    ['Host: a\r\n: nameless', 'header line without a name'],
    ['Host: a\r\nX', 'header line without a name'],
    ['Host: a\r\nX: 1\nY: 2', 'control character in the header X'],
    ['Host: a\r\nX: 1\rY: 2', 'control character in the header X'],
    ['Host: a\r\nX: \0', 'control character in the header X'],
    ['Host: a\r\nX\0: 1', 'header name with a character that may not be there'],
    ['Host: a\r\nContent-Length: 1\r\nContent-Length: 1', 'Content-Length repeated or not a number'],
    ['Host: a\r\nContent-Length: 1, 1', 'Content-Length repeated or not a number'],
    ['Host: a\r\nContent-Length: +1', 'Content-Length repeated or not a number'],
    ['Host: a\r\nContent-Length: 0x1', 'Content-Length repeated or not a number'],
    ['Host: a\r\nContent-Length:', 'Content-Length repeated or not a number'],
    ['Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked', 'both Content-Length and Transfer-Encoding'],
    ['Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0', 'both Content-Length and Transfer-Encoding'],
    ['Host: a\r\nTransfer-Encoding: gzip, chunked', 'Transfer-Encoding other than chunked'],
    ['Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 'Transfer-Encoding other than chunked'],
    ['Host: a\r\nTransfer-Encoding: chunked\t', 'tab in a framing header'],
    ['Host: a\r\nContent-Length:\t1', 'tab in a framing header'],
    ['Host: a\r\nTransfer-Encoding: xchunked', 'Transfer-Encoding other than chunked'],
    ['Host: a\r\nTransfer-Encoding: "chunked"', 'Transfer-Encoding other than chunked'],
    ['Host: a\r\nTransfer-Encoding:', 'Transfer-Encoding other than chunked'],
  ])('header lines %j: %s', (lines, detail) => {
    expect(refused(`POST / HTTP/1.1\r\n${lines}\r\n\r\n`)).toBe(detail)
  })

  test('chunks in HTTP/1.0', () => {
    expect(refused('POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')).toBe(
      'Transfer-Encoding in HTTP/1.0',
    )
  })

  test.each([
    ['2\r\nabc\r\n0\r\n\r\n', 'chunk does not end where its size says'],
    ['-1\r\na\r\n0\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0x1\r\na\r\n0\r\n\r\n', 'chunk size is not a hexadecimal number'],
    [' 1\r\na\r\n0\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['1\na\r\n0\r\n\r\n', 'line ends without CR'],
    ['1;\nx\r\na\r\n0\r\n\r\n', 'line ends without CR'],
    ['1ffffffffffff\r\na', 'chunk size is not a hexadecimal number'],
    ['0\r\nno name\r\n\r\n', 'trailer line without a name'],
    ['0\r\nContent-Length: 1\r\n\r\n', 'framing in a trailer'],
    ['1;\r\na\r\n0\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0;x: 1\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0;x=\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0;x="a\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0;x="a"b\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['1 ;x\r\na\r\n0\r\n\r\n', 'chunk size is not a hexadecimal number'],
    ['0\r\n folded: 1\r\n\r\n', 'trailer line without a name'],
    [`1;${'x'.repeat(300)}\r\na`, 'chunk line too long'],
  ])('chunks %j: %s', (chunks, detail) => {
    expect(refused(`POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${chunks}`)).toBe(detail)
  })

  test('a head that is too large, whole or in drops', () => {
    const text = `GET / HTTP/1.1\r\n${HOST}X: ${'x'.repeat(2000)}\r\n\r\n`
    for (const pieces of [[text], [...text]]) {
      expect(readRequests(pieces, 1024).fault).toEqual({ kind: 'head_too_large', detail: 'head too large' })
    }
    expect(readRequests([text], 4096).fault).toBeUndefined()
  })
})

import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import { auditLine } from '../../src/core/audit/schema.ts'
import { AnswerScan } from '../../src/core/mcp/answer-scan.ts'
import type { SeenMessage } from '../../src/core/mcp/seen-message.ts'
import { CallAnswers } from '../../src/journey/call-answers.ts'
import { exchangeWith, recorderWith, toolCall } from '../support/audit.ts'

test.each([
  { answer: '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}', want: { kind: 'result', id: 1, isError: false } },
  {
    answer: '{"jsonrpc":"2.0","id":"a","result":{"isError":true,"content":[{"isError":false}]}}',
    want: { kind: 'result', id: 'a', isError: true },
  },
  { answer: '{"jsonrpc":"2.0","id":1,"result":{"content":[{"isError":true}]}}', want: { isError: false } },
  { answer: '{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"isError":true}}}', want: { isError: false } },
  { answer: '{"result":{"isError":true},"id":1}', want: { kind: 'result', id: 1, isError: true } },
  {
    answer: '{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no \\"x\\"","data":{"code":1}}}',
    want: { kind: 'error', errorCode: -32602, errorMessage: 'no "x"' },
  },
  {
    answer: '{"jsonrpc":"2.0","error":{"message":"m","code":-32700}}',
    want: { kind: 'error', id: undefined, errorCode: -32700 },
  },
  { answer: '{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}', want: { kind: 'error', id: undefined } },
  {
    answer: '{"jsonrpc":"2.0","id":3,"method":"sampling/createMessage","params":{"id":9}}',
    want: { kind: 'request', id: 3, method: 'sampling/createMessage' },
  },
  {
    answer: '{"jsonrpc":"2.0","method":"notifications/progress","params":{}}',
    want: { kind: 'notification', id: undefined },
  },
  {
    answer: '{"id":1,"result":{"resultType":"task","taskId":"t1"}}',
    want: { createdTaskIds: ['t1'], resultType: 'task' },
  },
  { answer: '{"id":1,"result":{"task":{"taskId":"t2","status":"working"}}}', want: { createdTaskIds: ['t2'] } },
  { answer: '{"id":1,"result":{"taskId":"t3","status":"working"}}', want: { createdTaskIds: [] } },
  { answer: '{"id":1,"result":{"protocolVersion":"2025-11-25"}}', want: { protocolVersion: '2025-11-25' } },
  { answer: '{"id":1,"result":{"tools":[]}}', want: { hasList: true } },
  { answer: '{"id":1,"result":{"content":{"tools":[]}}}', want: { hasList: false } },
  { answer: ' { "id" : 1 , "result" : { } } ', want: { kind: 'result', id: 1 } },
  { answer: '{"\\u0069d":1,"resul\\u0074":{"isErro\\u0072":true}}', want: { kind: 'result', id: 1, isError: true } },
  { answer: '{"id":1.5e3,"result":{}}', want: { id: 1500 } },
  { answer: `{"id":1,"error":{"code":1,"message":"${'m'.repeat(3000)}"}}`, want: { errorMessage: 'm'.repeat(1024) } },
  {
    answer: `{"id":1,"error":{"code":1,"message":"${'\\n'.repeat(511)}x\\u00e9"}}`,
    want: { errorMessage: `${'\n'.repeat(511)}x` },
  },
  {
    answer: `{"id":1,"error":{"code":1,"message":"${'m'.repeat(1023)}\\n"}}`,
    want: { errorMessage: 'm'.repeat(1023) },
  },
  { answer: '{"id":1,"error":{"code":1,"message":"a\\tb\\xc"}}', want: { errorMessage: 'a\\tb\\xc' } },
  { answer: '{"id":1,"error":{"code":1,"message":"a\\u12"}}', want: { errorMessage: 'a\\u12' } },
  { answer: '{"id":1,"error":{"code":1,"message":"a\\n\u0007"}}', want: { errorMessage: 'a\\n\u0007' } },
  {
    answer: `{"id":1,"error":{"code":1,"message":"${'\\x'.repeat(600)}"}}`,
    want: { errorMessage: '\\x'.repeat(512) },
  },
])('$answer', ({ answer, want }) => {
  const [seen, ...more] = scanned(answer)
  expect(seen).toMatchObject(want)
  expect(more).toEqual([])
})

test.each(['1e400', '-1e400', '1.5', '-', 'oops', '99999999999999999999', '"-32000"', 'null'])(
  'an error of the code %s has none, and its audit line is one like any other',
  code => {
    const answers = new CallAnswers([toolCall('search', {}, { id: 1 })], { claimTask: () => true }, 'ada')
    new AnswerScan(seen => answers.see(seen)).push(Buffer.from(`{"id":1,"error":{"code":${code},"message":"no"}}`))
    const { rpcError } = answers
    const exchange = exchangeWith({ outcome: 'error', rpcError })
    const draft = recorderWith().exchange('mcp.call', exchange, exchange.messages[0])
    expect(auditLine.parse(JSON.parse(new Chain('c').seal(draft).toString())).rpcError).toEqual({
      code: 0,
      message: 'no',
    })
  },
)

test.each([
  '',
  '   ',
  '<html>',
  '"text"',
  '17',
  '[]',
  '[1,2]',
  '{}',
  '{"id":1}',
  '{"id":1,"result":{',
  'null',
  '}',
  ']',
  '{"id" 1}',
])('nothing is seen in %j', answer => {
  expect(scanned(answer)).toEqual([])
})

test('the messages of a batch are seen one by one', () => {
  const seen = scanned('[{"id":1,"result":{}},{"id":2,"error":{"code":5,"message":"m"}},7,{"method":"x"}]')
  expect(seen.map(one => one.kind)).toEqual(['result', 'error', 'notification'])
})

test('names full of escapes that are none are read no more than once each', () => {
  const name = '\\x'.repeat(500)
  const members = Array.from({ length: 20 }, () => `"${name}":1`).join(',')
  const parse = vi.spyOn(JSON, 'parse')
  const [seen] = scanned(`{${members},"id":1,"result":{}}`)
  const calls = parse.mock.calls.length
  parse.mockRestore()
  expect(seen).toMatchObject({ kind: 'result', id: 1 })
  expect(calls).toBeLessThanOrEqual(20)
})

describe('any answer, cut anywhere', () => {
  const answer = fc.oneof(
    fc.record({
      id: fc.oneof(fc.nat(), fc.string()),
      result: fc.record(
        { isError: fc.boolean(), resultType: fc.string(), content: fc.jsonValue() },
        { requiredKeys: [] },
      ),
    }),
    fc.record({
      id: fc.nat(),
      error: fc.record({ code: fc.integer(), message: fc.string({ unit: 'grapheme' }), data: fc.jsonValue() }),
    }),
    fc.record({ method: fc.string({ minLength: 1 }), params: fc.jsonValue() }),
  )

  test('tells the same as the parsed answer, whole or in pieces', () => {
    fc.assert(
      fc.property(answer, fc.array(fc.nat(400), { maxLength: 8 }), fc.boolean(), (value, cuts, pretty) => {
        const text = JSON.stringify(value, null, pretty ? 2 : 0)
        const [seen] = scanned(text)
        expect(scanned(text, cuts)).toEqual([seen])
        const plain = value as {
          id?: unknown
          error?: { code: number; message: string }
          result?: { isError?: boolean }
          method?: string
        }
        expect(seen).toMatchObject({
          id: plain.id,
          method: plain.method,
          isError: plain.result?.isError ?? false,
          errorCode: plain.error?.code,
          errorMessage: plain.error?.message,
        })
      }),
      { numRuns: 2000 },
    )
  })

  test('byte by byte', () => {
    const text =
      '[{"id":"é\\u00e9\\\\","result":{"content":[{"text":"a\\"}{b"}],"isError":true}},{"id":12,"error":{"code":-1,"message":"x"}}]'
    const every = Array.from({ length: Buffer.byteLength(text) }, (_, i) => i)
    expect(scanned(text, every)).toEqual(scanned(text))
    expect(scanned(text)).toHaveLength(2)
  })
})

function scanned(text: string, cuts: readonly number[] = []): SeenMessage[] {
  const seen: SeenMessage[] = []
  const scan = new AnswerScan(message => seen.push(message))
  const bytes = Buffer.from(text)
  let from = 0
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    const to = Math.min(cut, bytes.length)
    // A copy that is spoilt afterwards: nothing may be kept by reference.
    const piece = Buffer.from(bytes.subarray(from, to))
    scan.push(piece)
    piece.fill(0)
    from = to
  }
  return seen
}

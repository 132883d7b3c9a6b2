import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { errorBody } from '../../src/core/mcp/error-body.ts'
import { decodeHeaderValue, mediaTypeProblem, readPostedHeaders } from '../../src/core/mcp/posted-headers.ts'
import { readPosted } from '../../src/core/mcp/read-posted.ts'
import { mutated } from '../support/mutations.ts'

const JSON_HEADERS = readPostedHeaders(['Content-Type', 'application/json'])
const LIMITS = { depth: 64, batch: 0 }

const read = (body: string | Buffer, headers = JSON_HEADERS, limits = LIMITS) =>
  readPosted(Buffer.from(body), headers, limits)

describe('a refusal carries the id of the request', () => {
  test.each([
    { body: '{"jsonrpc":"2.0","id":7,"method":"ping","x":1}', id: 7 },
    { body: '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","name":"b"},"id":"last"}', id: 'last' },
    { body: '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}', id: 7 },
    { body: '{"jsonrpc":"2.0","id":7,"method":"ping"} trailing', id: 7 },
    { body: '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}', id: undefined },
    { body: '{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', id: undefined },
    { body: '{"jsonrpc":"2.0","id":null,"method":"ping"}', id: undefined },
    { body: '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', id: undefined },
    { body: '', id: undefined },
    // The id of a response is the server's, and the client may have a request of its own open under it.
    { body: '{"jsonrpc":"2.0","id":7,"result":{},"x":1}', id: undefined },
    { body: '{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}', id: undefined },
    { body: '{"jsonrpc":"2.0","error":{"code":1},"id":7}', id: undefined },
    { body: '{"jsonrpc":"2.0","id":7,"Result":{}}', id: undefined },
    { body: '{"jsonrpc":"2.0","id":7,"error":{}} trailing', id: undefined },
    { body: '{"jsonrpc":"2.0","id":7,"params":{"result":1}}', id: 7 },
    { body: '{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}', id: 7 },
  ])('$body', ({ body, id }) => {
    const refused = read(body)
    expect(refused.ok ? 'read' : refused.error.id).toBe(id)
  })

  test('when the headers are what is wrong', () => {
    const body = '{"jsonrpc":"2.0","id":7,"method":"ping"}'
    const compressed = readPostedHeaders(['Content-Type', 'application/json', 'Content-Encoding', 'gzip'])
    const repeated = readPostedHeaders(['Content-Type', 'application/json', 'Mcp-Name', 'a', 'mcp-name', 'b'])
    expect(read(body, compressed)).toMatchObject({ error: { id: 7, refusal: { reason: 'message_encoding' } } })
    expect(read(body, repeated)).toMatchObject({ error: { id: 7, refusal: { reason: 'message_header_mismatch' } } })
    const response = read('{"jsonrpc":"2.0","id":7,"result":{}}', compressed)
    expect(response).toMatchObject({ error: { id: undefined, refusal: { reason: 'message_encoding' } } })
  })
})

test('of many messages under way their bytes are kept, and not what they are when they are parsed', async () => {
  const empties = new Array(100_000).fill({})
  const shapes = [
    { name: 't', arguments: { list: empties.slice(0, 600) } },
    { name: 't', arguments: { list: empties.slice(0, 101) } },
    { name: 't', arguments: Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`x${i}`, i])) },
    { name: 't', arguments: { list: empties } },
    { name: 't', _meta: { list: empties } },
    { name: 't', ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`x${i}`, empties.slice(0, 300)])) },
  ]
  for (const params of shapes) {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params }))
    const before = await heapInUse()
    const messages = Array.from({ length: Math.round(3_000_000 / body.length) }, () => {
      const result = read(body)
      if (!result.ok) throw new Error(result.error.refusal.reason)
      return result.value.messages[0]
    })
    for (const message of messages) expect(Object.keys(message?.params ?? {})).toContain('name')
    // Parsed they are 60 MB.
    expect((await heapInUse()) - before).toBeLessThan(15_000_000)
    expect(messages.length).toBeGreaterThan(9)
  }
})

test('what was parsed for one step of a call is there for the whole of it, and stays for no longer', () => {
  const args = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x${i}`, i]))
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 't', arguments: args } })
  const [one, other] = [body, body].map(text => {
    const result = read(text)
    if (!result.ok) throw new Error(result.error.refusal.reason)
    return result.value.messages[0]!
  })
  const asked = one!.args
  expect(one!.args).toBe(asked)
  expect(one!.params?.['arguments']).toBe(asked)
  expect(other!.args).toEqual(args)
  // A message that held on to it, be it weakly, would have it survive every collection but the full ones.
  expect(one!.args).not.toBe(asked)
  expect(one!.args).toEqual(asked)
})

/** Bytes, after all that can go has gone. A turn of its own lets weak references go too. */
async function heapInUse(): Promise<number> {
  await new Promise(setImmediate)
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
  return process.memoryUsage().heapUsed
}

describe('large values', () => {
  const large = { text: 'x'.repeat(5000), list: Array.from({ length: 500 }, (_, i) => ({ i })) }
  const body = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name: 'store', arguments: large, _meta: { a: 1 } },
  }

  test('are there when they are asked for', () => {
    const posted = read(JSON.stringify(body))
    if (!posted.ok) throw new Error(posted.error.refusal.reason)
    const message = posted.value.messages[0]!
    expect(message.objects).toEqual([{ kind: 'tool', name: 'store', normalized: 'store' }])
    expect(message.args).toEqual(large)
    expect(message.params).toEqual(body.params)
    expect({ ...message }.args).toEqual(large)
  })

  test('have to be of the type that the method wants all the same', () => {
    const wrong = { ...body, params: { name: 'store', arguments: [large] } }
    expect(read(JSON.stringify(wrong))).toMatchObject({
      error: { refusal: { reason: 'message_params_invalid' }, id: 1 },
    })
  })

  test('among them long texts, however they are written', () => {
    const piece = fc.constantFrom(
      'a',
      '\\n',
      '\\\\',
      '\\"',
      '\\u00e9',
      'é',
      '€',
      '😀',
      '\\ud83d\\ude00',
      '\\ud83d',
      '\\/',
      '\\u005c',
    )
    const pieces = fc.array(piece, { minLength: 1, maxLength: 9 })
    const name = fc.constantFrom('text', '', '0', 'constructor', 'ä', '\\u0061')
    fc.assert(
      fc.property(pieces, pieces, fc.integer({ min: 0, max: 12 }), name, (start, again, shift, named) => {
        const long =
          'x'.repeat(shift) + start.join('') + again.join('').repeat(Math.ceil(80_000 / again.join('').length))
        const text = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"store","arguments":{"empty":"","${named}":"${long}","b":[1]}}}`
        const posted = read(text)
        if (!posted.ok) throw new Error(posted.error.refusal.reason)
        const message = posted.value.messages[0]!
        expect(JSON.stringify(message.params)).toBe(JSON.stringify(JSON.parse(text).params))
        expect(Object.entries(message.args!)).toEqual(Object.entries(JSON.parse(text).params.arguments))
      }),
      { numRuns: 200 },
    )
  })

  test('among them long texts, each made once for all the rules that look at it', () => {
    const args = { a: 'x'.repeat(9000), b: 'y'.repeat(9000) }
    const bytes = Buffer.from(JSON.stringify({ ...body, params: { name: 'store', arguments: args } }))
    const posted = readPosted(bytes, JSON_HEADERS, LIMITS)
    const taken = vi.spyOn(bytes, 'subarray')
    const seen = posted.ok ? posted.value.messages[0]!.args! : {}
    for (let rule = 0; rule < 100; rule++) expect({ ...seen }).toEqual(args)
    // Two names and two values.
    expect(taken).toHaveBeenCalledTimes(4)
  })

  test('are no place to hide a repeated name', () => {
    const text = JSON.stringify(body).replace('"list":', '"text":1,"list":')
    expect(read(text)).toMatchObject({ error: { refusal: { reason: 'message_ambiguous' } } })
  })
})

describe('what else a message tells', () => {
  test('trace context and client of a modern request', () => {
    const meta = {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
      'io.modelcontextprotocol/clientInfo': { name: 'client', version: '1.2' },
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    }
    const headers = [
      'Content-Type',
      'application/json',
      'MCP-Protocol-Version',
      '2026-07-28',
      'Mcp-Method',
      'tools/list',
    ]
    const posted = read(
      JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: meta } }),
      readPostedHeaders(headers),
    )
    expect(posted).toMatchObject({
      value: { messages: [{ traceparent: meta.traceparent, clientInfo: { name: 'client', version: '1.2' } }] },
    })
  })

  test.each([
    '00-00000000000000000000000000000000-b7ad6b7169203331-01',
    '00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01',
    'ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    'x\r\ny',
  ])('no trace context from %j', traceparent => {
    const posted = read(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping', params: { _meta: { traceparent } } }))
    expect(posted).toMatchObject({ value: { messages: [{ traceparent: undefined }] } })
  })

  test('a client that names itself in initialize, cut to a bearable length', () => {
    const params = { protocolVersion: '2025-11-25', clientInfo: { name: 'n'.repeat(9999), version: '1' } }
    const posted = read(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }))
    expect(posted.ok && posted.value.messages[0]!.clientInfo?.name.length).toBe(256)
  })
})

describe('whatever comes, the reader answers with a value', () => {
  const method = fc.constantFrom(
    'tools/call',
    'tools/list',
    'resources/read',
    'prompts/get',
    'completion/complete',
    'tasks/get',
    'subscriptions/listen',
    'x/y',
  )
  const params = fc.record(
    {
      name: fc.string(),
      uri: fc.webUrl(),
      taskId: fc.string(),
      arguments: fc.dictionary(fc.string(), fc.jsonValue()),
      ref: fc.record({ type: fc.constantFrom('ref/prompt', 'ref/resource'), name: fc.string(), uri: fc.string() }),
      notifications: fc.record({ resourceSubscriptions: fc.array(fc.webUrl()), taskIds: fc.array(fc.string()) }),
      _meta: fc.dictionary(fc.string(), fc.jsonValue()),
    },
    { requiredKeys: [] },
  )
  const message = fc.record(
    { jsonrpc: fc.constant('2.0'), id: fc.oneof(fc.integer(), fc.string()), method, params },
    { requiredKeys: ['jsonrpc', 'method'] },
  )

  test('bytes of any kind', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        expect(read(Buffer.from(bytes))).toHaveProperty('ok')
      }),
    )
  })

  test('a mutated message that is read, is read as JSON.parse reads it', () => {
    let accepted = 0
    fc.assert(
      fc.property(
        fc.oneof(
          message.map(one => JSON.stringify(one)),
          mutated(message.map(one => JSON.stringify(one))),
        ),
        text => {
          const posted = read(text)
          if (!posted.ok) return
          accepted++
          const plain = JSON.parse(text) as { method?: string; id?: unknown; params?: Record<string, unknown> }
          const [seen] = posted.value.messages
          expect(seen!.method).toBe(plain.method ?? '')
          expect(seen!.id).toBe(plain.id)
          expect(seen!.params).toEqual(plain.params)
          const named =
            plain.method === 'tools/call' || plain.method === 'prompts/get' ? [plain.params?.['name']] : undefined
          if (named !== undefined) expect(seen!.objects.map(object => object.name)).toEqual(named)
        },
      ),
      { numRuns: 3000 },
    )
    expect(accepted).toBeGreaterThan(200)
  })
})

describe('header values', () => {
  test('what the base64 form carries comes back', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 50 })
    fc.assert(
      fc.property(text, value => {
        const encoded = `=?base64?${Buffer.from(value).toString('base64')}?=`
        expect(decodeHeaderValue(encoded)).toBe(value)
      }),
    )
  })

  test('a media type costs no more the longer it is', () => {
    expect(mediaTypeProblem(`application/json${' ;'.repeat(20_000)}x`)).toBeTypeOf('string')
    expect(mediaTypeProblem(`application/json;${' '.repeat(20_000)}x`)).toBeTypeOf('string')
  })

  test('the session and where to resume are taken as they are', () => {
    const headers = readPostedHeaders(['mcp-session-id', ' abc-1 ', 'LAST-EVENT-ID', 'e 7'])
    expect(headers).toMatchObject({ sessionId: 'abc-1', lastEventId: 'e 7', problem: undefined })
  })
})

describe('the body of an error', () => {
  test.each([
    { id: 7, want: '{"jsonrpc":"2.0","id":7,"error":{"code":403,"message":"no","data":{"reason":"r"}}}' },
    { id: 'a"b', want: '{"jsonrpc":"2.0","id":"a\\"b","error":{"code":403,"message":"no","data":{"reason":"r"}}}' },
    { id: 0, want: '{"jsonrpc":"2.0","id":0,"error":{"code":403,"message":"no","data":{"reason":"r"}}}' },
    { id: undefined, want: '{"jsonrpc":"2.0","error":{"code":403,"message":"no","data":{"reason":"r"}}}' },
  ])('for id $id', ({ id, want }) => {
    expect(errorBody(id, { code: 403, message: 'no' }, { reason: 'r' }).toString()).toBe(want)
  })

  test('without data', () => {
    expect(errorBody(1, { code: -32600, message: 'm' }).toString()).toBe(
      '{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"m"}}',
    )
  })
})

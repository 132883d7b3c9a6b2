import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filterLists } from '../../src/core/mcp/list-filter.ts'
import type { SeenMessage } from '../../src/core/mcp/seen-message.ts'
import { messageEvent } from '../../src/core/mcp/sse-event.ts'
import { type SseHandler, SseReader } from '../../src/core/mcp/sse-reader.ts'

const LIST = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"b"}],"x":1.0}}'
const CUT = '{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"b"}],"x":1.0}}'
const CALL = '{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"hi"}]}}'

describe.each([
  ['LF', '\n'],
  ['CR', '\r'],
  ['CRLF', '\r\n'],
])('lines that end in %s', (_name, eol) => {
  const stream = [
    ': hello',
    '',
    'event: message',
    'id: 7',
    `data: ${LIST}`,
    '',
    'retry: 100',
    `data:${CALL}`,
    '',
    'id: 8',
    'data',
    '',
    '',
  ].join(eol)

  test('pass untouched, whole or byte by byte, and are understood', () => {
    for (const size of [1, 2, 3, 7, 10_000]) {
      const watch = watcher({ hold: false })
      expect(through(watch, stream, size)).toBe(stream)
      expect(watch.seen.map(one => one.id)).toEqual([1, 2])
      expect(watch.ids).toEqual(['7', '8'])
    }
  })

  test('are filtered where a list is pending, and only there', () => {
    for (const size of [1, 2, 3, 7, 10_000]) {
      const watch = watcher({ hold: true })
      expect(through(watch, stream, size)).toBe(stream.replace(LIST, CUT))
      expect(watch.seen.map(one => one.id)).toEqual([1, 2])
    }
  })

  test('carry data over several lines', () => {
    const lines = [
      'event: message',
      'data: {"jsonrpc":"2.0","id":1,',
      ': comment',
      'data: "result":{"tools":[{"name":"a"},',
      'data:{"name":"b"}]}}',
      'id: 9',
      '',
      '',
    ].join(eol)
    const want = [
      'event: message',
      'data: {"jsonrpc":"2.0","id":1,',
      'data: "result":{"tools":[{"name":"b"}]}}',
      ': comment',
      'id: 9',
      '',
      '',
    ].join(eol)
    for (const size of [1, 5, 10_000]) {
      const watch = watcher({ hold: true })
      expect(through(watch, lines, size)).toBe(want)
      expect(watch.seen.map(one => one.hasList)).toEqual([true])
      expect(through(watcher({ hold: false }), lines, size)).toBe(lines)
    }
  })
})

test('an event that is not held goes on before it is whole', () => {
  const reader = new SseReader(watcher({ hold: false }).handler, 1000)
  expect(reader.take(Buffer.from('data: {"jsonrpc":"2.0",'))?.toString()).toBe('data: {"jsonrpc":"2.0",')
  expect(reader.atBoundary).toBe(false)
})

test('what passes untouched is the very chunk', () => {
  const reader = new SseReader(watcher({ hold: false }).handler, 1000)
  const chunk = Buffer.from(`data: ${CALL}\n\ndata: {`)
  expect(reader.take(chunk)).toBe(chunk)
})

test('comments flow while a list is pending', () => {
  const reader = new SseReader(watcher({ hold: true }).handler, 1000)
  expect(reader.take(Buffer.from(': keep'))).toBe(undefined)
  expect(reader.take(Buffer.from('-alive\n'))?.toString()).toBe(': keep-alive\n')
  expect(reader.take(Buffer.from('\n'))?.toString()).toBe('\n')
  expect(reader.take(Buffer.from(`data: ${LIST}\n`))).toBe(undefined)
  expect(reader.take(Buffer.from('\n'))?.toString()).toBe(`data: ${CUT}\n\n`)
})

test('whether an event is held is asked when it begins', () => {
  let holds = false
  const watch = watcher({ hold: () => holds })
  const reader = new SseReader(watch.handler, 1000)
  expect(reader.take(Buffer.from(`data: ${CALL}`))?.toString()).toBe(`data: ${CALL}`)
  holds = true
  expect(reader.take(Buffer.from(`\n\ndata: ${LIST}\n\n`))?.toString()).toBe(`\n\ndata: ${CUT}\n\n`)
})

test('nobody hears of a held list before it is judged', () => {
  const order: string[] = []
  const watch = watcher({ hold: true, note: what => order.push(what) })
  through(watch, `data: ${LIST}\n\n`, 10)
  expect(order).toEqual(['rewrite', 'message'])
})

test('the endpoint of the HTTP+SSE transport is told', () => {
  for (const size of [1, 4, 1000]) {
    const watch = watcher({ hold: false })
    const stream = 'event: endpoint\ndata: /messages?sessionId=abc\n\ndata: {"id":1,"result":{}}\n\n'
    expect(through(watch, stream, size)).toBe(stream)
    expect(watch.texts).toEqual([['endpoint', '/messages?sessionId=abc']])
    expect(watch.seen).toHaveLength(1)
  }
})

test('a byte order mark before the first field is passed over, and passed on', () => {
  for (const size of [1, 1000]) {
    const watch = watcher({ hold: true })
    expect(through(watch, `\ufeffdata: ${LIST}\n\n`, size)).toBe(`\ufeffdata: ${CUT}\n\n`)
  }
})

test('an event larger than may be held ends the stream', () => {
  const reader = new SseReader(watcher({ hold: true }).handler, 100)
  expect(reader.take(Buffer.from(`data: ${'x'.repeat(60)}`))).toBe(undefined)
  expect(reader.take(Buffer.from('x'.repeat(60)))).toBe(undefined)
  expect(reader.fault).toEqual({ reason: 'upstream_event_too_large', limitBytes: 100 })
})

test('an event of any size passes when it is not held', () => {
  const watch = watcher({ hold: false })
  const stream = `data: {"id":1,"result":{"isError":true,"content":"${'x'.repeat(100_000)}"}}\n\n`
  expect(through(watch, stream, 1000)).toBe(stream)
  expect(watch.seen[0]!.isError).toBe(true)
})

test('a held list that cannot be read ends the stream', () => {
  const reader = new SseReader(watcher({ hold: true }).handler, 1000)
  reader.take(Buffer.from('data: {"id":1,"result":{"tools":[{"name":"a","name":"b"}]}}\n\n'))
  expect(reader.fault?.reason).toBe('upstream_answer_invalid')
})

test('a held event without its blank line is judged at the end', () => {
  const reader = new SseReader(watcher({ hold: true }).handler, 1000)
  expect(reader.take(Buffer.from(`data: ${LIST}`))).toBe(undefined)
  expect(reader.finish()?.toString()).toBe(`data: ${CUT}\n`)
  const cutOff = new SseReader(watcher({ hold: true }).handler, 1000)
  cutOff.take(Buffer.from(`data: ${LIST.slice(0, 50)}`))
  expect(cutOff.finish()).toBe(undefined)
  expect(cutOff.fault).toBe(undefined)
})

describe('a stream that has to end', () => {
  test('ends at once between events', () => {
    const reader = new SseReader(watcher({ hold: false }).handler, 1000)
    reader.take(Buffer.from(`data: ${CALL}\n\n`))
    expect(reader.stop()).toBe(true)
    expect(reader.take(Buffer.from('data: {'))).toBe(undefined)
  })

  test('ends behind the event that is under way', () => {
    const reader = new SseReader(watcher({ hold: false }).handler, 1000)
    reader.take(Buffer.from(`data: ${CALL}`))
    expect(reader.stop()).toBe(false)
    expect(reader.take(Buffer.from('\n\ndata: {"id":9}\n\n'))?.toString()).toBe('\n\n')
    expect(reader.stopped).toBe(true)
  })
})

test('any stream, cut anywhere, passes as it is, and tells the same', () => {
  const line = fc.constantFrom(
    '',
    ':',
    ': c',
    'data',
    `data: ${CALL}`,
    `data:${LIST}`,
    'data: {',
    'data: }',
    'data: x',
    'event: e',
    'id: 1',
    'id',
    'retry: 5',
    'dat',
    'datax: 1',
    ' data: 1',
    'id: \0',
    'very-long-field-name: 1',
  )
  const eol = fc.constantFrom('\n', '\r', '\r\n')
  const stream = fc.array(fc.tuple(line, eol), { maxLength: 14 }).map(lines => lines.flat().join(''))
  fc.assert(
    fc.property(stream, fc.integer({ min: 1, max: 40 }), (text, size) => {
      const whole = watcher({ hold: false })
      const cut = watcher({ hold: false })
      expect(through(whole, text, 100_000)).toBe(text)
      expect(through(cut, text, size)).toBe(text)
      expect([cut.seen, cut.ids, cut.texts]).toEqual([whole.seen, whole.ids, whole.texts])
      const held = watcher({ hold: true, keep: true })
      const passed = through(held, text, size)
      // Only an event that never ends may be missing.
      expect(text.startsWith(passed) || passed.startsWith(text)).toBe(true)
      expect([held.seen.length, held.ids, held.texts]).toEqual([whole.seen.length, whole.ids, whole.texts])
    }),
    { numRuns: 2000 },
  )
})

test('an event can be made', () => {
  expect(messageEvent(Buffer.from('{"a":1}')).toString()).toBe('data: {"a":1}\n\n')
})

interface Watch {
  readonly handler: SseHandler
  readonly seen: SeenMessage[]
  readonly ids: string[]
  readonly texts: [string, string][]
}

/** Hides tool `a`; with `keep`, holds but changes nothing. */
function watcher(how: { hold: boolean | (() => boolean); keep?: boolean; note?: (what: string) => void }): Watch {
  const seen: SeenMessage[] = []
  const ids: string[] = []
  const texts: [string, string][] = []
  const handler: SseHandler = {
    holds: () => (typeof how.hold === 'function' ? how.hold() : how.hold),
    message: message => {
      how.note?.('message')
      seen.push(message)
    },
    text: (type, data) => texts.push([type, data]),
    eventId: id => ids.push(id),
    rewrite: data => {
      how.note?.('rewrite')
      if (how.keep === true) return { ok: true, value: data }
      return filterLists(data, { isPending: () => true, allows: (_kind, name) => name !== 'a' })
    },
  }
  return { handler, seen, ids, texts }
}

function through(watch: Watch, text: string, size: number): string {
  const reader = new SseReader(watch.handler, 1_000_000)
  const bytes = Buffer.from(text)
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) {
    const piece = reader.take(bytes.subarray(at, at + size))
    if (piece !== undefined) out.push(piece)
  }
  const rest = reader.finish()
  if (rest !== undefined) out.push(rest)
  return Buffer.concat(out).toString()
}

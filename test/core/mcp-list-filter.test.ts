import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { filterLists, isListMethod, type ListFilter } from '../../src/core/mcp/list-filter.ts'

const hides = (...names: string[]): ListFilter => ({
  isPending: () => true,
  allows: (_kind, name) => !names.includes(name),
})

const filtered = (answer: string, filter: ListFilter) => {
  const result = filterLists(Buffer.from(answer), filter)
  return result.ok ? result.value.toString() : result.error.reason
}

test.each([
  {
    name: 'the first',
    answer: '{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}',
    hide: ['a'],
    want: '{"id":1,"result":{"tools":[{"name":"b"}]}}',
  },
  {
    name: 'the last',
    answer: '{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}',
    hide: ['b'],
    want: '{"id":1,"result":{"tools":[{"name":"a"}]}}',
  },
  {
    name: 'one in the middle, pretty',
    answer: '{"id":1,"result":{"tools":[\n  {"name":"a"},\n  {"name":"b"},\n  {"name":"c"}\n]}}',
    hide: ['b'],
    want: '{"id":1,"result":{"tools":[\n  {"name":"a"},\n  {"name":"c"}\n]}}',
  },
  {
    name: 'all',
    answer: '{"id":1,"result":{"tools":[ {"name":"a"} , {"name":"b"} ],"nextCursor":"n"}}',
    hide: ['a', 'b'],
    want: '{"id":1,"result":{"tools":[  ],"nextCursor":"n"}}',
  },
  {
    name: 'prompts',
    answer: '{"id":1,"result":{"prompts":[{"name":"a"},{"name":"b"}]}}',
    hide: ['a'],
    want: '{"id":1,"result":{"prompts":[{"name":"b"}]}}',
  },
  {
    name: 'resources, by the normalised URI',
    answer: '{"id":1,"result":{"resources":[{"uri":"FILE:///a/../b"},{"uri":"file:///c"}]}}',
    hide: ['file:///b'],
    want: '{"id":1,"result":{"resources":[{"uri":"file:///c"}]}}',
  },
  {
    name: 'resources whose URI could not be asked for',
    answer: '{"id":1,"result":{"resources":[{"uri":"file:///a%2fb"},{"uri":"file:///c"}]}}',
    hide: [],
    want: '{"id":1,"result":{"resources":[{"uri":"file:///c"}]}}',
  },
  {
    name: 'templates, as listed',
    answer: '{"id":1,"result":{"resourceTemplates":[{"uriTemplate":"test://{x}","name":"n"}]}}',
    hide: ['test://{x}'],
    want: '{"id":1,"result":{"resourceTemplates":[]}}',
  },
  {
    name: 'skills',
    answer: '{"id":1,"result":{"skills":[{"uri":"skill://a"},{"uri":"skill://b"}]}}',
    hide: ['skill://a'],
    want: '{"id":1,"result":{"skills":[{"uri":"skill://b"}]}}',
  },
  {
    name: 'tasks',
    answer: '{"id":1,"result":{"tasks":[{"taskId":"a"},{"taskId":"b"}]}}',
    hide: ['b'],
    want: '{"id":1,"result":{"tasks":[{"taskId":"a"}]}}',
  },
  {
    name: 'what has no name',
    answer: '{"id":1,"result":{"tools":[{"title":"a"},7,{"name":1},{"name":"b"}]}}',
    hide: [],
    want: '{"id":1,"result":{"tools":[{"name":"b"}]}}',
  },
  {
    name: 'an escaped name',
    answer: '{"id":1,"result":{"tools":[{"n\\u0061me":"\\u0061"},{"name":"b"}]}}',
    hide: ['a'],
    want: '{"id":1,"result":{"tools":[{"name":"b"}]}}',
  },
  {
    name: 'in a batch',
    answer: '[{"id":1,"result":{"tools":[{"name":"a"}]}}, {"id":2,"result":{"content":[]}}]',
    hide: ['a'],
    want: '[{"id":1,"result":{"tools":[]}}, {"id":2,"result":{"content":[]}}]',
  },
])('$name', ({ answer, hide, want }) => {
  expect(filtered(answer, hides(...hide))).toBe(want)
})

describe("the list is no longer everybody's", () => {
  test.each([
    [
      '{"id":1,"result":{"cacheScope":"public","ttlMs":5,"tools":[]}}',
      '{"id":1,"result":{"cacheScope":"private","ttlMs":5,"tools":[]}}',
    ],
    [
      '{"id":1,"result":{"resultType":"complete","tools":[]}}',
      '{"id":1,"result":{"cacheScope":"private","resultType":"complete","tools":[]}}',
    ],
    ['{"id":1,"result":{"tools":[],"cacheScope":"private"}}', '{"id":1,"result":{"tools":[],"cacheScope":"private"}}'],
    ['{"id":1,"result":{"tools":[],"cacheScope":{"a":1}}}', '{"id":1,"result":{"tools":[],"cacheScope":"private"}}'],
    ['{"id":1,"result":{"tools":[]}}', '{"id":1,"result":{"tools":[]}}'],
  ])('%s', (answer, want) => {
    expect(filtered(answer, hides())).toBe(want)
  })
})

describe('the same bytes go on', () => {
  const answers = [
    '{"id":1,"error":{"code":1,"message":"m"}}',
    '{"id":1,"result":{"content":[]}}',
    '{"method":"x","id":1}',
    '{"id":1,"result":{"tools":[{"name":"a"}]}}',
    ' [ ] ',
    '7',
  ]
  test.each(answers)('%s', answer => {
    const bytes = Buffer.from(answer)
    const result = filterLists(bytes, hides())
    expect(result.ok && result.value).toBe(bytes)
  })

  test('when nobody waits for the list', () => {
    const bytes = Buffer.from('{"id":1,"result":{"tools":[{"name":"a"}]}}')
    const result = filterLists(bytes, { isPending: () => false, allows: () => false })
    expect(result.ok && result.value).toBe(bytes)
  })
})

test.each([
  '',
  '<html>',
  '{"id":1,"result":{"tools":[{"name":"a"}]}',
  '{"id":1,"result":{"tools":[{"name":"a","name":"b"}]}}',
  '{"id":1,"result":{"tools":[],"tools":[{"name":"a"}]}}',
  '{"id":1,"result":{},"result":{"tools":[]}}',
  '{"id":1,"result":{"tools":{"0":{"name":"a"}}}}',
])('%s is refused', answer => {
  expect(filtered(answer, hides())).toBe('upstream_answer_invalid')
})

test('what is left is what a filter over the parsed answer leaves', () => {
  const tool = fc.record({
    name: fc.constantFrom('a', 'b', 'c', 'é', '"]}'),
    inputSchema: fc.jsonValue(),
    title: fc.string(),
  })
  const list = fc.record({
    tools: fc.array(tool, { maxLength: 6 }),
    nextCursor: fc.string(),
    ttlMs: fc.nat(),
    cacheScope: fc.constantFrom('public', 'private'),
    _meta: fc.jsonValue(),
  })
  fc.assert(
    fc.property(
      list,
      fc.subarray(['a', 'b', 'c', 'é', '"]}']),
      fc.constantFrom(0, 1, '\t'),
      (result, hidden, indent) => {
        const answer = { jsonrpc: '2.0', id: 5, result }
        const kept = result.tools.filter(one => !hidden.includes(one.name))
        const want = { ...answer, result: { ...result, tools: kept, cacheScope: 'private' } }
        const text = filtered(JSON.stringify(answer, null, indent), hides(...hidden))
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(want)))
        if (indent === 0) expect(text).toBe(JSON.stringify(want))
      },
    ),
    { numRuns: 500 },
  )
})

test('the methods whose answers are lists', () => {
  expect(['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list'].every(isListMethod)).toBe(true)
  expect(isListMethod('tools/call')).toBe(false)
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { scanStrict } from '../../src/core/mcp/strict-json.ts'
import { mutated } from '../support/mutations.ts'
import { ONE_HASH } from '../support/worst-bodies.ts'

const LIMITS = { depth: 64, keys: 100_000 }

const scan = (text: string, limits = LIMITS) => scanStrict(Buffer.from(text), limits)
const problemOf = (text: string) => scan(text).problem?.kind

describe('what is JSON here is JSON to JSON.parse, and the other way round', () => {
  const agrees = (text: string) => {
    // What is met first is told: a name that repeats another may stand before the byte that makes it no JSON.
    if (isJson(text)) expect(problemOf(text)).not.toBe('syntax')
    else expect(problemOf(text)).toMatch(/^(?:syntax|ambiguous)$/)
  }

  test('a text that is neither JSON nor unambiguous is refused for what comes first', () => {
    expect(problemOf('{"c":null,"C"0}')).toBe('ambiguous')
    expect(problemOf('{"c"0,"C":null}')).toBe('syntax')
  })

  test('texts that are JSON', () => {
    fc.assert(fc.property(fc.json({ maxDepth: 8 }), agrees))
  })

  test('texts that were JSON until a byte was changed, dropped or doubled', () => {
    fc.assert(fc.property(mutated(fc.json({ maxDepth: 4 })), agrees), { numRuns: 2000 })
  })

  test('texts with strings of every length around the word-wise walk, at every alignment', () => {
    const text = fc.tuple(
      fc.integer({ min: 0, max: 9 }),
      fc.string({
        unit: fc.constantFrom('a', 'b', 'é', '\\n', '\\"', '\\u0041', '\n', '"', '\\', '\u001f', '😀'),
        maxLength: 60,
      }),
      fc.integer({ min: 0, max: 70 }),
    )
    fc.assert(
      fc.property(text, ([before, odd, after]) =>
        agrees(`${' '.repeat(before)}["${'x'.repeat(before * 7)}${odd}${'y'.repeat(after)}"]`),
      ),
      { numRuns: 2000 },
    )
  })

  test('numbers', () => {
    const unit = fc.constantFrom('0', '1', '9', '-', '+', '.', 'e', 'E')
    fc.assert(fc.property(fc.string({ unit, minLength: 1, maxLength: 7 }), agrees), { numRuns: 3000 })
    fc.assert(
      fc.property(fc.string({ unit, minLength: 1, maxLength: 7 }), number => agrees(`[${number}]`)),
      { numRuns: 1000 },
    )
  })
})

describe('member names', () => {
  const name = fc.constantFrom(
    'a',
    'b',
    'A',
    'é',
    '\\u0061',
    '\\u00e9',
    '\\u00E9',
    '名',
    '😀',
    '\\ud83d\\ude00',
    'a b',
    '',
  )
  const members = fc.array(name, { maxLength: 6 })

  test('an object in the data has a problem exactly when two of its names are the same text', () => {
    fc.assert(
      fc.property(members, names => {
        const texts = names.map(one => JSON.parse(`"${one}"`) as string)
        const object = `{${names.map((one, i) => `"${one}":${i}`).join(',')}}`
        const expected = new Set(texts).size === texts.length ? undefined : 'ambiguous'
        expect(problemOf(`{"result":${object}}`)).toBe(expected)
        expect(problemOf(`{"result":[{"x":{}},${object},1]}`)).toBe(expected)
      }),
      { numRuns: 1000 },
    )
  })

  test.each([1, 2, 15, 16, 17, 18, 63, 64, 65, 500, 5000])('a repeat after %i other names is found', count => {
    const others = Array.from({ length: count }, (_, i) => `"n${i}":{"n${i}":0}`)
    expect(problemOf(`{"result":{${others.join(',')}}}`)).toBe(undefined)
    for (const at of [0, count >> 1, count - 1]) {
      expect(problemOf(`{"result":{${others.join(',')},"n${at}":0}}`)).toBe('ambiguous')
    }
  })

  test('names chosen so that they crowd one place of every table are still told apart', () => {
    const crowded = namesInOneSlot(4000)
    const object = crowded.map(one => `"${one}":0`)
    expect(problemOf(`{"result":{${object.join(',')}}}`)).toBe(undefined)
    for (const at of [0, 100, 2000, 3999]) {
      expect(problemOf(`{"result":{${object.join(',')},"${crowded[at]}":1}}`)).toBe('ambiguous')
    }
  })

  test('names that have been given one hash are a problem of their own', () => {
    expect(problemOf(`{"result":{${ONE_HASH.map(one => `"${one}":0`).join(',')}}}`)).toBe('ambiguous')
    expect(problemOf(`{"result":{"${ONE_HASH[0]}":0,"${ONE_HASH[1]}":0}}`)).toBe(undefined)
    expect(problemOf(`{"result":{"${ONE_HASH[0]}":0,"${ONE_HASH[1]}":0,"${ONE_HASH[0]}":0}}`)).toBe('ambiguous')
  })

  test('a name that nests in itself is no repeat, and objects after it are judged apart', () => {
    expect(problemOf('{"result":{"a":{"a":{"a":{}}},"b":{"a":1}}}')).toBe(undefined)
    expect(problemOf('{"result":{"a":{"a":{"a":{}}},"b":{"a":1},"a":2}}')).toBe('ambiguous')
  })
})

describe('the id is found wherever it is, whatever else is wrong', () => {
  test.each([
    { text: '{"id":7,"a":1,"a":2}', id: '7' },
    { text: '{"a":1,"a":2,"id":"x"}', id: '"x"' },
    { text: `{"a":${'['.repeat(900)}${']'.repeat(900)},"id":7}`, id: '7' },
    { text: '{"id":7,"a":}', id: '7' },
    { text: '{"\\u0069d":7}', id: '7' },
    { text: '{"a":,"id":7}', id: undefined },
    { text: '{"id":7,"id":7}', id: undefined },
    { text: '{"params":{"id":7}}', id: undefined },
    { text: '[{"id":7}]', id: undefined },
  ])('$text', ({ text, id }) => {
    const found = scan(text)
    expect(found.idStart < 0 ? undefined : text.slice(found.idStart, found.idEnd)).toBe(id)
  })
})

describe('limits', () => {
  test('nesting is counted from the body on', () => {
    expect(scan('[[[]]]', { depth: 3, keys: 9 }).problem).toBe(undefined)
    expect(scan('[[[]]]', { depth: 2, keys: 9 }).problem?.kind).toBe('limit')
  })

  test('lists and objects are counted, for the empty ones cost the most', () => {
    const many = (one: string, count: number) => `[${new Array(count).fill(one).join(',')}]`
    expect(scan(many('{}', 199_999)).problem).toBe(undefined)
    expect(scan(many('{}', 200_000)).problem?.kind).toBe('limit')
    expect(scan(many('[[]]', 100_000)).problem?.kind).toBe('limit')
    expect(scan(many('0', 300_000)).problem).toBe(undefined)
  })

  test('members are counted over all objects', () => {
    expect(scan('{"a":{"b":1},"c":[{"d":1}]}', { depth: 9, keys: 4 }).problem).toBe(undefined)
    expect(scan('{"a":{"b":1},"c":[{"d":1}]}', { depth: 9, keys: 3 }).problem?.kind).toBe('limit')
  })
})

test('large values under params are found, and nothing else is left out', () => {
  const long = 'x'.repeat(3000)
  const text = `{"id":1,"params":{"name":"${long}","arguments":{"a":"${long}"}, "other" : ["${long}"] ,"_meta":{"a":"${long}"}}}`
  const { large, problem } = scan(text)
  expect(problem).toBe(undefined)
  expect(large).toHaveLength(4)
  expect(text.slice(large[0], large[1])).toBe(`{"a":"${long}"}`)
  expect(text.slice(large[2], large[3])).toBe(`["${long}"]`)
})

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Names whose hashes agree in the bits that choose a place in a table of up to 4096. */
function namesInOneSlot(count: number): string[] {
  const names: string[] = []
  for (let i = 0; names.length < count; i++) {
    const name = i.toString(36)
    let hash = 0x811c9dc5 | 0
    for (const c of Buffer.from(name)) hash = Math.imul(hash ^ c, 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
    if (((hash ^ (hash >>> 13)) & 0x1ff) === 0) names.push(name)
  }
  return names
}

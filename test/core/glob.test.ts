import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileGlob, compileSegmentGlob } from '../../src/core/glob.ts'

describe('* is any run of characters', () => {
  test.each([
    { pattern: 'search', yes: ['search'], no: ['', 'searc', 'search2', 'Search', 'xsearch'] },
    { pattern: '', yes: [''], no: ['a', '*'] },
    { pattern: '*', yes: ['', 'a', 'a/b', '*', '\n'], no: [] },
    { pattern: '**', yes: ['', 'a', 'a/b'], no: [] },
    { pattern: 'search_*', yes: ['search_', 'search_x', 'search_x/y'], no: ['search', 'xsearch_'] },
    { pattern: '*@acme.example', yes: ['@acme.example', 'a@acme.example'], no: ['a@acme.exampl', 'a@acme.example.'] },
    { pattern: 'a*a', yes: ['aa', 'aba', 'aaa'], no: ['a', 'ab', 'ba'] },
    { pattern: 'a*b*c', yes: ['abc', 'a-b-c', 'abcbc', 'abbcc'], no: ['ac', 'acb', 'ab', 'bc', 'abcd'] },
    { pattern: '*ab*ab*', yes: ['abab', 'xabyabz'], no: ['ab', 'aba', 'abxba'] },
    { pattern: 'a.b', yes: ['a.b'], no: ['axb'] },
    { pattern: '(a|b)+[x]', yes: ['(a|b)+[x]'], no: ['ax'] },
  ])('$pattern', ({ pattern, yes, no }) => {
    const glob = compileGlob(pattern)
    expect(yes.filter(text => !glob(text))).toEqual([])
    expect(no.filter(text => glob(text))).toEqual([])
  })

  test('agrees with the same pattern as a regular expression', () => {
    fc.assert(
      fc.property(pieces('ab*'), pieces('ab'), (pattern, text) => {
        expect(compileGlob(pattern)(text)).toBe(oracle(pattern.replaceAll(/\*+/g, '**'), '/').test(text))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('* stays within a segment, ** crosses', () => {
  test.each([
    { pattern: 'spiffe://td/ns/a', yes: ['spiffe://td/ns/a'], no: ['spiffe://td/ns/', 'spiffe://td/ns/ab'] },
    { pattern: 'spiffe://td/ns/*', yes: ['spiffe://td/ns/a', 'spiffe://td/ns/'], no: ['spiffe://td/ns/a/b'] },
    { pattern: 'spiffe://td/**', yes: ['spiffe://td/', 'spiffe://td/a/b/c'], no: ['spiffe://td', 'spiffe://tdx/a'] },
    {
      pattern: 'spiffe://td/ns/*/sa/kong',
      yes: ['spiffe://td/ns/gw/sa/kong', 'spiffe://td/ns//sa/kong'],
      no: [
        'spiffe://td/ns/a/b/sa/kong',
        'spiffe://td/ns/gw/sa/kong2',
        'spiffe://td/ns/gw/sa/',
        'spiffe://td/ns/sa/kong',
      ],
    },
    {
      pattern: 'spiffe://td/**/kong',
      yes: ['spiffe://td/kong/kong', 'spiffe://td/a/b/kong', 'spiffe://td//kong'],
      no: ['spiffe://td/kong', 'spiffe://td/a/kong/b'],
    },
    { pattern: '/**/a*/b', yes: ['/x/y/a1/b', '//a/b', '/ab/ac/a/b'], no: ['/x/a1/c/b', '/x/b'] },
    { pattern: 'x-*-y-*', yes: ['x-1-y-2', 'x--y-', 'x-y-y-'], no: ['x-/-y-', 'x-1-y'] },
    { pattern: '**', yes: ['', 'a/b'], no: [] },
    { pattern: '*', yes: ['', 'a'], no: ['a/b', '/'] },
  ])('$pattern', ({ pattern, yes, no }) => {
    const glob = compileSegmentGlob(pattern, '/')
    expect(yes.filter(text => !glob(text))).toEqual([])
    expect(no.filter(text => glob(text))).toEqual([])
  })

  test('the separator of DNS names is the dot', () => {
    const glob = compileSegmentGlob('*.gateway.svc', '.')
    expect(['kong.gateway.svc', 'a.b.gateway.svc', 'gateway.svc', 'a/b.gateway.svc'].map(glob)).toEqual([
      true,
      false,
      false,
      true,
    ])
  })

  test('agrees with the same pattern as a regular expression, call after call', () => {
    fc.assert(
      fc.property(pieces('ab/*'), fc.array(pieces('ab/'), { minLength: 1, maxLength: 4 }), (pattern, texts) => {
        const glob = compileSegmentGlob(pattern, '/')
        for (const text of texts) expect(glob(text)).toBe(oracle(pattern, '/').test(text))
      }),
      { numRuns: 3000 },
    )
  })
})

test('patterns made to backtrack are answered at once', () => {
  const stars = `${'*a'.repeat(200)}*b`
  const text = 'a'.repeat(20_000)
  expect(compileGlob(stars)(text)).toBe(false)
  expect(compileSegmentGlob(stars.replaceAll('*', '**'), '/')(text)).toBe(false)
  expect(compileSegmentGlob(stars, '/')(text)).toBe(false)
})

function pieces(alphabet: string) {
  return fc.array(fc.constantFrom(...alphabet), { maxLength: 12 }).map(list => list.join(''))
}

/** The slow way to say the same: one star excludes the separator, two or more exclude nothing. */
function oracle(pattern: string, separator: string): RegExp {
  const source = pattern.replaceAll(/\*+|[^*]/g, token => {
    if (token === '*') return `[^${separator}]*`
    return token.startsWith('*') ? '[\\s\\S]*' : `\\u{${token.codePointAt(0)?.toString(16)}}`
  })
  return new RegExp(`^(?:${source})$`, 'u')
}

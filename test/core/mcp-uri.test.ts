import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { normalizeUri } from '../../src/core/mcp/uri.ts'

const normal = (uri: string) => {
  const result = normalizeUri(uri)
  return result.ok ? result.value : undefined
}

const piece = fc.constantFrom(
  'a',
  'B',
  '.',
  '..',
  '%2e',
  '%2E%2e',
  '%41',
  '%c3%a9',
  'é',
  'x y',
  '%20',
  '',
  '%2f',
  '%25',
  '%252e',
  ';',
  '..;',
  ':',
  '@',
  '~',
  '{v}',
  '|',
  '*',
  '%zz',
  '%00',
  '\\',
  '?',
  '#',
  "'",
  'C:',
  'c|',
)
const path = fc.array(piece, { maxLength: 6 }).map(pieces => pieces.map(one => `/${one}`).join(''))
const scheme = fc.constantFrom('http', 'HTTPS', 'file', 'test', 'db', 'ws', 'ftp', 'a+b')
const host = fc.constantFrom(
  '',
  'h',
  'Example.ORG',
  'h:80',
  'h:8080',
  'u@h',
  'u@v@h',
  '127.0.0.1',
  '127.0.0.1.',
  'h.',
  '127.1',
  '0x7f.0.0.1',
  '[::1]',
  '[::1',
  'h:',
  'h%41',
  'é.org',
  'localhost',
  'a_b',
  'h:0',
  'h:99999',
)
const uris = fc.tuple(scheme, fc.constantFrom('://', ':', ':/', ':///'), host, path).map(parts => parts.join(''))

describe('every URI that is accepted', () => {
  test('is normal once it has been normalised', () => {
    fc.assert(
      fc.property(uris, uri => {
        const once = normal(uri)
        if (once !== undefined) expect(normal(once)).toBe(once)
      }),
      { numRuns: 5000 },
    )
  })

  test('is the same resource to a WHATWG parser: what that makes of it normalises to the same', () => {
    let compared = 0
    fc.assert(
      fc.property(uris, uri => {
        const ours = normal(uri)
        if (ours === undefined) return
        const whatwg = URL.parse(uri)
        if (whatwg === null) throw new Error(`${uri} is accepted here and refused by WHATWG`)
        compared++
        expect(normal(whatwg.href)).toBe(ours)
      }),
      { numRuns: 5000 },
    )
    expect(compared).toBeGreaterThan(300)
  })

  test('has no dot segment, no encoded unreserved character and no lower-case hex left', () => {
    fc.assert(
      fc.property(uris, uri => {
        const ours = normal(uri)
        if (ours === undefined) return
        expect(ours.replace(/[?#].*$/, '')).not.toMatch(
          /\/\.{1,2}(?:\/|$)|%(?:4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]|3[0-9]|2D|2E|5F|7E)|%.[a-f]|%[a-f]/,
        )
      }),
      { numRuns: 5000 },
    )
  })
})

/** What Python's pydantic, whose parser is that of Rust, makes of these is another path than RFC 3986 and WHATWG have. */
test.each([
  'file://h/C:/x', // file:///C:/x
  'docs://h/private/C:/../../public/x', // docs://h/private/C:/public/x
  'docs://h/a/c|/../x', // docs://h/a/c|/x
])('%s is refused', uri => {
  expect(normal(uri)).toBeUndefined()
})

test.each([
  ['test://{id}/X', 'test://{id}/X'],
  ['TEST://Host-{ID}/{+Path}', 'test://host-{ID}/{+Path}'],
  ['file:///srv/{path}', 'file:///srv/{path}'],
  ['test://h/a{?q,r}', 'test://h/a{?q,r}'],
  ['test://h/a{#frag}', 'test://h/a{#frag}'],
])('the template %s keeps its variables', (template, want) => {
  expect(normalizeUri(template, true)).toEqual({ ok: true, value: want })
})

test.each([
  ['file:///srv/docs/**', 'file:///srv/docs/**'],
  ['https://*.Example.org/*', 'https://*.example.org/*'],
  ['file:///srv/my docs/*', undefined],
])('the pattern %s keeps its stars', (pattern, want) => {
  expect(normal(pattern)).toBe(want)
})

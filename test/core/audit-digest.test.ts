import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { argsDigest, canonicalJson } from '../../src/core/audit/digest.ts'
import type { JsonObject } from '../../src/core/json.ts'

const key = Buffer.from('0123456789abcdef')

// RFC 8785 §3.2.2 and §3.2.3
test.each([
  [
    '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"literals":[null,true,false]}',
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}',
  ],
  [
    '{"\\u20ac":"Euro Sign","\\r":"CR","1":"One","\\u0080":"Control","\\ud83d\\ude02":"Smiley","\\u00f6":"o","\\ufb33":"Dalet"}',
    '{"\\r":"CR","1":"One","\u0080":"Control","\u00f6":"o","\u20ac":"Euro Sign","\ud83d\ude02":"Smiley","\ufb33":"Dalet"}',
  ],
  [
    '{"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/"}',
    '{"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  ],
])('%s', (from, to) => expect(canonicalJson(JSON.parse(from))).toBe(to))

test('the digest is the HMAC of the canonical form', () => {
  const want = createHmac('sha256', key).update('{"a":[1,2],"b":"x"}').digest('hex')
  expect(argsDigest({ b: 'x', a: [1, 2] }, key)).toBe(`hmac-sha256:${want}`)
})

test('equal arguments have equal digests, whatever their order; others do not', () => {
  const shuffled = (value: JsonObject): JsonObject => Object.fromEntries(Object.entries(value).reverse())
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
      fc.jsonValue(),
      (value, other) => {
        const args = value as JsonObject
        expect(argsDigest(shuffled(args), key)).toBe(argsDigest(args, key))
        const changed = { ...args, added: other } as JsonObject
        if (JSON.stringify(changed.added) !== JSON.stringify(args.added))
          expect(argsDigest(changed, key)).not.toBe(argsDigest(args, key))
      },
    ),
  )
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isTraceId } from '../../src/core/audit/trace-id.ts'
import { exchangeWith, lineOf } from '../support/audit.ts'

test.each([
  // The digits of each of these pass for those of a card.
  { requestId: '26e67789-2270-4254-808f-b3b3eebb6fb5' },
  { requestId: '24f784dc-5f53-4848-8596-1302e67d789a' },
  { requestId: 'e2700723-3783-48cf-99c9-dc8481645bdf' },
])('$requestId is written as it is', ({ requestId }) => {
  expect(lineOf(exchangeWith({ requestId }))).toMatchObject({ requestId })
})

test('a traceparent is written as it is, though its digits pass for those of a card', () => {
  const traceparent = '00-4111111111111111a3ce929d0e0e4736-00f067aa0ba902b7-01'
  expect(lineOf(exchangeWith({ traceparent, messages: [] }))).toMatchObject({ traceparent })
})

test('every UUID and every traceparent is taken for one', () => {
  const hex = (length: number) =>
    fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length })
  const traceparent = fc.tuple(hex(32), hex(16)).map(([trace, span]) => `00-${trace}-${span}-01`)
  fc.assert(fc.property(fc.uuid(), traceparent, (uuid, parent) => isTraceId(uuid) && isTraceId(parent)))
})

test.each([
  { name: 'a card', requestId: '4111111111111111' },
  { name: 'a card of the length of a UUID', requestId: '4111-1111-1111-1111-1111-1111-1111-1' },
  { name: 'a card beside a UUID', requestId: '26e67789-2270-4254-808f-b3b3eebb6fb5 4111111111111111' },
])('$name is still hidden', ({ requestId }) => {
  expect(isTraceId(requestId)).toBe(false)
  expect(String(lineOf(exchangeWith({ requestId }))['requestId'])).toContain('[redacted')
})

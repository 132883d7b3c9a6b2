import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isUuid } from '../../src/core/audit/uuid.ts'
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

test('what a later version adds to a traceparent is read like any text of a caller', () => {
  const traceparent = '01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-4111-1111-1111-1111'
  const line = lineOf(exchangeWith({ traceparent, messages: [] }))
  expect(String(line['traceparent'])).toContain('[redacted')
})

test.each([
  { name: 'a card', requestId: '4111111111111111' },
  { name: 'a card of the length of a UUID', requestId: '4111-1111-1111-1111-1111-1111-1111-1' },
  { name: 'a card beside a UUID', requestId: '26e67789-2270-4254-808f-b3b3eebb6fb5 4111111111111111' },
])('$name for a request id is hidden', ({ requestId }) => {
  expect(isUuid(requestId)).toBe(false)
  expect(String(lineOf(exchangeWith({ requestId }))['requestId'])).toContain('[redacted')
})

test('every UUID is taken for one, and nothing with another character in it', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.nat(35), fc.constantFrom('g', '/', ':', '\u0130', ' '), (uuid, at, other) => {
      expect(isUuid(uuid)).toBe(true)
      expect(isUuid(uuid.toUpperCase())).toBe(true)
      expect(isUuid(uuid.slice(0, at) + other + uuid.slice(at + 1))).toBe(false)
    }),
  )
})

import { expect, test } from 'vitest'
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

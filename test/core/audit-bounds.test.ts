import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Chain } from '../../src/core/audit/chain.ts'
import { auditLine } from '../../src/core/audit/schema.ts'
import type { JsonObject } from '../../src/core/json.ts'
import { certificate, exchangeWith, recorderWith, toolCall } from '../support/audit.ts'

/** Text that costs the most bytes: controls, quotes, backslashes, lone surrogates, line separators, other scripts. */
const hostile = fc
  .array(
    fc.constantFrom(
      '\u0000',
      '"',
      '\\',
      '\ud800',
      '\u2028',
      '\u202e',
      '愛',
      '🜁',
      'a',
      '\n',
      '%41',
      '@',
      'x'.repeat(50),
    ),
  )
  .map(pieces => pieces.join(''))
const huge = fc
  .tuple(hostile, fc.integer({ min: 0, max: 3000 }))
  .map(([text, n]) => text.repeat(1 + (n % 40)).slice(0, 20_000))
const maxLineBytes = fc.constantFrom(2048, 3000, 4096, 15 * 1024)

test('no line is longer than maxLine, and every line is ASCII, valid JSON and of the schema', () => {
  fc.assert(
    fc.property(
      maxLineBytes,
      fc.array(huge, { minLength: 12, maxLength: 12 }),
      fc.jsonValue({ maxDepth: 6 }),
      fc.boolean(),
      (max, names, value, isBrief) => {
        const [id, agent, user, org, tool, method, scope, subject, error, key, uri, session] = names as string[]
        const exchange = exchangeWith({
          requestId: id as string,
          userAgent: agent,
          forwardedFor: agent,
          traceparent: `01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-${id}`,
          user: {
            id: user as string,
            org,
            email: user,
            scopes: Array.from({ length: 50 }, () => scope as string),
            roles: [scope as string],
            source: 'jwt',
            scopesCut: [scope as string],
            expiresAtMs: undefined,
          },
          connection: {
            remoteAddress: '10.0.0.1',
            certificate: {
              ...certificate,
              subject: subject as string,
              issuer: subject as string,
              uris: [uri as string],
            },
            tls: 'TLSv1.3',
            httpVersion: '2',
          },
          peer: undefined,
          session,
          error,
          rpcError: { code: -32603, message: error as string },
          messages: [
            toolCall(
              tool as string,
              { [key as string]: value as JsonObject, more: names as string[] },
              {
                method: method as string,
                id: id as string,
                version: method,
                clientInfo: { name: agent as string, version: agent as string },
                objects: [
                  { kind: 'tool', name: tool as string, normalized: '' },
                  { kind: 'resource', name: uri as string, normalized: '' },
                  { kind: 'prompt', name: tool as string, normalized: '' },
                ],
              },
            ),
          ],
        })
        const recorder = recorderWith({ maxLineBytes: max })
        let draft = recorder.exchange('mcp.call', exchange, exchange.messages[0], isBrief)
        if (isBrief) draft = recorder.coalesced(draft, Number.MAX_SAFE_INTEGER, 0, 4e12)
        const chain = new Chain('c'.repeat(64))
        const line = chain.seal(draft)
        expect(Buffer.byteLength(line)).toBeLessThanOrEqual(max)
        expect(line).toMatch(/^[\x20-\x7e]*\n$/)
        auditLine.parse(JSON.parse(line))
      },
    ),
    { numRuns: 300 },
  )
})

test('a fact with a long reason stays within maxLine', () => {
  const recorder = recorderWith({ maxLineBytes: 2048 })
  const fact = { event: 'config.kept' as const, error: '"'.repeat(100_000), generation: { config: 1, trust: 1 } }
  const line = new Chain('c').seal(recorder.fact(fact, 0))
  expect(line.length).toBeLessThanOrEqual(2048)
  expect(JSON.parse(line).truncated).toBe(true)
})

test.each([
  ['a long text', { text: 'x'.repeat(100_000) }],
  ['many members', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`k${i}`, i]))],
  ['many elements', { list: Array.from({ length: 1000 }, (_, i) => i) }],
  ['depth', JSON.parse(`${'{"a":'.repeat(60)}1${'}'.repeat(60)}`)],
])('%s is cut, and the line says so', (_name, args) => {
  const recorder = recorderWith({ maxLineBytes: 4096 })
  const exchange = exchangeWith({ messages: [toolCall('search', args as JsonObject)] })
  const line = JSON.parse(`${recorder.exchange('mcp.call', exchange, exchange.messages[0])}}`)
  expect(line.truncated).toBe(true)
  expect(line.mcp.tool).toBe('search')
})

test('a short call is not said to be cut, nor is the one after a long one', () => {
  const recorder = recorderWith()
  const long = exchangeWith({ messages: [toolCall('x', { text: 'x'.repeat(9000) })] })
  const lines = [long, exchangeWith()].map(x => JSON.parse(`${recorder.exchange('mcp.call', x, x.messages[0])}}`))
  expect(lines.map(line => line.truncated)).toEqual([true, undefined])
})

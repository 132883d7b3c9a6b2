import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { auditJsonSchema, auditLine } from '../../src/core/audit/schema.ts'
import { logOf, signingKey } from '../support/audit-log.ts'

test('docs/schema/audit.schema.json is what the code says', () => {
  expect(JSON.parse(readFileSync('docs/schema/audit.schema.json', 'utf8'))).toEqual(auditJsonSchema())
})

test('the members of an audit line', () => {
  expect(Object.keys(auditLine.shape).sort().join(' ')).toBe(
    'args argsDigest bytesIn bytesOut chain checkpoint client count decision durationMs error event firstAt kind lastAt mcp ' +
      'outcome peer pod quota requestId rpcError seq sidecar started status stopped timestamp traceparent truncated upstreamMs user',
  )
})

test('the events', () => {
  expect(auditLine.shape.event.options.join(' ')).toBe(
    'mcp.call mcp.started mcp.refused mcp.stream.open mcp.stream.close connection.refused connection.closed ' +
      'trust.reloaded trust.kept config.reloaded config.kept audit.gap audit.checkpoint sidecar.started sidecar.stopped',
  )
})

test('every line of a process satisfies it', async () => {
  const { signer } = await signingKey()
  const lines = await logOf('pin', 25, signer)
  const events = lines.map(line => auditLine.parse(JSON.parse(line)).event)
  expect(events[0]).toBe('sidecar.started')
  expect(events.slice(-2)).toEqual(['sidecar.stopped', 'audit.checkpoint'])
})

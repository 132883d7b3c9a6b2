import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import { afterEach, expect, test } from 'vitest'
import { compileRedactor } from '../../src/core/audit/redact.ts'
import { createLog } from '../../src/edge/log.ts'
import { openTraces, readTraceparent } from '../../src/edge/traces.ts'
import { auditDefaults, exchangeWith, toolCall } from '../support/audit.ts'

const redactor = () => compileRedactor(auditDefaults)
const collector = (): { stream: Writable; lines: () => Record<string, never>[] } => {
  let text = ''
  const stream = new Writable({
    write(chunk, _encoding, done) {
      text += chunk
      done()
    },
  })
  return {
    stream,
    lines: () =>
      text
        .split('\n')
        .slice(0, -1)
        .map(line => JSON.parse(line)),
  }
}

test('the operational log is JSON without secrets', () => {
  const { stream, lines } = collector()
  const log = createLog({ stream, redactor })
  log.info({ token: 'x', url: 'redis://u:pw@h/0' }, 'mail jane@acme.example')
  log.error(new Error('password=hunter2'))
  expect(lines()).toMatchObject([
    {
      level: 'info',
      token: '[redacted]',
      url: 'redis://[redacted:url-userinfo]@h/0',
      message: 'mail [redacted:email]',
    },
    { level: 'error', message: 'password=[redacted]' },
  ])
})

test('a stderr that nobody reads loses lines, and says how many once it is read again', () => {
  const held: (() => void)[] = []
  const written: string[] = []
  const stream = new Writable({
    highWaterMark: 1,
    write(chunk, _encoding, done) {
      written.push(String(chunk))
      held.push(done)
    },
  })
  const log = createLog({ stream })
  for (let i = 0; i < 2000; i++) log.info({ filler: 'x'.repeat(200) }, 'line')
  expect(stream.writableLength).toBeLessThan(80 * 1024)
  expect(log.droppedLines()).toBeGreaterThan(1000)
  stream._write = (chunk, _encoding, done) => {
    written.push(String(chunk))
    done()
  }
  while (held.length > 0) held.shift()?.()
  return new Promise<void>(resolve => setImmediate(resolve)).then(() => {
    const before = log.droppedLines()
    log.info('again')
    expect(log.droppedLines()).toBe(before)
    expect(JSON.parse(written.at(-2) as string)).toMatchObject({ level: 'warn', dropped: before })
    expect(JSON.parse(written.at(-1) as string)).toMatchObject({ message: 'again' })
  })
})

test('a stderr that is closed does not take the process', () => {
  const { stream } = collector()
  const log = createLog({ stream })
  stream.emit('error', new Error('EPIPE'))
  log.info('into the void')
  expect(log.droppedLines()).toBe(1)
})

test.each([
  ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 1],
  ['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00', 0],
  ['cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings', 1],
])('trace context %s', (text, traceFlags) => {
  expect(readTraceparent(text)).toMatchObject({
    traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    spanId: '00f067aa0ba902b7',
    traceFlags,
  })
})

test.each([
  'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  '00-00000000000000000000000000000000-00f067aa0ba902b7-01',
  '00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01',
  '00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01',
  '',
])('no trace context: %s', text => expect(readTraceparent(text)).toBeUndefined())

test('without a collector nothing is opened', async () => {
  expect(await openTraces({}, { version: '1', pod: {}, redactor })).toBeUndefined()
})

const before = process.env.OTEL_EXPORTER_OTLP_ENDPOINT
afterEach(() => {
  if (before === undefined) delete process.env.OTEL_EXPORTER_OTLP_ENDPOINT
  else process.env.OTEL_EXPORTER_OTLP_ENDPOINT = before
})

interface Span {
  name: string
  kind: number
  spanId: string
  parentSpanId: string
  traceId: string
  links?: { spanId: string }[]
  attributes: { key: string; value: Record<string, unknown> }[]
}

test('a call becomes a server span and a client span at an OTLP collector', async () => {
  const bodies: string[] = []
  const server = createServer((request, response) => {
    request.setEncoding('utf8').on('data', text => bodies.push(text))
    request.on('end', () => response.end('{}'))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  // The exporter of OpenTelemetry reads the process's own environment.
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = endpoint
  const traces = await openTraces(
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint },
    { version: '1', pod: { name: 'p' }, redactor },
  )
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-aaaaaaaaaaaaaaaa-01'
  traces?.record(
    exchangeWith({
      outcome: 'tool_error',
      messages: [toolCall('search', {}, { traceparent, id: 'Bearer abcdefghij' })],
    }),
  )
  await traces?.close(5000)
  server.close()
  const [{ scopeSpans }] = JSON.parse(bodies.join('')).resourceSpans
  const spans: Span[] = scopeSpans[0].spans
  const [inner, outer] = spans.sort((a, b) => b.kind - a.kind) as [Span, Span]
  const attributes = Object.fromEntries(outer.attributes.map(({ key, value }) => [key, Object.values(value)[0]]))
  expect([outer.name, outer.kind, inner.name, inner.kind]).toEqual(['tools/call search', 2, 'tools/call search', 3])
  expect(outer).toMatchObject({
    traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    parentSpanId: 'aaaaaaaaaaaaaaaa',
    links: [{ spanId: '00f067aa0ba902b7' }],
  })
  expect(inner.parentSpanId).toBe(outer.spanId)
  expect(attributes).toMatchObject({
    'mcp.method.name': 'tools/call',
    'mcp.protocol.version': '2026-07-28',
    'gen_ai.tool.name': 'search',
    'gen_ai.operation.name': 'execute_tool',
    'jsonrpc.request.id': 'Bearer [redacted:bearer]',
    'error.type': 'tool_error',
    'network.transport': 'tcp',
    'mcp_sidecar.outcome': 'tool_error',
  })
})

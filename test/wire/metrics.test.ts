import { spawnSync } from 'node:child_process'
import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { Counter } from '../../src/core/audit/chain.ts'
import type { Exchange, Outcome } from '../../src/core/audit/exchange.ts'
import { compileQuotas } from '../../src/core/quota/compile.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import type { Refusal } from '../../src/core/refusal.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { type MetricSources, Metrics } from '../../src/edge/metrics.ts'
import { exchangeWith, recorderWith, toolCall } from '../support/audit.ts'
import { caller, callTool, quota } from '../support/quotas.ts'

const stats = {
  state: 'open',
  records: 12,
  dropped: 3,
  lastSeq: 12,
  pendingBytes: 0,
  waiting: 0,
  reserved: 0,
  failure: undefined,
} as const
const sources: MetricSources = {
  activeConnections: () => 2,
  activeStreams: () => 1,
  audit: () => stats,
  tlsGroups: () => ['X25519MLKEM768', 'X25519'],
  notAfter: () => ({ server: 1_800_000_000_000, client_ca: 1_900_000_000_000 }),
  generations: () => ({ config: 3, trust: 7 }),
  quotaStoreUp: () => true,
  upstreamUp: () => true,
  upstreamExposed: () => false,
  breaker: () => 'half-open',
}

function metricsWith(more: Partial<MetricSources> = {}): Metrics {
  return new Metrics({ now: () => 1_795_000_000_000, policyTools: ['search'], sources: { ...sources, ...more } })
}

async function textOf(metrics: Metrics): Promise<string> {
  return (await metrics.render(false)).body
}

test('every metric of the contract is there', async () => {
  const metrics = metricsWith()
  metrics.observe(exchangeWith())
  metrics.observe(exchangeWith({ messages: [toolCall('x', {}, { method: 'resources/read', objects: [] })] }))
  metrics.observe(exchangeWith({ outcome: 'refused', refusal: { reason: 'user_missing' } }))
  metrics.handshake('ok', 'TLSv1.3')
  metrics.handshake('refused', undefined)
  metrics.reload('trust', 'kept')
  const text = await textOf(metrics)
  for (const line of [
    'mcp_tool_calls_total{tool="search",status="success"} 1',
    'mcp_tool_calls_total{tool="search",status="refused"} 1',
    'mcp_tool_duration_seconds_bucket{le="0.01",tool="search"} 1',
    'mcp_tool_duration_seconds_count{tool="search"} 1',
    'mcp_http_request_duration_seconds_count{method="POST",route="/mcp",status_code="200"} 3',
    'mcp_resource_requests_total{resource_type="resource",status="success"} 1',
    'mcp_active_connections 2',
    'mcp_active_streams 1',
    'mcp_sidecar_refusals_total{reason="user_missing"} 1',
    'mcp_sidecar_policy_decisions_total{effect="allow",rule="readers",mode="enforce"} 3',
    'mcp_sidecar_quota_decisions_total{quota="per-user",result="admitted"} 3',
    'mcp_sidecar_quota_store_up 1',
    'mcp_sidecar_tls_handshakes_total{result="ok",version="TLSv1.3"} 1',
    'mcp_sidecar_tls_handshakes_total{result="refused",version="none"} 1',
    'mcp_sidecar_tls_groups_info{groups="X25519MLKEM768:X25519"} 1',
    'mcp_sidecar_certificate_not_after_timestamp_seconds{which="server"} 1800000000',
    'mcp_sidecar_reloads_total{what="trust",result="kept"} 1',
    'mcp_sidecar_generation{what="trust"} 7',
    'mcp_sidecar_audit_records_total 12',
    'mcp_sidecar_audit_dropped_total 3',
    'mcp_sidecar_audit_blocked 0',
    'mcp_sidecar_audit_last_seq 12',
    'mcp_sidecar_upstream_up 1',
    'mcp_sidecar_upstream_exposed 0',
    'mcp_sidecar_breaker_state 1',
  ]) {
    expect(text.split('\n')).toContain(line)
  }
  expect(text).toMatch(/^process_resident_memory_bytes \d/m)
  expect(text).toMatch(/^nodejs_eventloop_lag_seconds \d/m)
})

describe('labels come from closed sets', () => {
  test('a tool is named when the policy or the upstream has named it', async () => {
    const metrics = metricsWith()
    const call = (tool: string) => metrics.observe(exchangeWith({ messages: [toolCall(tool)] }))
    call('search')
    call('get_user')
    metrics.learnTools(['get_user', 'bad\nname', 'x'.repeat(500)])
    call('get_user')
    call('bad\nname')
    const text = await textOf(metrics)
    expect(text.match(/^mcp_tool_calls_total.*$/gm)).toEqual([
      'mcp_tool_calls_total{tool="search",status="success"} 1',
      'mcp_tool_calls_total{tool="other",status="success"} 2',
      'mcp_tool_calls_total{tool="get_user",status="success"} 1',
    ])
  })

  test('an upstream that shows ever new tools does not make ever new series', async () => {
    const metrics = metricsWith()
    for (let i = 0; i < 2000; i++) {
      metrics.learnTools([`tool-${i}`])
      metrics.observe(exchangeWith({ messages: [toolCall(`tool-${i}`)] }))
    }
    expect((await textOf(metrics)).match(/^mcp_tool_calls_total/gm)?.length).toBeLessThanOrEqual(501)
  })

  test('a made-up HTTP method is other', async () => {
    const metrics = metricsWith()
    metrics.observe(exchangeWith({ httpMethod: 'BREW', route: 'other', status: 405 }))
    expect(await textOf(metrics)).toContain(
      'mcp_http_request_duration_seconds_count{method="other",route="other",status_code="405"} 1',
    )
  })
})

test('a call counts once for each quota that it drew from, a refused one for the quota that refused', async () => {
  const metrics = metricsWith()
  const windows = [{ limit: 120, perMs: 60_000 }]
  const quotas = compileQuotas([
    quota('per-user', { windows }),
    quota('per-tool', { key: ['user', 'tool'], windows }),
    quota('in-flight', { concurrent: 16 }),
    quota('others', { match: { tools: ['export_*'] }, windows }),
  ])
  const drawn = (...tools: string[]) => demandsFor(quotas, caller('jane'), undefined, tools.map(callTool))
  const refusal = { reason: 'quota_concurrency', quota: 'in-flight', limit: 16, retryAfterMs: 1000 } as const
  for (let i = 0; i < 3; i++) metrics.observe(exchangeWith({ drawn: drawn('search') }))
  metrics.observe(exchangeWith({ drawn: drawn('search', 'get_user') }))
  metrics.observe(exchangeWith({ drawn: undefined, outcome: 'refused', refusal }))
  metrics.observe(exchangeWith({ drawn: undefined, quota: undefined }))
  expect((await textOf(metrics)).match(/^mcp_sidecar_quota_decisions_total.*$/gm)).toEqual([
    'mcp_sidecar_quota_decisions_total{quota="per-user",result="admitted"} 4',
    'mcp_sidecar_quota_decisions_total{quota="per-tool",result="admitted"} 4',
    'mcp_sidecar_quota_decisions_total{quota="in-flight",result="admitted"} 4',
    'mcp_sidecar_quota_decisions_total{quota="in-flight",result="refused"} 1',
  ])
})

test('OpenMetrics has exemplars, and asking for it changes nothing for others', async () => {
  const metrics = metricsWith()
  metrics.observe(exchangeWith())
  const before = await textOf(metrics)
  const open = await metrics.render(true)
  expect(open.contentType).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
  expect(open.body).toContain(
    'mcp_tool_duration_seconds_bucket{le="0.01",tool="search"} 1 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.004125 1795000000',
  )
  expect(open.body).toContain('# TYPE mcp_tool_calls counter\nmcp_tool_calls_total{tool="search",status="success"} 1\n')
  expect(open.body.endsWith('# EOF\n')).toBe(true)
  const ours = (text: string) => text.split('\n').filter(line => line.includes('mcp_'))
  expect(ours(await textOf(metrics))).toEqual(ours(before))
})

const promtool = spawnSync('promtool', ['--version']).status === 0
test.skipIf(!promtool)('promtool finds no fault in names, types and help', async () => {
  const metrics = metricsWith()
  for (const outcome of ['success', 'aborted'] as const) metrics.observe(exchangeWith({ outcome }))
  const { status, stderr, stdout } = spawnSync('promtool', ['check', 'metrics'], {
    input: await textOf(metrics),
    encoding: 'utf8',
  })
  expect(`${stdout}${stderr}`).toBe('')
  expect(status).toBe(0)
})

test('after 10,000 mixed calls metrics and audit lines say the same', async () => {
  let text = ''
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      text += chunk
      done()
    },
  })
  let nowMs = 1_795_000_000_000
  const sink = new AuditSink({
    stream,
    recorder: recorderWith(),
    chain: new Counter(),
    onBlocked: 'block',
    checkpointEvery: 1000,
    now: () => nowMs,
    generation: () => ({ config: 1, trust: 1 }),
  })
  const metrics = metricsWith({ audit: () => sink.stats() })
  const tools = ['search', 'get_user', 'made-up']
  metrics.learnTools(['get_user'])
  const refusals: Refusal[] = [
    { reason: 'user_missing' },
    { reason: 'tool_not_permitted', name: 'x', rule: 'r' },
    { reason: 'draining', retryAfterMs: 1 },
  ]
  const outcomes: Outcome[] = ['success', 'tool_error', 'error', 'aborted', 'refused', 'refused']
  for (let i = 0; i < 10_000; i++) {
    nowMs += 7
    const outcome = outcomes[(i * 31) % outcomes.length] as Outcome
    const refused: Partial<Exchange> =
      outcome === 'refused'
        ? { refusal: refusals[i % 3], upstreamStartedMono: undefined, upstreamEndedMono: undefined }
        : {}
    const exchange = exchangeWith({
      outcome,
      messages: [toolCall(tools[(i * 17) % 3] as string)],
      startedAtMs: nowMs,
      ...refused,
    })
    sink.record(exchange)
    metrics.observe(exchange)
  }
  await sink.close('test', 1000)

  const lines = text.split('\n').slice(0, -1)
  const audited = new Map<string, number>()
  const add = (key: string, n: number) => audited.set(key, (audited.get(key) ?? 0) + n)
  for (const line of lines) {
    const { event, mcp, outcome, decision, count = 1 } = JSON.parse(line)
    if (event !== 'mcp.call' && event !== 'mcp.refused') continue
    add(`tool="${mcp.tool === 'made-up' ? 'other' : mcp.tool}",status="${outcome}"`, count)
    if (event === 'mcp.refused') add(`reason="${decision.reason}"`, count)
  }
  const measured = new Map<string, number>()
  for (const [, labels, value] of (await textOf(metrics)).matchAll(
    /^(?:mcp_tool_calls|mcp_sidecar_refusals)_total\{(.*)\} (\d+)$/gm,
  )) {
    measured.set(labels as string, Number(value))
  }
  expect(Object.fromEntries(measured)).toEqual(Object.fromEntries(audited))
  expect([...measured.values()].reduce((sum, n) => sum + n)).toBe(10_000 + 3332)
  expect(await textOf(metrics)).toContain(`mcp_sidecar_audit_records_total ${lines.length}\n`)
})

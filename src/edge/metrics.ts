import type { OpenMetricsContentType, Metric as PromMetric, Registry } from 'prom-client'
import type { Exchange } from '../core/audit/exchange.ts'
import { outcomeOf } from '../core/audit/record.ts'
import type { Verdict } from '../core/policy/verdict.ts'
import type { Demand } from '../core/quota/demand.ts'
import { isFirstOfQuota } from '../core/quota/first-of-quota.ts'
import type { AuditStats } from './audit-sink.ts'
import {
  ByPair,
  type Counter,
  Counts,
  Durations,
  type Metric,
  Reading,
  type Sample,
  type Series,
} from './metric-store.ts'

/** What is only looked at when somebody scrapes; absent ones are not shown. */
export interface MetricSources {
  activeConnections(): number
  activeStreams(): number
  audit(): AuditStats
  /** TLS groups in the order of preference. */
  tlsGroups(): readonly string[]
  /** Ends of validity, ms since the epoch, by `which`: `server`, `client_ca`, `crl`. */
  notAfter(): Readonly<Record<string, number>>
  /** Generations in use by `what`: `config`, `trust`. */
  generations(): Readonly<Record<string, number>>
  quotaStoreUp(): boolean
  upstreamUp(): boolean
  /** Undefined until the first look. */
  upstreamExposed(): boolean | undefined
  breaker(): 'closed' | 'half-open' | 'open'
}

export interface MetricsOptions {
  readonly sources: MetricSources
  /** Tool names that the policy spells out, patterns aside. */
  readonly policyTools: readonly string[]
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
}

/**
 * Everything that `/metrics` says. Calls are counted from the same `Exchange` that the audit line is made from, so the
 * two agree. Every label value comes from a closed set: what a caller makes up is `other`.
 */
export class Metrics {
  readonly #now: () => number
  readonly #tools = new Set<string>()
  readonly #ours: readonly Metric[]
  #registries: Promise<Registries> | undefined

  readonly #toolCalls = new Counts('mcp_tool_calls_total', 'Tool calls by outcome.', ['tool', 'status'])
  readonly #toolSeconds = new Durations(
    'mcp_tool_duration_seconds',
    'Time from the first byte of a tool call to the last of its answer.',
    ['tool'],
    BUCKETS,
  )
  readonly #httpSeconds = new Durations(
    'mcp_http_request_duration_seconds',
    'Time from the first byte of a request to the last of its answer.',
    ['method', 'route', 'status_code'],
    BUCKETS,
  )
  readonly #resources = new Counts('mcp_resource_requests_total', 'Requests for resources by outcome.', [
    'resource_type',
    'status',
  ])
  readonly #refusals = new Counts('mcp_sidecar_refusals_total', 'Answers that the sidecar gave by itself, by reason.', [
    'reason',
  ])
  readonly #decisions = new Counts('mcp_sidecar_policy_decisions_total', 'What policy decided.', [
    'effect',
    'rule',
    'mode',
  ])
  readonly #quotas = new Counts('mcp_sidecar_quota_decisions_total', 'What quotas decided.', ['quota', 'result'])
  readonly #handshakes = new Counts(
    'mcp_sidecar_tls_handshakes_total',
    'TLS handshakes by result and protocol version.',
    ['result', 'version'],
  )
  readonly #reloads = new Counts(
    'mcp_sidecar_reloads_total',
    'Attempts to take a new configuration or new trust into use.',
    ['what', 'result'],
  )

  readonly #bySeries = {
    http: new ByPair((method, route) => new ByStatus(this.#httpSeconds, method, route)),
    toolCalls: new ByPair((tool, outcome) => this.#toolCalls.counter(tool, outcome)),
    toolSeconds: new Map<string, Series>(),
    quotas: new ByPair((quota, result) => this.#quotas.counter(quota, result)),
    /** Verdicts that let calls pass are made once for each rule. */
    allowed: new WeakMap<Verdict, Counter>(),
  }

  constructor({ sources, policyTools, now }: MetricsOptions) {
    this.#now = now
    this.learnTools(policyTools)
    // There from the beginning, so that the first failure is seen as an increase.
    for (const what of ['config', 'trust']) {
      for (const result of ['loaded', 'kept']) this.#reloads.counter(what, result)
    }
    this.#ours = [
      this.#toolCalls,
      this.#toolSeconds,
      this.#httpSeconds,
      this.#resources,
      this.#refusals,
      this.#decisions,
      this.#quotas,
      this.#handshakes,
      this.#reloads,
      ...readings(sources),
    ]
  }

  /** Names that the upstream's own tool list has shown become labels of their own, up to a bound. */
  learnTools(names: Iterable<string>): void {
    for (const name of names) {
      if (this.#tools.size >= MAX_TOOLS) return
      // biome-ignore lint/suspicious/noControlCharactersInRegex: such a name stays `other`.
      if (name.length <= 128 && !/[\u0000-\u001f\u007f]/.test(name)) this.#tools.add(name)
    }
  }

  /** Counts an exchange that has ended; called once for each, where its audit line is written. */
  observe(exchange: Exchange): void {
    const { refusal, verdict, messages } = exchange
    const series = this.#bySeries
    const outcome = outcomeOf(exchange)
    const nowMs = this.#now()
    const seconds = exchange.endedMono === undefined ? 0 : (exchange.endedMono - exchange.startedMono) / 1000
    const traceId = (messages[0]?.traceparent ?? exchange.traceparent)?.slice(3, 35)
    const method = HTTP_METHODS.has(exchange.httpMethod) ? exchange.httpMethod : 'other'
    series.http.of(method, exchange.route).of(exchange.status).observe(seconds, traceId, nowMs)
    if (refusal !== undefined) this.#refusals.counter(refusal.reason).value++
    if (verdict !== undefined) this.#decisionsBy(verdict).value++
    if (exchange.drawn !== undefined) this.#countDrawn(exchange.drawn)
    // Others might have admitted it, but nothing was drawn from them.
    else if (refusal?.reason === 'quota_exhausted' || refusal?.reason === 'quota_concurrency') {
      series.quotas.of(refusal.quota, 'refused').value++
    }
    for (let i = 0; i < messages.length; i++) {
      const message = messages[i] as Exchange['messages'][number]
      if (message.method === 'tools/call') {
        const tool = this.#label(message.objects[0]?.name)
        series.toolCalls.of(tool, outcome).value++
        // How long a refusal takes says nothing about the tool.
        if (outcome !== 'refused') this.#secondsOf(tool).observe(seconds, traceId, nowMs)
      } else if (message.method.startsWith('resources/')) {
        this.#resources.counter(resourceType(message.method), outcome).value++
      }
    }
  }

  /** @param version  `TLSv1.3`, `TLSv1.2`, or anything else for a handshake that got to none. */
  handshake(result: 'ok' | 'refused' | 'failed' | 'timeout', version: string | undefined): void {
    this.#handshakes.counter(result, version === 'TLSv1.3' || version === 'TLSv1.2' ? version : 'none').value++
  }

  reload(what: 'config' | 'trust', result: 'loaded' | 'kept'): void {
    this.#reloads.counter(what, result).value++
  }

  /** The first scrape loads what writes the formats and watches the runtime: the start has no time for it. */
  async render(openMetrics: boolean): Promise<{ body: string; contentType: string }> {
    this.#registries ??= newRegistries(this.#ours)
    const { open, text } = await this.#registries
    const registry = openMetrics ? open : text
    return { body: await registry.metrics(), contentType: registry.contentType }
  }

  #decisionsBy(verdict: Verdict): Counter {
    const { effect, rule, mode } = verdict
    if (effect === 'deny') return this.#decisions.counter(effect, rule, mode)
    let counter = this.#bySeries.allowed.get(verdict)
    if (counter === undefined) {
      counter = this.#decisions.counter(effect, rule, mode)
      this.#bySeries.allowed.set(verdict, counter)
    }
    return counter
  }

  #countDrawn(drawn: readonly Demand[]): void {
    for (let i = 0; i < drawn.length; i++) {
      if (isFirstOfQuota(drawn, i)) this.#bySeries.quotas.of((drawn[i] as Demand).quota.name, 'admitted').value++
    }
  }

  #secondsOf(tool: string): Series {
    let series = this.#bySeries.toolSeconds.get(tool)
    if (series === undefined) {
      series = this.#toolSeconds.series(tool)
      this.#bySeries.toolSeconds.set(tool, series)
    }
    return series
  }

  #label(tool: string | undefined): string {
    return tool !== undefined && this.#tools.has(tool) ? tool : 'other'
  }
}

interface Registries {
  readonly text: Registry
  readonly open: Registry<OpenMetricsContentType>
}

/** The same metrics for both formats, the runtime's beside ours. */
async function newRegistries(ours: readonly Metric[]): Promise<Registries> {
  const { collectDefaultMetrics, Registry } = await import('./late/prom-client.ts')
  const text = new Registry()
  const open = new Registry<OpenMetricsContentType>()
  open.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  collectDefaultMetrics({ register: text })
  // Gauges whose names end in _total, which the format keeps for counters; the same without the suffix are there too.
  for (const name of MISNAMED) text.removeSingleMetric(name)
  for (const metric of text.getMetricsAsArray()) open.registerMetric(inOpenMetrics(metric as never))
  for (const metric of ours) {
    text.registerMetric(adapter(metric, false))
    open.registerMetric(adapter(metric, true))
  }
  return { text, open }
}

/** The series of one method and route, by status. */
class ByStatus {
  readonly #durations: Durations
  readonly #method: string
  readonly #route: string
  readonly #series = new Map<number, Series>()

  constructor(durations: Durations, method: string, route: string) {
    this.#durations = durations
    this.#method = method
    this.#route = route
  }

  of(status: number): Series {
    let series = this.#series.get(status)
    if (series === undefined) {
      series = this.#durations.series(this.#method, this.#route, String(status))
      this.#series.set(status, series)
    }
    return series
  }
}

/** Of the MCP semantic conventions of OpenTelemetry, seconds. */
const BUCKETS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]
const BREAKER_STATES = ['closed', 'half-open', 'open'] as const
const MAX_TOOLS = 500
const HTTP_METHODS = new Set(['GET', 'POST', 'DELETE', 'PUT', 'PATCH', 'HEAD', 'OPTIONS'])
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

function resourceType(method: string): string {
  switch (method) {
    case 'resources/read':
      return 'resource'
    case 'resources/list':
      return 'list'
    case 'resources/templates/list':
      return 'template'
    case 'resources/subscribe':
    case 'resources/unsubscribe':
      return 'subscription'
    default:
      return 'other'
  }
}

function readings(sources: MetricSources): Metric[] {
  return [
    new Reading('mcp_active_connections', 'Open connections of verified peers.', () => sources.activeConnections()),
    new Reading('mcp_active_streams', 'Event streams that are open.', () => sources.activeStreams()),
    new Reading('mcp_sidecar_quota_store_up', 'Whether the quota store answers (1) or not (0).', () =>
      Number(sources.quotaStoreUp()),
    ),
    new Reading('mcp_sidecar_tls_groups_info', 'Key exchange groups that are offered, most preferred first.', () => [
      { labels: { groups: sources.tlsGroups().join(':') }, value: 1 },
    ]),
    new Reading('mcp_sidecar_certificate_not_after_timestamp_seconds', 'When what is in use ends to be valid.', () =>
      each('which', sources.notAfter(), ms => ms / 1000),
    ),
    new Reading('mcp_sidecar_generation', 'Generation of configuration and trust in use.', () =>
      each('what', sources.generations(), generation => generation),
    ),
    new Reading('mcp_sidecar_audit_records_total', 'Audit lines written.', () => sources.audit().records, 'counter'),
    new Reading(
      'mcp_sidecar_audit_dropped_total',
      'Audit lines that were not written.',
      () => sources.audit().dropped,
      'counter',
    ),
    new Reading('mcp_sidecar_audit_blocked', 'Whether stdout takes no audit lines (1) or does (0).', () =>
      Number(sources.audit().state !== 'open'),
    ),
    new Reading('mcp_sidecar_audit_last_seq', 'Sequence number of the last audit line.', () => sources.audit().lastSeq),
    new Reading('mcp_sidecar_upstream_up', 'Whether the MCP server answers (1) or not (0).', () =>
      Number(sources.upstreamUp()),
    ),
    new Reading(
      'mcp_sidecar_upstream_exposed',
      "Whether the MCP server can be reached past the sidecar, on the pod's own address.",
      () => {
        const exposed = sources.upstreamExposed()
        return exposed === undefined ? undefined : Number(exposed)
      },
    ),
    new Reading('mcp_sidecar_breaker_state', 'State of the circuit breaker: 0 closed, 1 half open, 2 open.', () =>
      BREAKER_STATES.indexOf(sources.breaker()),
    ),
  ]
}

function each(label: string, values: Readonly<Record<string, number>>, value: (n: number) => number): Sample[] {
  return Object.entries(values).map(([name, n]) => ({ labels: { [label]: name }, value: value(n) }))
}

/** prom-client asks a registered metric for its values by `get()`, and for nothing else when it renders. */
function adapter(metric: Metric, openMetrics: boolean): PromMetric {
  // OpenMetrics names a counter without the suffix, which its samples have.
  const name = openMetrics && metric.type === 'counter' ? metric.name.replace(/_total$/, '') : metric.name
  const { help, type } = metric
  const get = async () => ({ name, help, type, values: metric.samples(openMetrics), aggregator: 'sum' })
  return { name, help, type, get, reset: () => undefined } as unknown as PromMetric
}

/** One of prom-client's own metrics, without letting the OpenMetrics registry rename the original. */
function inOpenMetrics(metric: { name: string; get(): Promise<{ name: string; type: string | number }> }): PromMetric {
  const get = async () => {
    const read = await metric.get()
    return read.type === 'counter' ? { ...read, name: read.name.replace(/_total$/, '') } : read
  }
  return { name: metric.name, get, reset: () => undefined } as unknown as PromMetric
}

import type { Attributes, Context, Link, SpanContext } from '@opentelemetry/api'
import type { Exchange } from '../core/audit/exchange.ts'
import { outcomeOf } from '../core/audit/record.ts'
import type { Redactor } from '../core/audit/redact.ts'
import type { Message } from '../core/mcp/message.ts'

/** Spans of exchanges that have ended, made from the same `Exchange` as audit line and metrics. */
export interface Traces {
  record(exchange: Exchange): void
  /** Sends what is left; waits at most `graceMs`. */
  close(graceMs: number): Promise<void>
}

/**
 * Spans over OTLP/HTTP, when `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) says where to; otherwise undefined,
 * and nothing of OpenTelemetry is loaded. The exporter itself reads the other `OTEL_EXPORTER_OTLP_*` variables.
 *
 * The parent of a span is what the message says in `_meta.traceparent`, else the HTTP header; when both are there the
 * header's span is linked. The upstream sees the caller's own context, as the bytes are passed on unchanged.
 *
 * @source W3C Trace Context §3.2; OpenTelemetry semantic conventions for MCP (gen-ai/mcp).
 */
export async function openTraces(
  env: Readonly<Record<string, string | undefined>>,
  about: TracesAbout,
): Promise<Traces | undefined> {
  if (!env.OTEL_EXPORTER_OTLP_ENDPOINT && !env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return undefined
  if (env.OTEL_SDK_DISABLED === 'true' || env.OTEL_TRACES_EXPORTER === 'none') return undefined
  const otel = await import('./late/opentelemetry.ts')
  const resource = otel.resourceFromAttributes(
    defined({
      'service.name': env.OTEL_SERVICE_NAME ?? 'mcp-sidecar',
      'service.version': about.version,
      'k8s.pod.name': about.pod.name,
      'k8s.namespace.name': about.pod.namespace,
      'k8s.node.name': about.pod.node,
    }),
  )
  const provider = new otel.BasicTracerProvider({
    resource,
    spanProcessors: [new otel.BatchSpanProcessor(new otel.OTLPTraceExporter())],
  })
  const tracer = provider.getTracer('mcp-sidecar', about.version)
  const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } = otel

  function parentOf(message: Message | undefined, exchange: Exchange): { parent: Context; links: Link[] } {
    const header = readTraceparent(exchange.traceparent)
    const inMessage = readTraceparent(message?.traceparent)
    const parent = inMessage ?? header
    return {
      parent: parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent),
      links:
        inMessage !== undefined && header !== undefined && header.spanId !== inMessage.spanId
          ? [{ context: header }]
          : [],
    }
  }

  function recordOne(exchange: Exchange, message: Message | undefined): void {
    const { parent, links } = parentOf(message, exchange)
    const at = (mono: number): number => exchange.startedAtMs + (mono - exchange.startedMono)
    const attributes = attributesOf(exchange, message, about.redactor())
    const startTime = exchange.startedAtMs
    const server = tracer.startSpan(
      spanName(exchange, message, about.redactor()),
      { kind: SpanKind.SERVER, startTime, attributes, links },
      parent,
    )
    const error = errorType(exchange)
    if (error !== undefined) server.setAttribute('error.type', error).setStatus({ code: SpanStatusCode.ERROR })
    const end = exchange.endedMono ?? exchange.startedMono
    if (exchange.upstreamStartedMono !== undefined) {
      const options = { kind: SpanKind.CLIENT, startTime: at(exchange.upstreamStartedMono), attributes }
      const client = tracer.startSpan(
        spanName(exchange, message, about.redactor()),
        options,
        trace.setSpan(parent, server),
      )
      if (error !== undefined) client.setAttribute('error.type', error).setStatus({ code: SpanStatusCode.ERROR })
      client.end(at(exchange.upstreamEndedMono ?? end))
    }
    server.end(at(end))
  }

  return {
    record(exchange) {
      if (exchange.messages.length === 0) return recordOne(exchange, undefined)
      for (const message of exchange.messages) recordOne(exchange, message)
    },
    async close(graceMs) {
      const deadline = new Promise<void>(resolve => setTimeout(resolve, graceMs).unref())
      // A collector that is gone is no reason to stop differently.
      await Promise.race([provider.shutdown().catch(() => undefined), deadline])
    },
  }
}

export interface TracesAbout {
  readonly version: string
  readonly pod: Readonly<Record<string, string | undefined>>
  /** The same rules as for audit lines hold for what callers name. */
  readonly redactor: () => Redactor
}

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/

/** @source W3C Trace Context §3.2.2: four lower-case hex fields; all-zero ids and version ff are invalid. */
export function readTraceparent(text: string | undefined): SpanContext | undefined {
  const match = text === undefined || text.length > 512 ? null : TRACEPARENT.exec(text)
  if (match === null) return undefined
  const [, traceId, spanId, flags] = match as unknown as [string, string, string, string]
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true }
}

/** Names come from callers: only methods that MCP has, and what policy let through, get into a span's name. */
function spanName(exchange: Exchange, message: Message | undefined, redactor: Redactor): string {
  if (message === undefined) return exchange.httpMethod
  const object = message.objects[0]
  const known = exchange.verdict?.effect === 'allow' && object !== undefined && object.kind !== 'resource'
  const name = known ? `${message.method} ${object.name}` : message.method || 'response'
  return String(redactor.value(name)).slice(0, 200)
}

function attributesOf(exchange: Exchange, message: Message | undefined, redactor: Redactor): Attributes {
  const object = (kind: 'tool' | 'prompt' | 'resource'): string | undefined =>
    message?.objects.find(candidate => candidate.kind === kind)?.name.slice(0, 256)
  const said = defined({
    'mcp.method.name': message?.method || undefined,
    'mcp.protocol.version': message?.version,
    'mcp.session.id': exchange.session,
    'gen_ai.tool.name': object('tool'),
    'gen_ai.prompt.name': object('prompt'),
    'gen_ai.operation.name': message?.method === 'tools/call' ? 'execute_tool' : undefined,
    'jsonrpc.request.id': message?.id === undefined ? undefined : String(message.id).slice(0, 128),
    'rpc.response.status_code': exchange.rpcError === undefined ? undefined : String(exchange.rpcError.code),
    'mcp_sidecar.request_id': exchange.requestId,
  })
  return {
    ...(redactor.value(said) as Attributes),
    ...defined({
      'network.transport': 'tcp',
      'network.protocol.name': 'http',
      'network.protocol.version': exchange.connection.httpVersion,
      'client.address': exchange.connection.remoteAddress,
      'http.request.method': exchange.httpMethod,
      'http.route': exchange.route,
      'http.response.status_code': exchange.status > 0 ? exchange.status : undefined,
      'mcp_sidecar.peer': exchange.peer?.name,
      'mcp_sidecar.outcome': outcomeOf(exchange),
      'mcp_sidecar.rule': exchange.verdict?.rule,
    }),
  }
}

function errorType(exchange: Exchange): string | undefined {
  switch (outcomeOf(exchange)) {
    case 'success':
      return undefined
    case 'tool_error':
      return 'tool_error'
    case 'refused':
      return exchange.refusal?.reason ?? 'refused'
    case 'aborted':
      return 'aborted'
    case 'error':
      return exchange.rpcError === undefined ? (exchange.refusal?.reason ?? 'error') : String(exchange.rpcError.code)
  }
}

function defined(attributes: Record<string, string | number | undefined>): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))
}

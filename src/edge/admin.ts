import { createServer, type Server } from 'node:http'
import type { SocketAddress } from '../config/config.ts'
import { listenOn } from './listen.ts'
import { json, type PlainAnswer, type PlainHandler, plainListener, text } from './plain-http.ts'

/** One thing that a probe looks at, in words for whoever reads the probe's answer at night. */
export interface Check {
  readonly name: string
  readonly ok: boolean
  /** Shown, but does not turn the probe. */
  readonly informational?: boolean
  readonly detail: string
}

export interface AdminHandlers {
  live(): readonly Check[]
  ready(): readonly Check[]
  started(): readonly Check[]
  /** The registry as text; `openMetrics` by content negotiation. */
  metrics(openMetrics: boolean): Promise<{ body: string; contentType: string }>
  /** The application's own probe, run against the upstream. Undefined when there is none of that name. */
  appHealth(container: string, probe: string): Promise<{ status: number; body: string } | undefined>
  /** One of the others has thrown, which is a fault of ours; who asked is told no more than that. */
  fault(error: Error): void
}

/** The plain HTTP plane for the kubelet and Prometheus: probes and metrics, GET only, no word about callers. */
export class AdminServer {
  readonly #address: SocketAddress
  readonly #setting: string
  readonly #server: Server

  /** @param setting  Where the address is configured. */
  constructor(address: SocketAddress, handlers: AdminHandlers, setting = 'admin.address') {
    this.#address = address
    this.#setting = setting
    const onFault = (error: Error): PlainAnswer => {
      handlers.fault(error)
      return text('internal fault, see the log\n', 500)
    }
    this.#server = createServer(plainListener(adminHandler(handlers), onFault))
  }

  /** @returns the port that is listened on. */
  start(): Promise<number> {
    return listenOn(this.#server, this.#address, this.#setting)
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

function adminHandler(handlers: AdminHandlers): PlainHandler {
  const probes = new Map<string, () => readonly Check[]>([
    ['/livez', handlers.live],
    ['/health', handlers.live],
    ['/readyz', handlers.ready],
    ['/ready', handlers.ready],
    ['/startupz', handlers.started],
  ])
  return ({ method, path, accept }) => {
    if (method !== 'GET') return text('GET only\n', 405, { Allow: 'GET' })
    const checks = probes.get(path)
    if (checks !== undefined) return probeAnswer(checks())
    if (path === '/metrics') return metricsAnswer(handlers, accept)
    const [container, probe] = appProbeOf(path) ?? []
    if (container !== undefined && probe !== undefined) return appHealthAnswer(handlers, container, probe)
    return text('not found\n', 404)
  }
}

function probeAnswer(found: readonly Check[]): PlainAnswer {
  const ok = found.every(check => check.ok || check.informational === true)
  const checks = Object.fromEntries(found.map(({ name, ok: good, detail }) => [name, { ok: good, detail }]))
  return json({ status: ok ? 'ok' : 'unavailable', checks }, ok ? 200 : 503, { 'Cache-Control': 'no-store' })
}

async function metricsAnswer(handlers: AdminHandlers, accept: string): Promise<PlainAnswer> {
  const { body, contentType } = await handlers.metrics(accept.includes('application/openmetrics-text'))
  return { status: 200, body, headers: { 'Content-Type': contentType } }
}

async function appHealthAnswer(handlers: AdminHandlers, container: string, probe: string): Promise<PlainAnswer> {
  const result = await handlers.appHealth(container, probe)
  return result === undefined ? text('no such probe\n', 404) : text(result.body, result.status)
}

/** `/app-health/<container>/<probe>`; the names are DNS labels and words of ours, so nothing in them is encoded. */
function appProbeOf(path: string): readonly [string, string] | undefined {
  const [root, plane, container, probe, more] = path.split('/', 5)
  if (root !== '' || plane !== 'app-health' || !container || !probe || more !== undefined) return undefined
  return [container, probe]
}

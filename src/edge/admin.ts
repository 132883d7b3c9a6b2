import type { AddressInfo } from 'node:net'
import { type ServerType, serve } from '@hono/node-server'
import { Hono } from 'hono'
import type { SocketAddress } from '../config/config.ts'

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
}

/** The plain HTTP plane for the kubelet and Prometheus: probes and metrics, GET only, no word about callers. */
export class AdminServer {
  readonly #address: SocketAddress
  readonly #app: Hono
  #server: ServerType | undefined

  constructor(address: SocketAddress, handlers: AdminHandlers) {
    this.#address = address
    this.#app = adminApp(handlers)
  }

  /** @returns the port that is listened on. */
  start(): Promise<number> {
    return new Promise((resolve, reject) => {
      const { host, port } = this.#address
      const server = serve({ fetch: this.#app.fetch, hostname: host, port }, info =>
        resolve((info as AddressInfo).port),
      )
      server.once('error', reject)
      this.#server = server
    })
  }

  stop(): void {
    this.#server?.close()
    if (this.#server !== undefined && 'closeAllConnections' in this.#server) this.#server.closeAllConnections()
  }
}

function adminApp(handlers: AdminHandlers): Hono {
  const app = new Hono()
  const probes: Record<string, () => readonly Check[]> = {
    '/livez': handlers.live,
    '/health': handlers.live,
    '/readyz': handlers.ready,
    '/ready': handlers.ready,
    '/startupz': handlers.started,
  }
  for (const [path, checks] of Object.entries(probes)) {
    app.get(path, context => {
      const found = checks()
      const ok = found.every(check => check.ok || check.informational === true)
      context.header('Cache-Control', 'no-store')
      return context.json(
        {
          status: ok ? 'ok' : 'unavailable',
          checks: Object.fromEntries(found.map(({ name, ok: good, detail }) => [name, { ok: good, detail }])),
        },
        ok ? 200 : 503,
      )
    })
  }
  app.get('/metrics', async context => {
    const { body, contentType } = await handlers.metrics(
      (context.req.header('accept') ?? '').includes('application/openmetrics-text'),
    )
    return context.body(body, 200, { 'Content-Type': contentType })
  })
  app.get('/app-health/:container/:probe', async context => {
    const { container, probe } = context.req.param()
    const result = await handlers.appHealth(container, probe)
    if (result === undefined) return context.text('no such probe\n', 404)
    return context.text(result.body, result.status as 200)
  })
  app.all('*', context =>
    context.req.method === 'GET' || context.req.method === 'HEAD'
      ? context.text('not found\n', 404)
      : context.text('GET only\n', 405, { Allow: 'GET' }),
  )
  app.onError((_error, context) => context.text('internal fault\n', 500))
  return app
}

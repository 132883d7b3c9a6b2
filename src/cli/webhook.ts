import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { readWebhookConfig, type WebhookConfig } from '../config/webhook-config.ts'
import { AdminServer, type Check } from '../edge/admin.ts'
import { ListenError } from '../edge/listen.ts'
import { createLog } from '../edge/log.ts'
import { WebhookMetrics, WebhookServer } from '../edge/webhook.ts'
import { WebhookCertificate } from '../edge/webhook-certificate.ts'
import { version } from '../version.ts'
import { CliError, type CliIo } from './io.ts'

/** `mcp-sidecar webhook --config FILE`: the injector as an admission webhook, until SIGTERM. */
export function registerWebhook(program: Command, io: CliIo): void {
  program
    .command('webhook')
    .description('serve the injector as an admission webhook (admission.k8s.io/v1, POST /inject over TLS)')
    .option('--config <file>', 'configuration of the webhook (or MCP_SIDECAR_CONFIG); all of it has defaults')
    .action(async ({ config }: { config?: string }) => {
      const file = config ?? io.env['MCP_SIDECAR_CONFIG']
      if (file === undefined) throw new CliError(2, 'webhook needs --config FILE or MCP_SIDECAR_CONFIG')
      await serveWebhook(await readConfig(resolve(io.cwd, file)), io).catch((error: unknown) => {
        throw error instanceof ListenError ? new CliError(1, error.message) : error
      })
    })
}

async function readConfig(path: string): Promise<WebhookConfig> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CliError(2, `cannot read ${path}: ${error.code ?? error.message}`)
  })
  const config = readWebhookConfig(text, version())
  if (!config.ok)
    throw new CliError(
      1,
      config.error.map(problem => `${path}: ${problem}`),
    )
  return config.value
}

async function serveWebhook(config: WebhookConfig, io: CliIo): Promise<void> {
  const log = createLog({ stream: io.stderr.stream })
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const metrics = new WebhookMetrics(registry)
  const certificate = new WebhookCertificate(config.tls, {
    loaded: pair => {
      metrics.reloaded('loaded')
      log.info({ notAfter: new Date(pair.notAfterMs).toISOString() }, 'the certificate is loaded')
    },
    kept: problems => {
      metrics.reloaded('kept')
      log.error({ problems }, 'the certificate files cannot be served with')
    },
  })
  const server = new WebhookServer({
    address: config.listen,
    admission: { inject: config.inject, excludedNamespaces: new Set(config.excludedNamespaces) },
    certificate: certificate.live,
    metrics,
    log: ({ result, object, reason }) => {
      const level = result === 'denied' || result === 'malformed' ? 'warn' : 'info'
      log[level]({ result, object, reason }, 'a review is answered')
    },
  })
  let isStopping = false
  const ready = (): Check[] => [
    ...certificateChecks(certificate.live.current().value?.notAfterMs),
    { name: 'stopping', ok: !isStopping, detail: isStopping ? 'on its way out' : 'serving' },
  ]
  const handlers = {
    live: () => [{ name: 'process', ok: true, detail: 'answers' }],
    ready,
    started: ready,
    metrics: async () => ({ body: await registry.metrics(), contentType: registry.contentType }),
    appHealth: () => Promise.resolve(undefined),
    fault: (error: Error) => log.error(error),
  }
  const admin = new AdminServer(config.admin, handlers, 'admin')
  const adminPort = await admin.start()
  await certificate.start()
  const port = await server.start()
  log.info({ port, adminPort, version: version() }, 'the webhook serves')
  const signal = await new Promise<string>(done => {
    io.onSignal('SIGTERM', () => done('SIGTERM'))
    io.onSignal('SIGINT', () => done('SIGINT'))
  })
  isStopping = true
  // The Service forgets this pod a moment after its readiness does; reviews arrive until then.
  if (signal === 'SIGTERM') await sleep(STOP_AFTER_MS)
  await server.stop()
  await certificate.stop()
  admin.stop()
  log.info({ signal }, 'the webhook has stopped')
  io.exit(0)
}

const STOP_AFTER_MS = 3_000

function certificateChecks(notAfterMs: number | undefined): Check[] {
  const isValid = notAfterMs !== undefined && notAfterMs > Date.now()
  const detail = notAfterMs === undefined ? 'not there yet' : `until ${new Date(notAfterMs).toISOString()}`
  return [{ name: 'certificate', ok: isValid, detail }]
}

import { createServer, type Server } from 'node:https'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { SocketAddress } from '../config/config.ts'
import type { JsonValue } from '../core/json.ts'
import { type AdmissionOptions, type AdmissionResult, answerReview } from '../core/manifest/admission.ts'
import type { Live } from '../live/live.ts'
import { listenOn } from './listen.ts'

/** Certificate and key that belong together, as PEM. */
export interface ServerPair {
  readonly cert: Buffer
  readonly key: Buffer
  readonly notAfterMs: number
}

export interface WebhookOptions {
  readonly address: SocketAddress
  readonly admission: AdmissionOptions
  /** Undefined until the files are there: connections are then closed in the handshake, and the API server's failurePolicy acts. */
  readonly certificate: Live<ServerPair | undefined>
  readonly metrics: WebhookMetrics
  /** One entry per review, for the operational log. */
  readonly log: (entry: WebhookLogEntry) => void
}

export interface WebhookLogEntry {
  readonly result: AdmissionResult | 'malformed'
  readonly object: string
  readonly reason: string
}

/** An API server sends at most 3 MiB of object, old and new, and little else. */
const MAX_BODY_BYTES = 8 * 1024 * 1024

/**
 * The admission webhook: `POST /inject`, `admission.k8s.io/v1` over TLS. A new certificate serves from the next
 * connection on; reviews under way are not disturbed. Whatever comes in, the answer is a review, or an HTTP error in
 * words, never a crash.
 */
export class WebhookServer {
  readonly #options: WebhookOptions
  readonly #server: Server
  #unfollow: (() => void) | undefined

  constructor(options: WebhookOptions) {
    this.#options = options
    const app = webhookApp(options)
    this.#server = createAdaptorServer({
      fetch: app.fetch,
      createServer,
      serverOptions: {
        minVersion: 'TLSv1.2',
        handshakeTimeout: 5_000,
        headersTimeout: 10_000,
        requestTimeout: 15_000,
        keepAliveTimeout: 60_000,
        maxHeaderSize: 16 * 1024,
      },
    }) as Server
    // Scanners and probes that break the handshake off are nobody's fault here.
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy())
  }

  /** @returns the port that is listened on. */
  start(): Promise<number> {
    const { certificate, address } = this.#options
    this.#use(certificate.current().value)
    this.#unfollow = certificate.follow(next => this.#use(next.value))
    return listenOn(this.#server, address, 'listen')
  }

  /** Finishes the reviews under way and closes. */
  stop(): Promise<void> {
    this.#unfollow?.()
    return new Promise(resolve => {
      this.#server.close(() => resolve())
      this.#server.closeIdleConnections()
    })
  }

  #use(pair: ServerPair | undefined): void {
    if (!pair) return
    this.#server.setSecureContext({ cert: pair.cert, key: pair.key, minVersion: 'TLSv1.2' })
    this.#options.metrics.certificateNotAfter(pair.notAfterMs)
  }
}

function webhookApp({ admission, metrics, log }: WebhookOptions): Hono {
  const app = new Hono()
  app.post('/inject', async context => {
    const started = performance.now()
    const refuse = (status: 400 | 413 | 415, reason: string) => {
      metrics.reviewed('malformed', performance.now() - started)
      log({ result: 'malformed', object: '', reason })
      return context.text(`${reason}\n`, status)
    }
    const type = (context.req.header('content-type') ?? '').split(';')[0]?.trim().toLowerCase()
    if (type !== 'application/json') return refuse(415, 'a review is application/json')
    const body = await readBody(context.req.raw.body, MAX_BODY_BYTES)
    if (body === undefined) return refuse(413, `a review has at most ${MAX_BODY_BYTES} bytes`)
    let review: JsonValue
    try {
      review = JSON.parse(body) as JsonValue
    } catch {
      return refuse(400, 'the body is not JSON')
    }
    const answer = answerReview(review, admission)
    if (!answer.ok) return refuse(400, answer.error)
    metrics.reviewed(answer.value.result, performance.now() - started)
    log(answer.value)
    return context.json(answer.value.review)
  })
  app.all('/inject', context => context.text('POST only\n', 405, { Allow: 'POST' }))
  app.notFound(context => context.text('not found\n', 404))
  // A bug in us: the API server sees a failed webhook, and its failurePolicy decides.
  app.onError((error, context) => {
    log({ result: 'malformed', object: '', reason: `internal fault: ${error.message}` })
    return context.text('internal fault\n', 500)
  })
  return app
}

async function readBody(stream: ReadableStream<Uint8Array> | null, limit: number): Promise<string | undefined> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of stream ?? []) {
    size += chunk.length
    if (size > limit) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Metrics of the webhook, on a registry of the caller's. */
export class WebhookMetrics {
  readonly #reviews: Counter
  readonly #duration: Histogram
  readonly #notAfter: Gauge
  readonly #reloads: Counter

  constructor(registry: Registry) {
    const registers = [registry]
    this.#reviews = new Counter({
      name: 'mcp_sidecar_webhook_reviews_total',
      help: 'Admission reviews by what became of the pod.',
      labelNames: ['result'],
      registers,
    })
    this.#duration = new Histogram({
      name: 'mcp_sidecar_webhook_review_duration_seconds',
      help: 'Time to answer one admission review.',
      buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2],
      registers,
    })
    this.#notAfter = new Gauge({
      name: 'mcp_sidecar_certificate_not_after_timestamp_seconds',
      help: 'End of the validity of the certificate in use.',
      labelNames: ['which'],
      registers,
    })
    this.#reloads = new Counter({
      name: 'mcp_sidecar_reloads_total',
      help: 'Reloads by what was read and how it went.',
      labelNames: ['what', 'result'],
      registers,
    })
    for (const result of ['injected', 'unchanged', 'denied', 'malformed']) this.#reviews.inc({ result }, 0)
    for (const result of ['loaded', 'kept']) this.#reloads.inc({ what: 'certificate', result }, 0)
  }

  reviewed(result: AdmissionResult | 'malformed', durationMs: number): void {
    this.#reviews.inc({ result })
    this.#duration.observe(durationMs / 1000)
  }

  certificateNotAfter(ms: number): void {
    this.#notAfter.set({ which: 'webhook' }, ms / 1000)
  }

  reloaded(result: 'loaded' | 'kept'): void {
    this.#reloads.inc({ what: 'certificate', result })
  }
}

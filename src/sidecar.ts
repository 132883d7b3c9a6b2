import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { performance } from 'node:perf_hooks'
import type { Writable } from 'node:stream'
import type { SecureContextOptions } from 'node:tls'
import type { Config } from './config/config.ts'
import { Chain, Counter } from './core/audit/chain.ts'
import { createRecorder, type Recorder } from './core/audit/record.ts'
import { compileHosts, type HostRules } from './core/identity/host-origin.ts'
import type { Refusal } from './core/refusal.ts'
import { readTrustBundle, type TrustBundle } from './core/trust/bundle.ts'
import { readClientCertificate } from './core/trust/certificate.ts'
import { secureContextOptions } from './core/trust/tls-options.ts'
import { Breaker } from './core/upstream/breaker.ts'
import { AdminServer, type Check } from './edge/admin.ts'
import { AuditSink } from './edge/audit-sink.ts'
import { type ReadSettings, readSettings } from './edge/config-source.ts'
import type { Connection } from './edge/connection.ts'
import { Listener } from './edge/listener.ts'
import { compileResourceMetadata } from './edge/metadata.ts'
import { Metrics } from './edge/metrics.ts'
import { ownersOf } from './edge/owners.ts'
import { Ownership, ownerOf } from './edge/ownership.ts'
import type { QuotaStore } from './edge/quota-store.ts'
import { openQuotaStore } from './edge/quota-store.ts'
import { JwtVerifier } from './edge/tokens.ts'
import { Http1Upstream } from './edge/upstream-http1.ts'
import { ExchangeBook } from './journey/exchange-book.ts'
import { OpenStreams } from './journey/open-streams.ts'
import { SessionCalls } from './journey/session-calls.ts'
import { serveCall } from './journey/serve-call.ts'
import { makeSteps } from './journey/steps.ts'
import { Live } from './live/live.ts'
import type { Settings } from './live/settings.ts'

export interface SidecarOptions {
  readonly configPath: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Audit lines, and nothing else. */
  readonly stdout: Writable
  readonly stderr: Writable
  readonly version: string
}

export interface Sidecar {
  /** Ports in use; they differ from the configured ones where those are 0. The mTLS port is undefined until there is a certificate. */
  readonly ports: { readonly mtls: number | undefined; readonly admin: number }
  /** Connections that are open now. */
  connections(): Iterable<Connection>
  /** Finishes what is in flight within the configured grace. @returns 0, or 1 when audit lines were lost. */
  stop(reason: string): Promise<0 | 1>
}

/** Builds the edges, hands them to the journey and starts both. Throws `StartError` with every problem of the configuration. */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const first = await readSettings(options.configPath, options.env)
  if (!first.ok) throw new StartError(first.error)
  return new Running(options, first.value).start()
}

/** The configuration cannot be used; one line for each problem. */
export class StartError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'StartError'
    this.problems = problems
  }
}

class Running implements Sidecar {
  readonly #options: SidecarOptions
  readonly #settings: Live<Settings>
  readonly #trust: Live<TrustBundle | undefined>
  readonly #sink: AuditSink
  readonly #metrics: Metrics
  readonly #upstream: Http1Upstream
  readonly #breaker: Breaker
  readonly #ownership = new Ownership()
  readonly #streams: OpenStreams
  readonly #sessionCalls = new SessionCalls()
  #hosts: HostRules
  #listener: Listener | undefined
  #admin: AdminServer | undefined
  #quota!: QuotaStore
  #verifier: JwtVerifier | undefined
  #state: 'starting' | 'serving' | 'lame-duck' | 'draining' | 'stopped' = 'starting'
  #mtlsPort: number | undefined
  #adminPort = 0
  #sweep: NodeJS.Timeout | undefined

  constructor(options: SidecarOptions, first: ReadSettings) {
    this.#options = options
    this.#settings = new Live(first.settings)
    this.#trust = new Live<TrustBundle | undefined>(undefined, 0)
    const { config } = first.settings
    this.#hosts = compileHosts(config.listen, { dns: [] }, config.identity.resource)
    this.#streams = new OpenStreams(
      call => ownerOf(call.caller),
      () => {
        const { limits } = this.#settings.current().value.config
        return { perCaller: limits.streamsPerUser, ageMs: limits.streamAgeMs }
      },
    )
    this.#breaker = new Breaker(config.upstream.breaker)
    this.#upstream = new Http1Upstream({
      target: config.upstream.target,
      connectMs: config.upstream.timeouts.connectMs,
      maxConnections: config.limits.connections * 4,
    })
    this.#sink = new AuditSink({
      stream: options.stdout,
      recorder: this.#recorder(first.settings),
      chain: config.audit.chain ? new Chain(randomUUID()) : new Counter(),
      onBlocked: config.audit.onBlocked,
      checkpointEvery: config.audit.checkpointEvery,
      now: Date.now,
      generation: () => this.#generations(),
    })
    this.#metrics = new Metrics({
      now: Date.now,
      policyTools: config.policy.rules.flatMap(rule => rule.tools ?? []),
      sources: {
        activeConnections: () => this.#listener?.connectionCount ?? 0,
        activeStreams: () => this.#streams.size,
        audit: () => this.#sink.stats(),
        tlsGroups: () => config.tls.groups,
        notAfter: () => notAfterOf(this.#trust.current().value),
        generations: () => this.#generations(),
        quotaStoreUp: () => this.#quota.status().up,
        upstreamUp: () => this.#breaker.state !== 'open',
        upstreamExposed: () => undefined,
        breaker: () => this.#breaker.state,
      },
    })
  }

  get ports(): Sidecar['ports'] {
    return { mtls: this.#mtlsPort, admin: this.#adminPort }
  }

  connections(): Iterable<Connection> {
    return this.#listener?.connections ?? []
  }

  async start(): Promise<Sidecar> {
    const { config } = this.#settings.current().value
    this.#quota = await openQuotaStore(config.quotaStore, config.quotas)
    this.#sink.start({ image: this.#options.env['MCP_SIDECAR_IMAGE'], node: process.versions.node })
    this.#admin = new AdminServer(config.admin.address, {
      live: () => [{ name: 'process', ok: true, detail: 'the event loop turns' }],
      ready: () => this.#readiness(),
      started: () => this.#readiness(),
      metrics: openMetrics => this.#metrics.render(openMetrics),
      appHealth: async () => undefined,
    })
    this.#adminPort = await this.#admin.start()
    await this.#loadTrust()
    this.#sweep = setInterval(() => this.#onSweep(), 250)
    return this
  }

  async stop(reason: string): Promise<0 | 1> {
    if (this.#state === 'stopped') return 0
    const { drain } = this.#settings.current().value.config
    this.#state = 'draining'
    this.#listener?.stopAccepting()
    const deadline = performance.now() + drain.graceMs
    for (const connection of this.#listener?.connections ?? []) connection.retire('draining', drain.graceMs)
    while ((this.#listener?.connectionCount ?? 0) > 0 && performance.now() < deadline) await sleep(20)
    this.#listener?.destroy()
    this.#upstream.destroy()
    clearInterval(this.#sweep)
    this.#verifier?.close()
    await this.#quota.close()
    const { lost } = await this.#sink.close(reason, Math.max(1000, deadline - performance.now()))
    this.#admin?.stop()
    this.#state = 'stopped'
    return lost === 0 ? 0 : 1
  }

  async #loadTrust(): Promise<void> {
    const { tls } = this.#settings.current().value.config
    const read = async (path: string | undefined): Promise<Buffer | undefined> =>
      path === undefined ? undefined : await readFile(path)
    const files = {
      cert: await readFile(tls.cert),
      key: await read(tls.key),
      clientCa: await readFile(tls.clientCa),
      crl: await read(tls.crl),
    }
    const bundle = readTrustBundle(files, tls, Date.now())
    if (!bundle.ok) throw new StartError(bundle.error.map(problem => JSON.stringify(problem)))
    this.#trust.publish(bundle.value)
    await this.#useTrust(bundle.value)
  }

  async #useTrust(bundle: TrustBundle): Promise<void> {
    const { config } = this.#settings.current().value
    this.#hosts = compileHosts(config.listen, { dns: bundle.leaf.names.dnsNames }, config.identity.resource)
    const context = secureContextOptions(bundle, config.tls)
    if (this.#listener !== undefined) return this.#listener.setSecureContext(context)
    const listener = this.#newListener(config, context)
    this.#mtlsPort = await listener.start()
    this.#listener = listener
    this.#state = 'serving'
  }

  #newListener(config: Config, secureContext: SecureContextOptions): Listener {
    const steps = makeSteps({
      settings: this.#settings,
      trustGeneration: () => this.#trust.current().generation,
      hosts: () => this.#hosts,
      verifier: () => this.#verifier,
      owners: ownersOf(this.#ownership, Date.now),
      quota: this.#quota,
      upstream: this.#upstream,
      breaker: this.#breaker,
      book: new ExchangeBook(this.#sink, { closed: exchange => this.#metrics.observe(exchange) }),
      streams: this.#streams,
      sessionCalls: this.#sessionCalls,
      metadata: () => compileResourceMetadata(this.#settings.current().value.config.identity),
      closedFor: () => this.#closedFor(),
      learnTools: names => this.#metrics.learnTools(names),
    })
    return new Listener({
      address: config.listen.address,
      limits: config.limits,
      deadlines: { handshakeMs: 10_000, headersMs: 10_000, bodyMs: 30_000, idleMs: 75_000 },
      secureContext,
      maxConnectionAgeMs: config.tls.maxConnectionAgeMs,
      readCertificate: readClientCertificate,
      events: {
        arrival: arrival => void serveCall(steps, arrival),
        malformed: () => {},
        connectionRefused: refused =>
          this.#sink.fact({
            event: 'connection.refused',
            reason: refused.reason,
            connection: {
              remoteAddress: refused.remoteAddress,
              certificate: refused.certificate,
              tls: refused.tls,
              httpVersion: '1.1',
            },
          }),
        connectionOpened: () => {},
        connectionClosed: connection => {
          if (connection.retiredFor === undefined) return
          this.#sink.fact({ event: 'connection.closed', reason: connection.retiredFor, connection: connection.facts })
        },
        handshake: (result, version) => this.#metrics.handshake(result === 'accepted' ? 'ok' : 'refused', version),
      },
    })
  }

  #closedFor(): Refusal | undefined {
    if (this.#state === 'draining') return { reason: 'draining', retryAfterMs: 1000 }
    return undefined
  }

  #readiness(): Check[] {
    const bundle = this.#trust.current().value
    return [
      { name: 'listener', ok: this.#state === 'serving', detail: this.#state },
      {
        name: 'certificate',
        ok: bundle !== undefined && bundle.notAfterMs > Date.now(),
        detail:
          bundle === undefined ? 'no certificate yet' : `valid until ${new Date(bundle.notAfterMs).toISOString()}`,
      },
      { name: 'audit', ok: this.#sink.state === 'open', detail: this.#sink.state },
      { name: 'quotas', ok: true, informational: true, detail: this.#quota.status().detail },
    ]
  }

  #recorder(settings: Settings): Recorder {
    const { env, version } = this.#options
    const pod = Object.fromEntries(
      [
        ['name', env['POD_NAME']],
        ['namespace', env['POD_NAMESPACE']],
        ['node', env['NODE_NAME']],
      ].filter(([, value]) => value !== undefined),
    )
    return createRecorder(settings.config.audit, {
      version,
      pod,
      policy: createHash('sha256').update(JSON.stringify(settings.config.policy)).digest('hex').slice(0, 16),
      digestKey: randomBytes(32),
    })
  }

  #generations(): { config: number; trust: number } {
    return { config: this.#settings.current().generation, trust: this.#trust.current().generation }
  }

  #onSweep(): void {
    this.#streams.sweep(performance.now(), Date.now())
    this.#sessionCalls.sweep(performance.now())
    this.#ownership.sweep(Date.now())
  }
}

function notAfterOf(bundle: TrustBundle | undefined): Record<string, number> {
  return bundle === undefined ? {} : { server: bundle.notAfterMs }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

import { createHash, randomUUID } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { Writable } from 'node:stream'
import type { SecureContextOptions } from 'node:tls'
import type { Config } from './config/config.ts'
import { Chain, Counter } from './core/audit/chain.ts'
import { createRecorder, type Recorder } from './core/audit/record.ts'
import { compileRedactor, type Redactor } from './core/audit/redact.ts'
import { compileHosts, type HostRules } from './core/identity/host-origin.ts'
import type { JsonValue } from './core/json.ts'
import { readAppProbes } from './core/manifest/app-probes.ts'
import type { Refusal } from './core/refusal.ts'
import { ok } from './core/result.ts'
import type { TrustBundle } from './core/trust/bundle.ts'
import { readClientCertificate } from './core/trust/certificate.ts'
import { judgeHandshake, verifiedIssuers } from './core/trust/standing.ts'
import { secureContextOptions } from './core/trust/tls-options.ts'
import { Breaker } from './core/upstream/breaker.ts'
import { AdminServer, type Check } from './edge/admin.ts'
import { AppHealth } from './edge/app-health.ts'
import { type AuditKeys, readAuditKeys } from './edge/audit-keys.ts'
import { AuditSink } from './edge/audit-sink.ts'
import { type ReadSettings, readSettings } from './edge/config-source.ts'
import type { Connection } from './edge/connection.ts'
import { ConnectionStanding } from './edge/connection-standing.ts'
import { descriptorBudget, openFileLimit } from './edge/descriptors.ts'
import { Drain } from './edge/drain.ts'
import { podAddresses } from './edge/exposure.ts'
import { ListenError } from './edge/listen.ts'
import { Listener, type ListenerDeadlines } from './edge/listener.ts'
import { createLog, type Log } from './edge/log.ts'
import { compileResourceMetadata, type ResourceMetadata } from './edge/metadata.ts'
import { Metrics } from './edge/metrics.ts'
import { OperationsServer, type ReloadOutcome } from './edge/operations.ts'
import { Overload, type OverloadOptions } from './edge/overload.ts'
import { ownersOf } from './edge/owners.ts'
import { Ownership, ownerOf } from './edge/ownership.ts'
import { openQuotaStore, type QuotaStore } from './edge/quota-store.ts'
import { isGood, readiness, type Standing, startupChecks } from './edge/readiness.ts'
import { type SettingsOutcome, SettingsSource } from './edge/settings-source.ts'
import { isSameJwt, JwtVerifier } from './edge/tokens.ts'
import { openTraces, type Traces } from './edge/traces.ts'
import { type TrustOutcome, TrustSource } from './edge/trust-source.ts'
import { Http1Upstream } from './edge/upstream-http1.ts'
import { UpstreamWatch } from './edge/upstream-watch.ts'
import { ExchangeBook } from './journey/exchange-book.ts'
import { peerOf } from './journey/identify.ts'
import { judgeStream } from './journey/judge-stream.ts'
import { Catalog, listChangedEvents } from './journey/list-changes.ts'
import { OpenStreams } from './journey/open-streams.ts'
import { serveCall } from './journey/serve-call.ts'
import { SessionCalls } from './journey/session-calls.ts'
import { makeSteps } from './journey/steps.ts'
import type { Settings } from './live/settings.ts'

export interface SidecarOptions {
  readonly configPath: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Audit lines, and nothing else. */
  readonly stdout: Writable
  /** The operational log. */
  readonly stderr: Writable
  readonly version: string
  /** Other than those of production, for tests. */
  readonly deadlines?: Partial<ListenerDeadlines>
  /** Likewise: by what overload is noticed. */
  readonly overload?: Pick<OverloadOptions, 'memoryShare' | 'watchesTimers'>
}

export interface Sidecar {
  /** Ports in use; they differ from the configured ones where those are 0. The mTLS port is undefined until there is a certificate. */
  readonly ports: { readonly mtls: number | undefined; readonly admin: number }
  /** Connections that are open now. */
  connections(): Iterable<Connection>
  /** Whether anybody has ever been connected. */
  hasHadPeers(): boolean
  /** Reads everything again that can be reloaded (SIGHUP, `POST /reload`). */
  reload(): Promise<readonly ReloadOutcome[]>
  /**
   * Lame duck: not ready any more, still serving; then nothing new is accepted, and what is in flight is finished within
   * the configured grace. The process stays: whoever restarts what ends would have it serve again.
   */
  drain(): Promise<void>
  /**
   * Drains, or goes on with a drain that is under way, and ends; called again, it waits for nothing more.
   *
   * @returns 0, or 1 when audit lines were lost.
   */
  stop(reason: string): Promise<0 | 1>
}

/** Builds the edges, hands them to the journey and starts both. Throws `StartError` with every problem of the configuration. */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const first = await readSettings(options.configPath, options.env)
  if (!first.ok) throw new StartError(first.error.problems)
  const { audit } = first.value.settings.config
  const keys = await readAuditKeys(audit)
  if (!keys.ok) throw new StartError([keys.error])
  const probes = readAppProbes(options.env['MCP_SIDECAR_APP_PROBES'])
  if (!probes.ok) throw new StartError([`MCP_SIDECAR_APP_PROBES: ${probes.error}`])
  return new Running(options, first.value, { ...keys.value, probes: probes.value }).start()
}

/** What sends the sidecar home before it has started; one line for each problem. */
export class StartError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'StartError'
    this.problems = problems
  }
}

/** What is read once, beside the configuration. */
interface Given extends AuditKeys {
  readonly probes: ConstructorParameters<typeof AppHealth>[0]['probes']
}

/** How long the parts of a connection's life may take, ms. Gateways keep idle connections for 60 s; ours last longer. */
const DEADLINES = {
  handshakeMs: 10_000,
  headersMs: 10_000,
  bodyMs: 30_000,
  readMs: 60_000,
  readBytesPerMs: 16,
  idleMs: 75_000,
}
const SWEEP_MS = 250
/** How long after it could not listen. */
const LISTEN_AGAIN_MS = 5000
/** However late it is, the last audit lines get this long to be taken. */
const LAST_LINES_MS = 1000

class Running implements Sidecar {
  readonly #options: SidecarOptions
  readonly #given: Given
  readonly #settings: SettingsSource
  readonly #trust: TrustSource
  readonly #log: Log
  readonly #sink: AuditSink
  readonly #metrics: Metrics
  readonly #upstream: Http1Upstream
  readonly #upstreamWatch: UpstreamWatch
  readonly #breaker: Breaker
  readonly #ownership = new Ownership()
  readonly #streams: OpenStreams
  readonly #sessionCalls = new SessionCalls()
  readonly #catalog = new Catalog()
  readonly #standing = new ConnectionStanding()
  readonly #overload: Overload
  readonly #drain: Drain
  readonly #room: ReturnType<typeof descriptorBudget>
  #redactor: Redactor
  #hosts: HostRules
  #metadata: ResourceMetadata | undefined
  #verifier: JwtVerifier | undefined
  #keys: Standing['keys']
  #listener: Listener | undefined
  #admin: AdminServer | undefined
  #operations: OperationsServer | undefined
  #quota!: QuotaStore
  #traces: Traces | undefined
  #listening: NodeJS.Timeout | undefined
  /** The start is over: what fails from now on is tried again. */
  #isUp = false
  #stopping: Promise<0 | 1> | undefined
  #mtlsPort: number | undefined
  #adminPort = 0
  #sweep: NodeJS.Timeout | undefined

  constructor(options: SidecarOptions, first: ReadSettings, given: Given) {
    this.#options = options
    this.#given = given
    this.#settings = new SettingsSource(first, {
      path: options.configPath,
      env: options.env,
      onOutcome: outcome => this.#onConfig(outcome),
    })
    const { config } = first.settings
    this.#redactor = compileRedactor(config.audit)
    this.#log = createLog({ stream: options.stderr, redactor: () => this.#redactor })
    this.#hosts = compileHosts(config.listen, { dns: [] }, config.identity.resource)
    this.#metadata = compileResourceMetadata(config.identity, scopesOf(config))
    this.#verifier = this.#newVerifier(config)
    this.#streams = new OpenStreams(
      call => ownerOf(call.caller),
      () => {
        const { limits } = this.#settings.live.current().value.config
        const inAll = this.#overload.refuses('stream') ? 0 : limits.connections * 2
        return { perCaller: limits.streamsPerUser, inAll, ageMs: limits.streamAgeMs }
      },
    )
    this.#room = descriptorBudget(config.limits.connections, openFileLimit())
    if (this.#room.connections < config.limits.connections) {
      this.#log.warn(`room for ${this.#room.connections} connections only: the limit of open files (ulimit -n) is low`)
    }
    this.#overload = new Overload({
      ...options.overload,
      onLevel: (level, why) => this.#log[level === 'normal' ? 'info' : 'warn'](`load is ${level}: ${why}`),
    })
    this.#breaker = new Breaker(config.upstream.breaker)
    this.#upstream = new Http1Upstream({
      target: config.upstream.target,
      connectMs: config.upstream.timeouts.connectMs,
      maxConnections: this.#room.upstream,
    })
    this.#upstreamWatch = new UpstreamWatch({
      target: config.upstream.target,
      podAddresses: podAddresses(options.env['POD_IPS']),
      onChange: up => {
        this.#log[up ? 'info' : 'warn'](`upstream ${config.upstream.url} ${up ? 'accepts' : 'refuses'} connections`)
        if (up) this.#breaker.reconsider()
        else this.#drain.upstreamIsGone()
      },
      onExposed: where => {
        const { url } = config.upstream
        if (where.length === 0) return this.#log.info(`upstream ${url} answers nobody but the sidecar any more`)
        const at = where.map(({ address, port }) => `${address} port ${port}`).join(', ')
        this.#log.warn(
          `upstream ${url} also answers on ${at}: who asks there goes around the sidecar; let it listen on loopback only`,
        )
      },
    })
    this.#drain = new Drain({
      settings: () => this.#settings.live.current().value.config.drain,
      listener: () => this.#listener,
      lookAtUpstream: () => this.#upstreamWatch.look(),
      say: line => this.#log.info(line),
    })
    this.#sink = new AuditSink({
      stream: options.stdout,
      recorder: this.#recorder(first.settings),
      chain: config.audit.chain ? new Chain(randomUUID()) : new Counter(),
      onBlocked: config.audit.onBlocked,
      signer: given.signer,
      checkpointEvery: config.audit.checkpointEvery,
      now: Date.now,
      generation: () => this.#generations(),
      onState: state => this.#log.warn(`audit lines: stdout is ${state}`),
    })
    this.#trust = new TrustSource({
      tls: config.tls,
      events: {
        outcome: outcome => this.#onTrust(outcome),
        missed: changed => this.#log.warn({ changed }, 'the poll has found a change that no file event announced'),
        watchFailed: (path, error) =>
          this.#log.warn({ path, error: error.message }, 'a directory cannot be watched; it is polled'),
      },
    })
    this.#metrics = new Metrics({
      now: Date.now,
      policyTools: toolsOf(config),
      sources: {
        activeConnections: () => this.#listener?.connectionCount ?? 0,
        activeStreams: () => this.#streams.size,
        audit: () => this.#sink.stats(),
        tlsGroups: () => this.#settings.live.current().value.config.tls.groups,
        notAfter: () => notAfterOf(this.#trust.live.current().value),
        generations: () => this.#generations(),
        quotaStoreUp: () => this.#quota.status().up,
        upstreamUp: () => this.#upstreamWatch.up !== false,
        upstreamExposed: () => this.#upstreamWatch.exposed,
        breaker: () => this.#breaker.state,
      },
    })
  }

  get ports(): Sidecar['ports'] {
    return { mtls: this.#mtlsPort, admin: this.#adminPort }
  }

  hasHadPeers(): boolean {
    return this.#listener?.hasHadPeers ?? false
  }

  connections(): Iterable<Connection> {
    return this.#listener?.connections ?? []
  }

  async start(): Promise<Sidecar> {
    try {
      await this.#start()
    } catch (error) {
      if (!(error instanceof ListenError)) throw error
      // The audit log has been begun, and gets its end.
      await this.stop('cannot listen')
      throw new StartError([error.message])
    }
    return this
  }

  async #start(): Promise<void> {
    const { config } = this.#settings.live.current().value
    const { env, version } = this.#options
    this.#quota = await openQuotaStore(config.quotaStore, config.quotas, { report: line => this.#log.warn(line) })
    this.#traces = await openTraces(env, { version, pod: podOf(env), redactor: () => this.#redactor })
    this.#sink.start({ image: env['MCP_SIDECAR_IMAGE'], node: process.versions.node })
    const operations = this.#startOperations(config)
    // Waited for in any case: what it has begun to put beside its socket has to be taken away again.
    await this.#startAdmin(config).finally(() => operations)
    this.#settings.live.follow((next, previous) => this.#onSettings(next.value, previous.value))
    const [{ result }] = await Promise.all([
      this.#trust.start(),
      this.#upstreamWatch.start(),
      this.#verifier?.warm().catch(() => false),
    ])
    if (result === 'loaded') await this.#listen()
    await this.#settings.start()
    this.#sweep = setInterval(() => this.#onSweep(), SWEEP_MS)
    this.#overload.start()
    this.#isUp = true
    // Certificates may have come meanwhile.
    this.#listenNowOrLater()
  }

  async reload(): Promise<readonly ReloadOutcome[]> {
    return Promise.all([
      this.#settings.reload().then(outcome => ({ what: 'config', ...outcome })),
      this.#trust.reload().then(outcomeOfTrust),
    ])
  }

  async drain(): Promise<void> {
    const isFirst = !this.#drain.isBegun
    await this.#drain.begin()
    if (!isFirst || this.#stopping !== undefined) return
    this.#log.info('drained: nothing is accepted any more; SIGTERM ends the process')
  }

  stop(reason: string): Promise<0 | 1> {
    if (this.#stopping !== undefined) {
      this.#log.warn(`${reason} again: what is still open is cut off`)
      this.#drain.hurry()
    }
    this.#stopping ??= this.#stop(reason)
    return this.#stopping
  }

  async #stop(reason: string): Promise<0 | 1> {
    // May show that a lame duck under way has lost its server meanwhile.
    void this.#upstreamWatch.look()
    await this.#drain.begin()
    this.#upstream.destroy()
    this.#sessionCalls.endAll()
    clearInterval(this.#sweep)
    clearTimeout(this.#listening)
    this.#overload.stop()
    this.#upstreamWatch.stop()
    this.#verifier?.close()
    await Promise.all([this.#settings.stop(), this.#trust.stop(), this.#quota.close(), this.#operations?.stop()])
    const leftMs = Math.max(LAST_LINES_MS, this.#drain.leftMs)
    const [{ lost }] = await Promise.all([this.#sink.close(reason, leftMs), this.#traces?.close(leftMs)])
    if (lost > 0) this.#log.error(`${lost} audit lines were not taken by stdout before the end`)
    this.#admin?.stop()
    this.#drain.stopped()
    return lost === 0 ? 0 : 1
  }

  async #startAdmin(config: Config): Promise<void> {
    const appHealth = new AppHealth({
      probes: this.#given.probes,
      target: config.upstream.target,
      isDraining: () => this.#drain.phase !== 'serving',
    })
    this.#admin = new AdminServer(config.admin.address, {
      live: () => [{ name: 'process', ok: true, detail: 'the event loop turns' }],
      ready: () => this.#readiness(),
      started: () => startupChecks(this.#readiness()),
      metrics: openMetrics => this.#metrics.render(openMetrics),
      appHealth: (container, probe) => appHealth.check(container, probe),
      fault: error => this.#log.error(error),
    })
    this.#adminPort = await this.#admin.start()
  }

  async #startOperations(config: Config): Promise<void> {
    const path = config.admin.operationsSocket
    if (path === undefined) return
    this.#operations = new OperationsServer(path, {
      drain: () => void this.drain(),
      reload: () => this.reload(),
      config: () => this.#settings.describe(),
      explainQuotas: async query => (await this.#quota.explain(query, performance.now())) as unknown as JsonValue,
      health: () => {
        const checks = this.#readiness()
        return { ok: checks.every(isGood), checks: checks as unknown as JsonValue }
      },
    })
    // A socket that cannot be made is no reason to serve nobody; who misses it reads why.
    await this.#operations.start().catch((error: Error) => {
      this.#operations = undefined
      this.#log.error(`operations socket ${path}: ${error.message}; drain, reload and explain are not available`)
    })
  }

  async #listen(): Promise<void> {
    const bundle = this.#trust.live.current().value
    if (bundle === undefined || this.#listener !== undefined || this.#drain.isBegun) return
    const { config } = this.#settings.live.current().value
    const listener = this.#newListener(config, secureContextOptions(bundle, config.tls))
    this.#listener = listener
    this.#mtlsPort = await listener.start().catch((error: Error) => {
      this.#listener = undefined
      throw error
    })
    this.#drain.serve()
    this.#log.info(`serving mTLS on ${config.listen.address.host}:${this.#mtlsPort} for ${config.upstream.url}`)
  }

  /** When certificates have come only after the start, which nobody waits for any more. */
  #listenNowOrLater(): void {
    this.#listen().catch((error: Error) => {
      this.#log.error(`${error.message}; tried again in ${LISTEN_AGAIN_MS / 1000} s`)
      clearTimeout(this.#listening)
      this.#listening = setTimeout(() => this.#listenNowOrLater(), LISTEN_AGAIN_MS).unref()
    })
  }

  #newListener(config: Config, secureContext: SecureContextOptions): Listener {
    const book = new ExchangeBook(this.#sink, {
      closed: exchange => {
        this.#metrics.observe(exchange)
        this.#traces?.record(exchange)
      },
    })
    const steps = makeSteps({
      settings: this.#settings.live,
      trustGeneration: () => this.#trust.live.current().generation,
      hosts: () => this.#hosts,
      verifier: () => this.#verifier,
      owners: ownersOf(this.#ownership, Date.now),
      quota: this.#quota,
      upstream: this.#upstream,
      breaker: this.#breaker,
      book,
      streams: this.#streams,
      sessionCalls: this.#sessionCalls,
      metadata: () => this.#metadata,
      closedFor: method => this.#closedFor(method),
      learn: (kind, name) => {
        this.#catalog.learn(kind, name)
        if (kind === 'tool') this.#metrics.learnTools([name])
      },
    })
    return new Listener({
      address: config.listen.address,
      limits: config.limits,
      deadlines: { ...DEADLINES, ...this.#options.deadlines },
      maxConnections: this.#room.connections,
      isFull: () => this.#overload.refuses('handshake'),
      secureContext,
      connectionAge: () => {
        const { tls, drain } = this.#settings.live.current().value.config
        return { maxMs: tls.maxConnectionAgeMs, graceMs: drain.graceMs }
      },
      readCertificate: (der, sent) => this.#readCertificate(der, sent),
      judge: certificate => {
        const bundle = this.#trust.live.current().value
        return bundle === undefined ? 'NO_TRUST' : judgeHandshake(certificate, bundle, Date.now())
      },
      events: {
        arrival: arrival => void serveCall(steps, arrival),
        malformed: (arrival, refusal) => steps.refuseUnread(arrival, refusal),
        connectionRefused: ({ reason, ...facts }) =>
          this.#sink.fact({ event: 'connection.refused', reason, connection: { ...facts, httpVersion: '1.1' } }),
        connectionOpened: connection => this.#standing.opened(connection),
        connectionClosed: connection => {
          if (connection.retiredFor === undefined || connection.retiredFor === 'draining') return
          this.#sink.fact({
            event: 'connection.closed',
            reason: connection.retiredFor,
            connection: connection.facts,
            ...(connection.peer?.peer === undefined ? {} : { peer: connection.peer.peer }),
          })
        },
        handshake: (result, version) => this.#metrics.handshake(result === 'accepted' ? 'ok' : 'refused', version),
      },
    })
  }

  /** With the chain as it was verified, not as the peer has sent it: others are shown it in headers. */
  #readCertificate(der: Buffer, sent: readonly Buffer[]): ReturnType<typeof readClientCertificate> {
    const read = readClientCertificate(der, sent)
    const bundle = this.#trust.live.current().value
    if (!read.ok || bundle === undefined) return read
    return ok({ ...read.value, chain: verifiedIssuers(read.value, bundle) ?? [] })
  }

  #onTrust(outcome: TrustOutcome & { result: 'loaded' | 'kept' }): void {
    this.#metrics.reload('trust', outcome.result)
    if (outcome.result === 'kept') {
      const why = outcome.problems.map(({ path, message }) => `${path} ${message}`)
      this.#log.error({ problems: why }, 'certificate files are not fit for use; what was in use stays')
      this.#sink.fact({ event: 'trust.kept', error: why.join('; ') })
      return
    }
    const { bundle, warnings } = outcome
    for (const { message } of warnings) this.#log.warn(message)
    this.#sink.fact({ event: 'trust.reloaded' })
    const { config } = this.#settings.live.current().value
    this.#hosts = compileHosts(config.listen, { dns: bundle.leaf.names.dnsNames }, config.identity.resource)
    if (this.#listener === undefined) return this.#isUp ? this.#listenNowOrLater() : undefined
    this.#listener.setSecureContext(secureContextOptions(bundle, config.tls))
    this.#standing.judgeByTrust(this.connections(), bundle, Date.now())
  }

  #onConfig({ result, problems, waiting }: SettingsOutcome): void {
    if (waiting.length > 0) this.#log.warn(`changes of ${waiting.join(', ')} take effect at the next start`)
    if (result === 'unchanged') return
    this.#metrics.reload('config', result)
    if (result === 'kept') {
      this.#log.error({ problems }, 'the configuration is not valid; what was in use stays')
      this.#sink.fact({ event: 'config.kept', error: problems.join('; ') })
    } else {
      this.#sink.fact({ event: 'config.reloaded' })
    }
  }

  /** Everything that follows the configuration; calls under way keep the generation that they were judged by. */
  #onSettings(next: Settings, previous: Settings): void {
    const { config } = next
    this.#redactor = compileRedactor(config.audit)
    this.#sink.use(this.#recorder(next), config.audit.onBlocked)
    this.#metadata = compileResourceMetadata(config.identity, scopesOf(config))
    const names = this.#trust.live.current().value?.leaf.names.dnsNames ?? []
    this.#hosts = compileHosts(config.listen, { dns: names }, config.identity.resource)
    this.#metrics.learnTools(toolsOf(config))
    this.#quota.reconfigure(config.quotas, performance.now())
    if (JSON.stringify(config.tls) !== JSON.stringify(previous.config.tls)) void this.#trust.reconfigure(config.tls)
    if (!isSameJwt(config.identity.jwt, previous.config.identity.jwt)) {
      this.#verifier?.close()
      this.#verifier = this.#newVerifier(config)
    }
    const settings = this.#settings.live.current()
    this.#standing.judgeByPeers(this.connections(), connection => peerOf(connection, settings) !== undefined)
    this.#streams.judgeAgain(
      call => judgeStream(call, next, Date.now()),
      call => listChangedEvents(call, previous, next, this.#catalog, Date.now()),
    )
  }

  #newVerifier(config: Config): JwtVerifier | undefined {
    const { jwt } = config.identity
    this.#keys = undefined
    if (jwt === undefined) return undefined
    return new JwtVerifier(jwt, {
      report: {
        loaded: keys => {
          this.#keys = { ok: true, detail: `${keys} keys to verify access tokens, from ${jwt.jwks}` }
          this.#log.info(this.#keys.detail)
        },
        kept: why => {
          const detail = `the keys at ${jwt.jwks} cannot be used (${why}); those in use stay as long as they may`
          this.#keys = { ok: false, detail }
          this.#log.warn(detail)
        },
      },
    })
  }

  #closedFor(method: string): Refusal | undefined {
    // A call that comes before its connection has been told to go is answered; a stream would only be cut.
    if (this.#drain.phase === 'draining' && method === 'GET') return { reason: 'draining', retryAfterMs: 1000 }
    return this.#overload.refuses('call') ? { reason: 'sidecar_overloaded', retryAfterMs: 1000 } : undefined
  }

  #readiness(): Check[] {
    const { up, exposed } = this.#upstreamWatch
    return readiness({
      state: this.#drain.phase,
      trust: this.#trust.status(),
      settings: this.#settings.last,
      audit: this.#sink.state,
      upstream: { url: this.#settings.live.current().value.config.upstream.url, up, exposed },
      breaker: this.#breaker.state,
      quotas: this.#quota.status(),
      keys: this.#keys,
    })
  }

  #recorder(settings: Settings): Recorder {
    const { env, version } = this.#options
    return createRecorder(
      settings.config.audit,
      {
        version,
        pod: podOf(env),
        policy: createHash('sha256').update(JSON.stringify(settings.config.policy)).digest('hex').slice(0, 16),
        digestKey: this.#given.digestKey,
      },
      this.#redactor,
    )
  }

  #generations(): { config: number; trust: number } {
    return { config: this.#settings.live.current().generation, trust: this.#trust.live.current().generation }
  }

  #onSweep(): void {
    const nowMono = performance.now()
    this.#standing.sweep(this.connections(), Date.now())
    this.#streams.sweep(nowMono, Date.now())
    this.#sessionCalls.sweep(nowMono)
    this.#ownership.sweep(Date.now())
  }
}

function podOf(env: SidecarOptions['env']): { name?: string; namespace?: string; node?: string } {
  const { POD_NAME: name, POD_NAMESPACE: namespace, NODE_NAME: node } = env
  return {
    ...(name === undefined ? {} : { name }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(node === undefined ? {} : { node }),
  }
}

function scopesOf(config: Config): string[] {
  return [...new Set(config.policy.rules.flatMap(rule => rule.when.scopes ?? []))]
}

function toolsOf(config: Config): string[] {
  return config.policy.rules.flatMap(rule => rule.tools ?? [])
}

function notAfterOf(bundle: TrustBundle | undefined): Record<string, number> {
  if (bundle === undefined) return {}
  const ends: Record<string, number> = { server: bundle.notAfterMs }
  const cas = bundle.authorities.map(({ facts }) => facts.notAfterMs)
  if (cas.length > 0) ends['client_ca'] = Math.min(...cas)
  const lists = bundle.lists.map(({ nextUpdateMs }) => nextUpdateMs)
  if (lists.length > 0) ends['crl'] = Math.min(...lists)
  return ends
}

function outcomeOfTrust(outcome: TrustOutcome): ReloadOutcome {
  const problems = outcome.result === 'kept' ? outcome.problems.map(({ path, message }) => `${path} ${message}`) : []
  return { what: 'trust', result: outcome.result, generation: outcome.generation, problems, waiting: [] }
}

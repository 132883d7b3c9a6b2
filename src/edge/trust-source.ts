import { createSecureContext } from 'node:tls'
import type { TlsConfig } from '../config/config.ts'
import { err, ok, type Result } from '../core/result.ts'
import { readTrustBundle, type TrustBundle } from '../core/trust/bundle.ts'
import type { TrustProblem, TrustSetting, TrustWarning } from '../core/trust/problem.ts'
import { secureContextOptions } from '../core/trust/tls-options.ts'
import { Live } from '../live/live.ts'
import type { FilesRead } from './files/read-generation.ts'
import {
  type FileWatch,
  type FollowUp,
  type LookCause,
  type WatchFilesOptions,
  watchFiles,
} from './files/watch-files.ts'
import { keepPeerChains } from './tls-repairs.ts'

/** What came of one reading of the files. */
export type TrustOutcome =
  /** A new bundle is in use. */
  | { result: 'loaded'; generation: number; cause: LookCause; bundle: TrustBundle; warnings: readonly TrustWarning[] }
  /** The files hold what is in use already. */
  | { result: 'unchanged'; generation: number; cause: LookCause }
  /** The files are not fit for use; what was in use stays, or nothing (generation 0). */
  | { result: 'kept'; generation: number; cause: LookCause; problems: readonly TrustProblem[] }

export interface TrustSourceEvents {
  /** Once for each new bundle, and once for each new set of problems, however often it is met again. */
  outcome(outcome: TrustOutcome & { result: 'loaded' | 'kept' }): void
  /** The poll has found a change that no event announced. */
  missed?(changed: readonly string[]): void
  watchFailed?(path: string, error: Error): void
}

export interface TrustSourceOptions {
  readonly tls: TlsConfig
  readonly events: TrustSourceEvents
  /** Wall clock, ms since the epoch. */
  readonly nowMs?: () => number
  readonly watch?: Pick<WatchFilesOptions, 'debounceMs' | 'pollMs' | 'openDirectory'>
}

/** How trust stands, for `/readyz` and the metrics. */
export interface TrustStatus {
  readonly generation: number
  /** There is a bundle, and it has not expired. */
  readonly isServing: boolean
  /** When the bundle in use was taken into use. */
  readonly loadedAtMs: number | undefined
  readonly notAfterMs: number | undefined
  /** What is wrong with the files now; empty when what is in use is what they hold. */
  readonly problems: readonly TrustProblem[]
  readonly warnings: readonly TrustWarning[]
}

/**
 * Follows the certificate, key, client CA and revocation list files, and publishes each good set of them as one value.
 * What is not good is reported and changes nothing. The files need not exist at the start; `live` holds undefined,
 * generation 0, until they do.
 */
export class TrustSource {
  readonly live = new Live<TrustBundle | undefined>(undefined, 0)
  readonly #events: TrustSourceEvents
  readonly #nowMs: () => number
  readonly #watchOptions: TrustSourceOptions['watch']
  #tls: TlsConfig
  #watch: FileWatch | undefined
  #loadedAtMs: number | undefined
  #problems: readonly TrustProblem[] = []
  #reported = ''
  #isReconfigured = false
  #last: TrustOutcome = { result: 'kept', generation: 0, cause: 'start', problems: [] }

  constructor(options: TrustSourceOptions) {
    this.#tls = options.tls
    this.#events = options.events
    this.#nowMs = options.nowMs ?? Date.now
    this.#watchOptions = options.watch
    // Whoever judges a certificate by what is followed here needs its intermediates.
    keepPeerChains()
  }

  /** Reads the files for the first time and begins to follow them. @returns what came of the first reading. */
  async start(): Promise<TrustOutcome> {
    const paths = [this.#tls.cert, this.#tls.key, this.#tls.clientCa, this.#tls.crl].filter(path => path !== undefined)
    const { missed, watchFailed } = this.#events
    this.#watch = await watchFiles({
      ...this.#watchOptions,
      paths: [...new Set(paths)],
      onChange: (files, cause) => this.#take(files, cause),
      ...(missed === undefined ? {} : { onMissed: missed.bind(this.#events) }),
      ...(watchFailed === undefined ? {} : { onWatchFailed: watchFailed.bind(this.#events) }),
    })
    return this.#last
  }

  /** Reads the files now (SIGHUP, `POST /reload`). @returns what came of it. */
  async reload(): Promise<TrustOutcome> {
    await this.#watch?.look()
    return this.#last
  }

  /** Follows other files, or the same ones by other options; the bundle in use stays until they are good. */
  async reconfigure(tls: TlsConfig): Promise<TrustOutcome> {
    await this.#watch?.stop()
    this.#tls = tls
    // Contexts are made of the bundle and of these options, so even the same files have to be taken into use anew.
    this.#isReconfigured = true
    return this.start()
  }

  status(): TrustStatus {
    const { generation, value: bundle } = this.live.current()
    return {
      generation,
      isServing: bundle !== undefined && bundle.notAfterMs >= this.#nowMs(),
      loadedAtMs: this.#loadedAtMs,
      notAfterMs: bundle?.notAfterMs,
      problems: this.#problems,
      warnings: bundle?.warnings ?? [],
    }
  }

  async stop(): Promise<void> {
    await this.#watch?.stop()
  }

  #take(files: FilesRead, cause: LookCause): FollowUp {
    const { generation, value: current } = this.live.current()
    const read = readTrustFiles(files, this.#tls, this.#nowMs())
    if (!read.ok) {
      this.#problems = read.error
      this.#last = { result: 'kept', generation, cause, problems: read.error }
      // Files that are written one after the other are wrong for a moment. What is still wrong at the second look is told.
      const isFirstLook = cause === 'event' || cause === 'poll'
      if (!isFirstLook) this.#report(this.#last)
      // Some of it passes without any file changing: a certificate that is not valid yet, an error of the file system.
      return 'retry'
    }
    this.#problems = []
    this.#reported = ''
    const bundle = read.value
    if (bundle.digest === current?.digest && !this.#isReconfigured) {
      this.#last = { result: 'unchanged', generation, cause }
      return 'settled'
    }
    this.#isReconfigured = false
    const published = this.live.publish(bundle)
    this.#loadedAtMs = this.#nowMs()
    const { warnings } = bundle
    this.#last = { result: 'loaded', generation: published.generation, cause, bundle, warnings }
    this.#events.outcome(this.#last)
    return 'settled'
  }

  #report(outcome: TrustOutcome & { result: 'kept' }): void {
    const told = outcome.problems.map(({ setting, code, message }) => `${setting} ${code} ${message}`).join('\n')
    if (told === this.#reported) return
    this.#reported = told
    this.#events.outcome(outcome)
  }
}

/**
 * Makes a bundle of files as they were read, and has OpenSSL accept it: what it refuses (keys that are too weak for it,
 * say) must show here, and not when the listener takes the bundle into use.
 */
export function readTrustFiles(files: FilesRead, tls: TlsConfig, nowMs: number): Result<TrustBundle, TrustProblem[]> {
  if (files.problems.length > 0) {
    return err(
      files.problems.map(({ path, code, message }) => ({ setting: settingOf(path, tls), path, code, message })),
    )
  }
  const content = (path: string): Buffer => files.contents.get(path) ?? Buffer.alloc(0)
  const bundle = readTrustBundle(
    {
      cert: content(tls.cert),
      key: tls.key === undefined ? undefined : content(tls.key),
      clientCa: content(tls.clientCa),
      crl: tls.crl === undefined ? undefined : content(tls.crl),
    },
    tls,
    nowMs,
  )
  if (!bundle.ok) return bundle
  try {
    createSecureContext(secureContextOptions(bundle.value, tls))
    return ok(bundle.value)
  } catch (error) {
    const message = `is refused by OpenSSL: ${(error as Error).message}`
    return err([{ setting: 'tls.cert', path: tls.cert, code: 'context_refused', message }])
  }
}

function settingOf(path: string, tls: TlsConfig): TrustSetting {
  if (path === tls.cert) return 'tls.cert'
  if (path === tls.key) return 'tls.key'
  return path === tls.clientCa ? 'tls.clientCa' : 'tls.crl'
}

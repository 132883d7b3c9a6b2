import { createSecureContext } from 'node:tls'
import type { TlsConfig } from '../config/config.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Findings } from '../core/trust/authorities.ts'
import { readOwnCertificate } from '../core/trust/own-certificate.ts'
import { Live } from '../live/live.ts'
import type { FilesRead } from './files/read-generation.ts'
import { type FileWatch, watchFiles } from './files/watch-files.ts'
import type { ServerPair } from './webhook.ts'

export interface CertificateEvents {
  loaded(pair: ServerPair): void
  /** What is there cannot be served with; the certificate before it, if any, stays. */
  kept(problems: readonly string[]): void
}

/**
 * The webhook's own certificate, followed as cert-manager and the kubelet rewrite it by the same watcher and the same
 * checks as the sidecar's. Starts without files: nothing is served until they are there.
 */
export class WebhookCertificate {
  readonly live = new Live<ServerPair | undefined>(undefined, 0)
  readonly #files: { readonly cert: string; readonly key: string }
  readonly #events: CertificateEvents
  readonly #nowMs: () => number
  #watch: FileWatch | undefined
  #reported = ''

  constructor(files: { cert: string; key: string }, events: CertificateEvents, nowMs: () => number = Date.now) {
    this.#files = files
    this.#events = events
    this.#nowMs = nowMs
  }

  async start(watch: { debounceMs?: number; pollMs?: number } = {}): Promise<void> {
    const { cert, key } = this.#files
    this.#watch = await watchFiles({ ...watch, paths: [...new Set([cert, key])], onChange: files => this.#take(files) })
  }

  async stop(): Promise<void> {
    await this.#watch?.stop()
  }

  #take(files: FilesRead): 'retry' | 'settled' {
    const read = readServerPair(files, this.#files, this.#nowMs())
    if (!read.ok) {
      const told = read.error.join('\n')
      if (told !== this.#reported) this.#events.kept(read.error)
      this.#reported = told
      return 'retry'
    }
    this.#reported = ''
    const current = this.live.current().value
    if (current?.cert.equals(read.value.cert) && current.key.equals(read.value.key)) return 'settled'
    this.live.publish(read.value)
    this.#events.loaded(read.value)
    return 'settled'
  }
}

function readServerPair(
  files: FilesRead,
  paths: { readonly cert: string; readonly key: string },
  nowMs: number,
): Result<ServerPair, readonly string[]> {
  if (files.problems.length > 0) return err(files.problems.map(({ path, message }) => `${path} ${message}`))
  const findings: Findings = { problems: [], warnings: [] }
  const [cert, key] = [paths.cert, paths.key].map(path => files.contents.get(path) ?? Buffer.alloc(0)) as [
    Buffer,
    Buffer,
  ]
  const own = readOwnCertificate({ cert, key }, paths as TlsConfig, [], nowMs, findings)
  // An API server is told by its caBundle what to trust, which may well be this very certificate.
  const problems = findings.problems.filter(({ code }) => code !== 'certificate_self_signed')
  if (!own || problems.length > 0) return err(problems.map(({ path, message }) => `${path} ${message}`))
  const pair = { cert: Buffer.from(own.certPem), key: Buffer.from(own.keyPem), notAfterMs: own.leaf.notAfterMs }
  try {
    createSecureContext({ cert: pair.cert, key: pair.key })
  } catch (error) {
    return err([`${paths.cert} is refused by OpenSSL: ${(error as Error).message}`])
  }
  return ok(pair)
}

import type { Writable } from 'node:stream'
import type { Redactor } from '../core/audit/redact.ts'

/** Writes one line: `log.warn('what is the matter')`, `log.warn({ path }, 'what is the matter with it')`. */
export interface LogMethod {
  (message: string | Error): void
  (fields: Readonly<Record<string, unknown>>, message: string): void
}

/** The operational log: JSON on stderr, for whoever runs the sidecar. It never blocks anything: it drops, and counts. */
export interface Log {
  readonly info: LogMethod
  readonly warn: LogMethod
  readonly error: LogMethod
  /** Lines that stderr did not take, since the beginning. */
  droppedLines(): number
}

export interface LogOptions {
  /** `process.stderr`. */
  readonly stream: Writable
  /** What callers wrote gets into error messages as well; the same rules as for audit lines hold. */
  readonly redactor?: () => Redactor
}

export function createLog({ stream, redactor }: LogOptions): Log {
  const destination = new DroppingDestination(stream)
  const clean = (value: unknown): unknown => (redactor === undefined ? value : redactor().value(value))
  const at =
    (level: string): LogMethod =>
    (about: string | Error | Readonly<Record<string, unknown>>, message?: string) => {
      const isFields = typeof about === 'object' && !(about instanceof Error)
      const fields = isFields ? (clean(about) as object) : {}
      const said = clean(isFields ? message : about instanceof Error ? about.message : about)
      destination.write(`${JSON.stringify({ level, timestamp: new Date().toISOString(), ...fields, message: said })}\n`)
    }
  return {
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    droppedLines: () => destination.dropped,
  }
}

const MAX_WAITING_BYTES = 64 * 1024

class DroppingDestination {
  readonly #stream: Writable
  #broken = false
  #untold = 0
  dropped = 0

  constructor(stream: Writable) {
    this.#stream = stream
    // A stderr that nobody reads must not take the process.
    stream.on('error', () => {
      this.#broken = true
    })
  }

  write(line: string): void {
    if (this.#broken || this.#stream.writableLength > MAX_WAITING_BYTES) {
      this.dropped += 1
      this.#untold += 1
      return
    }
    if (this.#untold > 0) {
      const told = { level: 'warn', timestamp: new Date().toISOString(), dropped: this.#untold }
      this.#untold = 0
      this.#stream.write(`${JSON.stringify({ ...told, message: 'stderr did not take lines fast enough' })}\n`)
    }
    this.#stream.write(line)
  }
}

import type { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import type { Redactor } from '../core/audit/redact.ts'

/** The operational log: JSON on stderr, for whoever runs the sidecar. It never blocks anything: it drops, and counts. */
export interface Log extends Logger {
  /** Lines that stderr did not take, since the beginning. */
  droppedLines(): number
}

export interface LogOptions {
  /** `process.stderr`. */
  readonly stream: Writable
  readonly level?: 'debug' | 'info' | 'warn' | 'error'
  /** What callers wrote gets into error messages as well; the same rules as for audit lines hold. */
  readonly redactor?: () => Redactor
}

export function createLog({ stream, level = 'info', redactor }: LogOptions): Log {
  const destination = new DroppingDestination(stream)
  const log = pino(
    {
      level,
      base: null,
      serializers: { err: error => error },
      messageKey: 'message',
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      formatters: {
        level: label => ({ level: label }),
        log: fields => (redactor === undefined ? fields : (redactor().value(fields) as Record<string, unknown>)),
      },
      hooks: {
        logMethod(args, method) {
          const [first, ...rest] = args as [unknown, ...unknown[]]
          const clean = (value: unknown): unknown => (redactor === undefined ? value : redactor().value(value))
          // The fields are cleaned above; messages, and an error that is the only argument, are cleaned here.
          method.apply(this, [
            first instanceof Error || typeof first === 'string' ? clean(first) : first,
            ...rest.map(clean),
          ] as never)
        },
      },
    },
    destination,
  )
  return Object.assign(log, { droppedLines: () => destination.dropped })
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

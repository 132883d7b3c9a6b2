import type { Writable } from 'node:stream'

/**
 * All that a command may touch of the process around it; `src/main.ts` makes the real one, tests make their own.
 *
 * A command lives in `src/cli/<name>.ts` and exports `register<Name>(program: Command, io: CliIo): void`, which adds
 * itself to commander's program. Its action does its work, writes to `io.stdout`, says how it went with `io.exit(code)`
 * and returns; nothing but `main.ts` ends the process. Arguments that cannot be used are thrown as a `CliError` (2),
 * things that were checked and are wrong as one with code 1; `program.ts` prints them as one readable line.
 */
export interface CliIo {
  readonly stdout: CliOutput
  readonly stderr: CliOutput
  /** Everything on standard input, as UTF-8. */
  stdin(): Promise<string>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths are resolved against. */
  readonly cwd: string
  /** Sets the exit code (0 done, 1 the thing checked is wrong, 2 unusable arguments); it does not end anything. */
  exit(code: ExitCode): void
  /** Calls `handler` on each such signal instead of the default action; the returned function ends that. */
  onSignal(signal: CliSignal, handler: () => void): () => void
  /** How to start this very program as a child: the runtime, then what comes before our own arguments. */
  readonly self: readonly [string, ...string[]]
}

export type ExitCode = 0 | 1 | 2
export type CliSignal = 'SIGTERM' | 'SIGINT' | 'SIGHUP'

export interface CliOutput {
  write(text: string): void
  readonly isTTY: boolean
  /** Columns of the terminal, 80 when it is none. */
  readonly columns: number
  /** The stream below, for those that need to know when the kernel has the bytes (audit lines, the operational log). */
  readonly stream: Writable
}

/** Something the user has to put right; printed as `mcp-sidecar: <message>` on stderr, one line each. */
export class CliError extends Error {
  readonly exitCode: ExitCode
  readonly lines: readonly string[]

  constructor(exitCode: 1 | 2, message: string | readonly string[]) {
    const lines = typeof message === 'string' ? [message] : message
    super(lines.join('\n'))
    this.name = 'CliError'
    this.exitCode = exitCode
    this.lines = lines
  }
}

/** By its name, for in the bundle a command has a class of its own (`scripts/build.ts`). */
export function isCliError(error: unknown): error is CliError {
  return error instanceof Error && error.name === 'CliError'
}

/** Writes one line to stderr, in the form of all messages of this program. Line breaks and controls are made visible. */
export function complain(io: Pick<CliIo, 'stderr'>, line: string): void {
  io.stderr.write(`mcp-sidecar: ${oneLine(line)}\n`)
}

/** The same text without anything that would begin a new line or steer a terminal. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim()
}

/** ANSI styles, or no styles at all when the output is piped or `NO_COLOR` is set (https://no-color.org). */
export function styles(output: Pick<CliOutput, 'isTTY'>, env: CliIo['env']): Styles {
  const on = env['FORCE_COLOR']
    ? env['FORCE_COLOR'] !== '0'
    : output.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  const style = (open: number, close: number) => (text: string) =>
    on ? `\u001b[${open}m${text}\u001b[${close}m` : text
  return {
    bold: style(1, 22),
    dim: style(2, 22),
    red: style(31, 39),
    green: style(32, 39),
    yellow: style(33, 39),
    cyan: style(36, 39),
  }
}

export type Styles = Record<'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan', (text: string) => string>

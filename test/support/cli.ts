import { Writable } from 'node:stream'
import type { CliIo, CliOutput, CliSignal, ExitCode } from '../../src/cli/io.ts'
import { runProgram } from '../../src/cli/program.ts'

export interface CliRun {
  readonly code: ExitCode
  readonly stdout: string
  readonly stderr: string
}

/** Runs the program inside this process, as a shell would: arguments in, texts and exit code out. */
export async function cli(argv: readonly string[], options: Partial<CliOptions> = {}): Promise<CliRun> {
  const io = testIo(options)
  const code = await runProgram(argv, io)
  return { code, stdout: io.texts.stdout(), stderr: io.texts.stderr() }
}

export interface CliOptions {
  env: Record<string, string | undefined>
  cwd: string
  stdin: string
}

export type TestIo = CliIo & {
  readonly texts: { stdout(): string; stderr(): string }
  /** Calls the handlers of a signal, as the kernel would. */
  signal(signal: CliSignal): void
}

export function testIo(options: Partial<CliOptions> = {}): TestIo {
  const [stdout, stderr] = [collector(), collector()]
  const handlers = new Map<CliSignal, Set<() => void>>()
  return {
    stdout: stdout.output,
    stderr: stderr.output,
    stdin: async () => options.stdin ?? '',
    env: options.env ?? {},
    cwd: options.cwd ?? process.cwd(),
    exit: () => undefined,
    onSignal: (signal, handler) => {
      const set = handlers.get(signal) ?? new Set()
      handlers.set(signal, set.add(handler))
      return () => set.delete(handler)
    },
    self: [process.execPath, 'src/main.ts'],
    texts: { stdout: stdout.text, stderr: stderr.text },
    signal: signal => {
      for (const handler of handlers.get(signal) ?? []) handler()
    },
  }
}

function collector(): { output: CliOutput; text: () => string } {
  const chunks: string[] = []
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk.toString('utf8'))
      done()
    },
  })
  const write = (text: string) => void chunks.push(text)
  return { output: { write, isTTY: false, columns: 80, stream }, text: () => chunks.join('') }
}

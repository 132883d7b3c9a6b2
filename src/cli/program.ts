import { Command, CommanderError } from 'commander'
import { version } from '../version.ts'
import { type CliIo, complain, type ExitCode, isCliError } from './io.ts'

type Register = (program: Command, io: CliIo) => void

/**
 * Runs one command and says how it ended. Nothing is thrown for what a user did wrong; a bug in us throws.
 *
 * @param argv  Arguments without the runtime and the script: `['run', '--config', 'sidecar.yaml']`.
 * @returns     0 done, 1 the thing checked is wrong, 2 unusable arguments.
 */
export async function runProgram(argv: readonly string[], io: CliIo): Promise<ExitCode> {
  let code: ExitCode = 0
  const exit = (next: ExitCode) => {
    code = next
    io.exit(next)
  }
  const program = newProgram({ ...io, exit })
  for (const register of await commandsFor(argv)) register(program, { ...io, exit })
  // Commander copies these two only to commands that are added after they were set, and only by `command()`.
  for (const command of everyCommand(program)) {
    command.exitOverride().configureOutput(program.configureOutput()).helpCommand(false)
    command.helpOption('-h, --help', 'print this help')
  }
  try {
    if (argv.length === 0) program.help({ error: true })
    await program.parseAsync(argv, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      exit(error.exitCode === 0 ? 0 : 2)
    } else if (isCliError(error)) {
      for (const line of error.lines) complain(io, line)
      exit(error.exitCode)
    } else {
      throw error
    }
  }
  return code
}

interface CommandModule {
  /** The commands in it, as they are called. */
  readonly names: readonly string[]
  readonly load: () => Promise<Register>
}

/**
 * Each command is in a module that is loaded only when it is asked for: `run` starts without the demo, the webhook and
 * the manifest injector. The order here is the order of the help.
 */
const MODULES: readonly CommandModule[] = [
  { names: ['run'], load: async () => (await import('./run.ts')).registerRun },
  { names: ['check'], load: async () => (await import('./check.ts')).registerCheck },
  { names: ['demo'], load: async () => (await import('./demo.ts')).registerDemo },
  { names: ['pki'], load: async () => (await import('./pki.ts')).registerPki },
  { names: ['inject', 'uninject'], load: async () => (await import('./inject.ts')).registerInject },
  { names: ['webhook'], load: async () => (await import('./webhook.ts')).registerWebhook },
  { names: ['policy'], load: async () => (await import('./policy.ts')).registerPolicy },
  { names: ['audit'], load: async () => (await import('./audit.ts')).registerAudit },
  { names: ['drain', 'reload', 'health'], load: async () => (await import('./ops.ts')).registerOps },
  { names: ['quotas'], load: async () => (await import('./quotas.ts')).registerQuotas },
  { names: ['schema'], load: async () => (await import('./schema.ts')).registerSchema },
]

async function commandsFor(argv: readonly string[]): Promise<Register[]> {
  if (argv[0] === '-V' || argv[0] === '--version') return []
  const named = MODULES.find(({ names }) => names.includes(argv[0] ?? ''))
  return Promise.all((named ? [named] : MODULES).map(({ load }) => load()))
}

function newProgram(io: CliIo): Command {
  return new Command('mcp-sidecar')
    .description(
      'The last hop in front of an MCP server: mTLS in, identity, policy, quota and audit, over loopback out.',
    )
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .showSuggestionAfterError()
    .exitOverride()
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: text => io.stdout.write(text),
      writeErr: text => io.stderr.write(text),
      getOutHelpWidth: () => io.stdout.columns,
      getErrHelpWidth: () => io.stderr.columns,
      getOutHasColors: () => io.stdout.isTTY,
      getErrHasColors: () => io.stderr.isTTY,
      // One line each, in the form of all our messages; the hint of a similar name stays on it.
      outputError: text => complain(io, text.replace(/^error: /, '')),
    })
}

function* everyCommand(command: Command): Generator<Command> {
  yield command
  for (const child of command.commands) yield* everyCommand(child)
}

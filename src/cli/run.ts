import type { Command } from 'commander'
import { type Sidecar, StartError, startSidecar } from '../sidecar.ts'
import { version } from '../version.ts'
import { addConfigOption, type ConfigFlags, configPath } from './config-file.ts'
import { CliError, type CliIo } from './io.ts'

/** `mcp-sidecar run --config FILE`: serves until SIGTERM or SIGINT, and then finishes what is in flight. */
export function registerRun(program: Command, io: CliIo): void {
  addConfigOption(program.command('run'))
    .description('run the sidecar')
    .action(async (flags: ConfigFlags) => {
      const sidecar = await start(configPath(flags, io), io)
      await new Promise<void>(done => {
        const stop = (signal: string) => async () => {
          io.exit(await sidecar.stop(signal))
          done()
        }
        io.onSignal('SIGHUP', () => void sidecar.reload())
        io.onSignal('SIGTERM', stop('SIGTERM'))
        io.onSignal('SIGINT', stop('SIGINT'))
      })
    })
}

async function start(configPath: string, io: CliIo): Promise<Sidecar> {
  try {
    return await startSidecar({
      configPath,
      env: io.env,
      stdout: io.stdout.stream,
      stderr: io.stderr.stream,
      version: version(),
    })
  } catch (error) {
    if (error instanceof StartError) throw new CliError(1, error.problems)
    throw error
  }
}

import { resolve } from 'node:path'
import type { Command } from 'commander'
import { type Sidecar, StartError, startSidecar } from '../sidecar.ts'
import { version } from '../version.ts'
import { CliError, type CliIo } from './io.ts'

/** `mcp-sidecar run --config FILE`: serves until SIGTERM or SIGINT, and then finishes what is in flight. */
export function registerRun(program: Command, io: CliIo): void {
  program
    .command('run')
    .description('run the sidecar')
    .option('--config <file>', 'configuration file (or MCP_SIDECAR_CONFIG)')
    .action(async ({ config }: { config?: string }) => {
      const file = config ?? io.env['MCP_SIDECAR_CONFIG']
      if (file === undefined) throw new CliError(2, 'run needs --config FILE or MCP_SIDECAR_CONFIG')
      const sidecar = await start(resolve(io.cwd, file), io)
      await new Promise<void>(done => {
        const stop = (signal: string) => async () => {
          io.exit(await sidecar.stop(signal))
          done()
        }
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

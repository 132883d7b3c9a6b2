import type { Command } from 'commander'
import { optimizeSoon, settleHeap, tuneHeap } from '../edge/heap.ts'
import { type Sidecar, StartError, startSidecar } from '../sidecar.ts'
import { version } from '../version.ts'
import { addConfigOption, type ConfigFlags, configPath } from './config-file.ts'
import { CliError, type CliIo } from './io.ts'

/**
 * `mcp-sidecar run --config FILE`: serves until SIGTERM or SIGINT, and then finishes what is in flight; a second signal
 * cuts that short. A signal that comes before everything is up counts as well: as process 1 of a container it would else
 * be ignored, and without a closing line the audit log would look cut off.
 */
export function registerRun(program: Command, io: CliIo): void {
  addConfigOption(program.command('run'))
    .description('run the sidecar')
    .action(async (flags: ConfigFlags) => {
      tuneHeap()
      let sidecar: Sidecar | undefined
      let early: string | undefined
      let settling: NodeJS.Timeout | undefined
      const ended = Promise.withResolvers<void>()
      const end = (code: 0 | 1): void => {
        io.exit(code)
        ended.resolve()
      }
      const stop = (signal: string) => () => {
        if (sidecar !== undefined) void sidecar.stop(signal).then(end)
        else if (early === undefined) early = signal
        else end(1)
      }
      const handlers = [
        io.onSignal('SIGTERM', stop('SIGTERM')),
        io.onSignal('SIGINT', stop('SIGINT')),
        io.onSignal('SIGHUP', () => void sidecar?.reload()),
      ]
      try {
        sidecar = await Promise.race([start(configPath(flags, io), io), ended.promise.then(() => undefined)])
        optimizeSoon()
        if (early !== undefined && sidecar !== undefined) stop(early)()
        else if (sidecar !== undefined) settling = settleIfUntouched(sidecar)
        await ended.promise
      } finally {
        clearTimeout(settling)
        for (const remove of handlers) remove()
      }
    })
}

/**
 * Once, a second after readiness was told, and not when anybody has been there by then: a full collection stops everything
 * for some 50 ms, and throws away what has been compiled for the calls so far.
 */
function settleIfUntouched(sidecar: Sidecar): NodeJS.Timeout {
  const timer = setTimeout(() => {
    if (!sidecar.hasHadPeers()) settleHeap()
  }, 1000)
  return timer.unref()
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

import type { Command } from 'commander'
import type { JsonObject } from '../core/json.ts'
import type { ReloadOutcome } from '../edge/operations.ts'
import { type CliIo, complain } from './io.ts'
import { addSocketOptions, askOperations, callOperations, type SocketFlags, socketPath } from './operations-client.ts'

/** `mcp-sidecar drain`, `reload` and `health`: said to the running sidecar over its operations socket. */
export function registerOps(program: Command, io: CliIo): void {
  addSocketOptions(program.command('drain'))
    .description('let the running sidecar finish what is under way and take nothing new; SIGTERM ends the process')
    .action(async (flags: SocketFlags) => {
      await callOperations(flags, io, 'POST', '/drain')
      io.stdout.write(
        'draining: not ready now; after the lame-duck time nothing new is accepted, and calls under way\n',
      )
      io.stdout.write('have the grace to end; the process waits for SIGTERM\n')
    })

  addSocketOptions(program.command('reload'))
    .description(
      'let the running sidecar read its configuration and certificates again; exit 1 when something was kept',
    )
    .action(async (flags: SocketFlags) => {
      const answer = (await callOperations(flags, io, 'POST', '/reload')) as unknown as { outcomes: ReloadOutcome[] }
      for (const { what, result, generation, problems, waiting } of answer.outcomes) {
        io.stdout.write(`${what}: ${WORDS[result]}, generation ${generation}\n`)
        if (waiting.length > 0) io.stdout.write(`${what}: ${waiting.join(', ')} will change at the next start\n`)
        for (const problem of problems) complain(io, `${what}: ${problem}`)
        if (result === 'kept') io.exit(1)
      }
    })

  addSocketOptions(program.command('health'))
    .description('ask the running sidecar whether it is well; exit 0 or 1')
    .option('-q, --quiet', 'only the exit code', false)
    .action(async (flags: SocketFlags & { quiet: boolean }) => {
      const { status, body } = await askOperations(socketPath(flags, io), 'GET', '/health')
      const checks = ((body as JsonObject | null)?.['checks'] ?? []) as unknown as HealthCheck[]
      if (status !== 200) io.exit(1)
      if (flags.quiet) return
      io.stdout.write(status === 200 ? 'well\n' : 'not well\n')
      for (const { name, ok, detail } of checks) io.stdout.write(`  ${ok ? 'ok ' : 'NOT'}  ${name}  ${detail ?? ''}\n`)
    })
}

const WORDS: Record<ReloadOutcome['result'], string> = {
  loaded: 'loaded',
  kept: 'kept as it was',
  unchanged: 'unchanged',
}

interface HealthCheck {
  readonly name: string
  readonly ok: boolean
  readonly detail?: string
}

import type { Command } from 'commander'
import type { QuotaExplanation } from '../core/quota/explain.ts'
import { type CliIo, oneLine, styles } from './io.ts'
import { addSocketOptions, callOperations, type SocketFlags } from './operations-client.ts'

/** `mcp-sidecar quotas explain`: what a user's windows hold at this moment in the running sidecar. */
export function registerQuotas(program: Command, io: CliIo): void {
  const quotas = program.command('quotas').description('ask the running sidecar about quotas')
  addSocketOptions(quotas.command('explain'))
    .description('say what a user has used of each quota, which one refuses the next call, and when a unit is free')
    .requiredOption('-u, --user <id>', 'the user, as the calls name it')
    .option('-o, --org <id>', 'the org of the user (default: users of that name in every org)')
    .option('-t, --tool <name>', 'only quotas that cover calls of this tool, at the cost of such a call')
    .option('--json', 'print the answer as JSON', false)
    .action(async (flags: ExplainFlags) => {
      const query = new URLSearchParams({ user: flags.user })
      if (flags.org !== undefined) query.set('org', flags.org)
      if (flags.tool !== undefined) query.set('tool', flags.tool)
      const answer = await callOperations(flags, io, 'GET', `/quotas/explain?${query.toString()}`)
      const explanations = answer as unknown as QuotaExplanation[]
      io.stdout.write(
        flags.json ? `${JSON.stringify(explanations, null, 2)}\n` : printed(explanations, styles(io.stdout, io.env)),
      )
    })
}

type ExplainFlags = SocketFlags & { user: string; org?: string; tool?: string; json: boolean }

function printed(explanations: readonly QuotaExplanation[], { bold, dim, red }: ReturnType<typeof styles>): string {
  if (explanations.length === 0) return 'no quota covers such a call, or this user has used none\n'
  return explanations
    .map(({ quota, bucket, cost, windows, concurrent, bites, note }) => {
      const lines = [`${bold(oneLine(quota))}  ${oneLine(bucket)}${bites ? `  ${red('refuses the next call')}` : ''}`]
      for (const { limit, perMs, used, remaining, nextFreeMs, resetMs } of windows) {
        const when =
          nextFreeMs > 0
            ? `the next unit is free in ${duration(nextFreeMs)}`
            : resetMs > 0
              ? `empty in ${duration(resetMs)}`
              : 'empty'
        lines.push(`  ${used} of ${limit} in ${duration(perMs)}, ${remaining} left, ${when}`)
      }
      if (concurrent !== undefined) lines.push(`  ${concurrent.inFlight} of ${concurrent.limit} at a time`)
      if (cost !== 1 && windows.length > 0) lines.push(dim(`  a call costs ${cost}`))
      if (note !== undefined) lines.push(dim(`  ${note}`))
      return `${lines.join('\n')}\n`
    })
    .join('')
}

/** Rounded up to a tenth of a second, so that waiting as long as it says is enough. */
function duration(ms: number): string {
  const tenths = Math.ceil(ms / 100)
  if (tenths < 600) return `${tenths / 10}s`
  const seconds = Math.ceil(ms / 1000)
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const
  return parts
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ')
}

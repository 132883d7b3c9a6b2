import { Argument, type Command } from 'commander'
import type { JsonObject } from '../core/json.ts'
import type { CliIo } from './io.ts'

/** `mcp-sidecar schema config|policy|audit`: the JSON Schema (draft 2020-12) of what is read and written. */
export function registerSchema(program: Command, io: CliIo): void {
  program
    .command('schema')
    .description('print the JSON Schema (draft 2020-12) of the configuration, the policy or an audit line')
    .addArgument(new Argument('<what>', 'which one').choices(['config', 'policy', 'audit']))
    .action(async (what: 'config' | 'policy' | 'audit') => {
      io.stdout.write(`${JSON.stringify(await schemaOf(what), null, 2)}\n`)
    })
}

async function schemaOf(what: 'config' | 'policy' | 'audit'): Promise<JsonObject> {
  if (what === 'audit') return (await import('../core/audit/schema.ts')).auditJsonSchema()
  const { configJsonSchema, policyJsonSchema } = await import('../config/json-schema.ts')
  return what === 'config' ? configJsonSchema() : policyJsonSchema()
}

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { loadParts, type Parts } from '../config/parts.ts'
import { CliError, type CliIo } from './io.ts'

export interface ConfigFlags {
  config?: string
}

/** Adds `--config FILE`; the environment variable `MCP_SIDECAR_CONFIG` stands in for it. */
export function addConfigOption(command: Command): Command {
  return command.option('-c, --config <file>', 'configuration file (or MCP_SIDECAR_CONFIG)')
}

/** The file that was named; a mistake of the arguments when none was. */
export function configPath(flags: ConfigFlags, io: Pick<CliIo, 'env' | 'cwd'>): string {
  const path = flags.config ?? io.env['MCP_SIDECAR_CONFIG']
  if (!path) throw new CliError(2, 'no configuration: give --config FILE or set MCP_SIDECAR_CONFIG')
  return resolve(io.cwd, path)
}

/** Reads a text file that the user named. */
export function readTextFile(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CliError(1, `${path}: the file cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unreadable'})`)
  }
}

/** The configuration that was named: all of its problems, and what of it is valid by itself. */
export function readConfigParts(flags: ConfigFlags, io: Pick<CliIo, 'env' | 'cwd'>): Parts {
  const path = configPath(flags, io)
  return loadParts(readTextFile(path), { path, env: io.env })
}

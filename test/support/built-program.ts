import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * The program that tests and scripts start as a process of its own: the bundle, for that is what users run, and a bundle
 * can lack what the sources have. `npm test` builds one for itself; `MCP_SIDECAR_PROGRAM` names another, `src/main.ts`
 * for one.
 */
export function builtProgram(): string {
  const program = process.env['MCP_SIDECAR_PROGRAM'] ?? join(import.meta.dirname, '../../dist/mcp-sidecar.mjs')
  if (!existsSync(program)) throw new Error(`${program} is not there; npm run build makes it`)
  return program
}

/** Vitest's global set-up for the tests in `test/wire`. */
export function setup(): (() => void) | undefined {
  if (process.env['MCP_SIDECAR_PROGRAM'] !== undefined) return undefined
  const folder = mkdtempSync(join(tmpdir(), 'mcp-sidecar-built-'))
  execFileSync(process.execPath, ['scripts/build.ts', '--out', folder], { stdio: ['ignore', 'ignore', 'inherit'] })
  process.env['MCP_SIDECAR_PROGRAM'] = join(folder, 'mcp-sidecar.mjs')
  return () => {
    delete process.env['MCP_SIDECAR_PROGRAM']
    rmSync(folder, { recursive: true, force: true })
  }
}

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

/** Short: the path of a Unix socket has to fit into 104 characters, and folders of tests come below this one. */
const PREFIX = 'mst-'

/**
 * Vitest's global set-up for all tests: what they leave in the folder for temporary files goes with the run. Its workers
 * are ended by a signal, so none can clear up by itself.
 */
export function setup(): (() => void) | undefined {
  if (basename(tmpdir()).startsWith(PREFIX)) return undefined
  const before = process.env['TMPDIR']
  const folder = mkdtempSync(join(tmpdir(), PREFIX))
  process.env['TMPDIR'] = folder
  return () => {
    if (before === undefined) delete process.env['TMPDIR']
    else process.env['TMPDIR'] = before
    rmSync(folder, { recursive: true, force: true })
  }
}

import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'

/**
 * Programs that some tests need and not every machine has. A test that needs one is skipped where it is missing
 * (`test.skipIf(!isInstalled('openssl'))`), and the run ends with a line that says so.
 */
export const PROGRAMS = [
  'curl',
  'haproxy',
  'kubectl',
  'nginx',
  'openssl',
  'prometheus',
  'promtool',
  'python3',
  'redis-server',
] as const

export function isInstalled(program: (typeof PROGRAMS)[number]): boolean {
  return programPath(program) !== undefined
}

/** Where a program is; Debian's servers are not on everybody's PATH. */
export function programPath(program: string): string | undefined {
  const places = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/bin']
  return places.map(place => join(place, program)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

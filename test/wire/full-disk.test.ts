import { spawnSync } from 'node:child_process'
import { existsSync, openSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

/** `/dev/full` is a disk without room: whoever writes the output to a file goes on by the exit code. */
describe.skipIf(!existsSync('/dev/full'))('output that finds no room', () => {
  test.each([{ argv: ['schema', 'policy'] }, { argv: ['inject', '-q', '-f', 'test/golden/inject/deployment.yaml'] }])(
    '$argv is no success',
    ({ argv }) => {
      const run = spawnSync(process.execPath, ['src/main.ts', ...argv], {
        stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
        encoding: 'utf8',
      })
      expect(run.stderr).toBe('mcp-sidecar: the output could not be written (ENOSPC)\n')
      expect(run.status).toBe(1)
    },
  )
})

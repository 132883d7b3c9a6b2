import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { builtProgram } from '../support/built-program.ts'
import { cli } from '../support/cli.ts'
import { temporaryFolder } from '../support/pki.ts'

/** The demo as a newcomer starts it, every process real. */
test('the story goes as told and ends with 0', { timeout: 60_000 }, async () => {
  const { code, stdout } = await new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    const env = { ...process.env, FORCE_COLOR: undefined }
    execFile(process.execPath, [builtProgram(), 'demo', '--once'], { env }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, stdout, stderr }),
    )
  })
  expect(stdout).toContain('search_docs("certificate")  → How to rotate a certificate\n')
  expect(stdout).toContain('delete_doc("On-call handbook")  → error 403: ')
  expect(stdout).toContain('search_docs("menu")  → error 429: ')
  expect(stdout).toContain('search_docs("handbook")  → no connection: ')
  expect(stdout).toMatch(/peer +gateway {2}spiffe:\/\/example\.org\/ns\/gateway\/sa\/kong/)
  expect(stdout).toMatch(/intact: \d+ lines in 1 chain/)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: plain means without them.
  expect(stdout).not.toMatch(/\u001b/)
  expect(code).toBe(0)
})

test('a folder that cannot be written to is told of, with its name', async () => {
  const dir = join(temporaryFolder(), 'taken')
  writeFileSync(dir, '')
  const run = await cli(['demo', '--once', '--dir', dir])
  expect(run).toEqual({ code: 1, stdout: '', stderr: `mcp-sidecar: cannot write ${dir}: EEXIST\n` })
})

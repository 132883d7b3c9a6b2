import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { cli } from '../support/cli.ts'

/** The commands and flags that scripts, manifests and runbooks outside this repository rely on. */
const COMMANDS: Record<string, readonly string[]> = {
  run: ['--config'],
  check: ['--config', '--pod', '--tools'],
  demo: ['--once'],
  pki: ['--out'],
  inject: ['-f'],
  uninject: ['-f'],
  webhook: ['--config'],
  'policy test': [],
  'policy explain': [],
  'policy replay': [],
  'audit verify': ['--open', '--from'],
  drain: ['--socket', '--config'],
  reload: ['--socket', '--config'],
  'quotas explain': ['--user', '--org', '--tool', '--socket'],
  health: ['--socket'],
  schema: [],
}

test.each(Object.entries(COMMANDS))('`%s --help` tells its flags', async (command, flags) => {
  const { code, stdout, stderr } = await cli([...command.split(' '), '--help'])
  expect(code).toBe(0)
  expect(stderr).toBe('')
  expect(stdout).toContain(`Usage: mcp-sidecar ${command}`)
  for (const flag of flags) expect(stdout).toContain(flag)
})

test('`--help` names every command, `help` is none', async () => {
  const { code, stdout } = await cli(['--help'])
  expect(code).toBe(0)
  const names = [...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name)
  expect(names).toEqual([...new Set(Object.keys(COMMANDS).map(command => command.split(' ')[0]))].sort(byHelp(names)))
})

function byHelp(order: readonly (string | undefined)[]) {
  return (a: string | undefined, b: string | undefined) => order.indexOf(a) - order.indexOf(b)
}

test('`--version` is that of the package', async () => {
  expect(await cli(['--version'])).toEqual({ code: 0, stdout: `${manifest.version}\n`, stderr: '' })
})

describe('exit codes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cli-pin-'))
  const wrong = join(folder, 'wrong.yaml')
  writeFileSync(wrong, 'policy: {}\nlimits: { depth: deep, dept: 1 }\n')

  test.each([
    { argv: [], code: 2, stderr: /^Usage: mcp-sidecar/ },
    { argv: ['rnu'], code: 2, stderr: /^mcp-sidecar: unknown command 'rnu' \(Did you mean run\?\)\n$/ },
    { argv: ['check', '--nope'], code: 2, stderr: /^mcp-sidecar: unknown option '--nope'[^\n]*\n$/ },
    { argv: ['schema'], code: 2, stderr: /^mcp-sidecar: missing required argument 'what'\n$/ },
    { argv: ['schema', 'x'], code: 2, stderr: /^mcp-sidecar: [^\n]*Allowed choices are config, policy, audit\.\n$/ },
    {
      argv: ['check'],
      code: 2,
      stderr: /^mcp-sidecar: no configuration: give --config FILE or set MCP_SIDECAR_CONFIG\n$/,
    },
    {
      argv: ['check', '-c', '/nope.yaml'],
      code: 1,
      stderr: /^mcp-sidecar: \/nope\.yaml: the file cannot be read \(ENOENT\)\n$/,
    },
    {
      argv: ['check', '-c', wrong],
      code: 1,
      stderr:
        /^mcp-sidecar: .*wrong\.yaml:1:1: peers: [^\n]+\nmcp-sidecar: .*:2:18: limits\.depth: [^\n]+\nmcp-sidecar: .*:2:24: limits\.dept: [^\n]+\nmcp-sidecar: .*:1:1: tls\.cert: /,
      stdout: /^\d+ problems, \d+ warnings?\n$/,
    },
    { argv: ['run', '-c', wrong], code: 1, stderr: /wrong\.yaml:1:1: peers: / },
    { argv: ['health', '-s', '/nope.sock'], code: 1, stderr: /^mcp-sidecar: \/nope\.sock: there is no such socket/ },
  ])('`$argv` ends with $code', async ({ argv, code, stderr, stdout = /^$/ }) => {
    const run = await cli(argv)
    expect(run.code).toBe(code)
    expect(run.stdout).toMatch(stdout)
    expect(run.stderr).toMatch(stderr)
  })

  test('the configuration may come from the environment', async () => {
    const run = await cli(['check'], { env: { MCP_SIDECAR_CONFIG: wrong } })
    expect(run.stderr).toContain('wrong.yaml:1:1')
  })
})

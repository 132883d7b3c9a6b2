import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cli } from '../support/cli.ts'

let cwd: string
beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), 'policy-cli-'))
  const write = (name: string, text: string) => writeFileSync(join(cwd, name), text)
  write(
    'policy.yaml',
    `rules:
  - { id: readers, effect: allow, when: { scopes: [mcp.read] }, tools: ["search_*"], args: { q: { pattern: "[a-z]+" } } }
  - { id: no-delete, effect: deny, tools: ["delete_*"] }
`,
  )
  write('broken.yaml', 'rules:\n  - { id: r, effect: allow, tools: [x], args: { q: { pattern: "(" } } }\n')
  write(
    'fixtures.yaml',
    `policy: policy.yaml
callers:
  reader: { user: alice, scopes: [mcp.read] }
cases:
  - { name: a listed tool is permitted, caller: reader, call: { tool: search_web }, expect: allow by readers }
  - { name: nobody deletes, caller: reader, call: { tool: delete_row }, expect: deny by no-delete, visible: false }
`,
  )
  write(
    'wrong.yaml',
    `policy: policy.yaml
cases:
  - { name: anybody searches, caller: { user: bob }, call: { tool: search_web }, expect: allow }
`,
  )
  write('unusable.yaml', 'cases:\n  - { call: { tool: x }, call: { tool: y } }\n')
  write('alias.yaml', 'policy: policy.yaml\ncases: [*shared]\n')
  const line = {
    kind: 'audit',
    event: 'mcp.call',
    timestamp: '2026-11-21T10:00:00.000Z',
    user: { id: 'bob', scopes: [], roles: [] },
    mcp: { era: 'modern', method: 'tools/call', tool: 'search_web' },
    args: {},
    decision: { effect: 'allow', rule: 'open', mode: 'enforce' },
  }
  write('audit.log', `2026-11-21T10:00:00.1Z stdout F ${JSON.stringify(line)}\n${JSON.stringify(line)}\n`)
})
afterAll(() => rmSync(cwd, { recursive: true }))

const run = (...argv: string[]) => cli(['policy', ...argv], { cwd })

describe('policy test', () => {
  test('says of each case that it is as expected', async () => {
    expect(await run('test', 'fixtures.yaml')).toEqual({
      code: 0,
      stdout: '✓ a listed tool is permitted\n✓ nobody deletes\n2 as expected\n',
      stderr: '',
    })
  })

  test('shows what differs and why', async () => {
    const { code, stdout } = await run('test', 'wrong.yaml')
    expect(code).toBe(1)
    expect(stdout).toBe(
      `✗ anybody searches
    caller   bob
    call     tools/call search_web
  - expected allow
  + decided  deny by default for scopes mcp.read
    allow readers: does not match: when.scopes: "mcp.read" not held
    deny no-delete: does not match: tools: "delete_*" is not "search_web"
1 of 1 differ
`,
    )
  })

  test('a policy that was named comes before that of the fixtures', async () => {
    const { code, stderr } = await run('test', 'fixtures.yaml', '--policy', 'broken.yaml')
    expect(code).toBe(1)
    expect(stderr).toMatch(/broken\.yaml:2:\d+: policy\.rules\[0\]\.args\.q\.pattern: .*missing closing/)
  })

  test.each([
    { argv: ['test', 'unusable.yaml'], code: 1, stderr: /unusable\.yaml:2:\d+: Map keys must be unique/ },
    { argv: ['test', 'alias.yaml'], code: 1, stderr: /alias\.yaml: Unresolved alias/ },
    { argv: ['test', 'nowhere.yaml'], code: 1, stderr: /nowhere\.yaml: the file cannot be read \(ENOENT\)/ },
    { argv: ['test'], code: 2, stderr: /missing required argument/ },
    { argv: ['explain', '--tool', 'x'], code: 2, stderr: /no policy/ },
    { argv: ['explain', '-p', 'policy.yaml'], code: 2, stderr: /name a tool/ },
    { argv: ['explain', '-p', 'policy.yaml', '--tool', 'x', '--args', '[1]'], code: 2, stderr: /--args must be/ },
    { argv: ['explain', '-p', 'policy.yaml', '--tool', 'x', '--prompt', 'y'], code: 2, stderr: /cannot be used with/ },
    { argv: ['replay', 'nowhere.log', '-p', 'policy.yaml'], code: 1, stderr: /nowhere\.log: .*ENOENT/ },
  ])('$argv ends with $code and one line', async ({ argv, code, stderr }) => {
    const result = await run(...argv)
    expect(result.code).toBe(code)
    expect(result.stderr).toMatch(stderr)
    expect(result.stderr.trimEnd().split('\n').length).toBe(1)
  })
})

test('policy explain says which rule decides, and why the others do not', async () => {
  const who = ['--user', 'alice', '--org', 'acme', '--scope', 'mcp.read']
  const call = ['--tool', 'search_web', '--args', '{"q":"abc"}']
  const { code, stdout } = await run('explain', '-p', 'policy.yaml', ...who, ...call)
  expect(code).toBe(0)
  expect(stdout).toBe(`caller   alice of acme, scopes mcp.read
call     tools/call search_web {"q":"abc"}
verdict  allow by readers
         allowed by rule readers
lists    show it
tool "search_web"
  allow readers: decides
  deny no-delete: does not match: tools: "delete_*" is not "search_web"
`)
})

test('policy explain --json prints it all', async () => {
  const { stdout } = await run('explain', '-p', 'policy.yaml', '--user', 'a', '--tool', 'delete_x', '--json')
  expect(JSON.parse(stdout)).toMatchObject({ verdict: { effect: 'deny', rule: 'no-delete' }, visible: false })
})

test('policy replay shows the verdicts that change, from plain lines and from a container runtime’s', async () => {
  const { code, stdout } = await run('replay', 'audit.log', '-p', 'policy.yaml')
  expect(code).toBe(0)
  expect(stdout).toBe(`2 calls judged again: 2 change, 0 do not, 0 only by which rule
       2  tools/call search_web
          allow by open → deny by default
          bob
          2026-11-21T10:00:00.000Z to 2026-11-21T10:00:00.000Z
`)
  expect((await run('replay', 'audit.log', '-p', 'policy.yaml', '--strict')).code).toBe(1)
  const json = await run('replay', 'audit.log', '-p', 'policy.yaml', '--json')
  expect(JSON.parse(json.stdout)).toMatchObject({ judged: 2, changes: [{ count: 2 }] })
})

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { askOperations } from '../../src/cli/operations-client.ts'
import { type OperationsHandlers, OperationsServer, type ReloadOutcome } from '../../src/edge/operations.ts'
import { cli } from '../support/cli.ts'

let folder: string
let path: string
const open = new Set<{ stop(): Promise<void> }>()

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ops-'))
  path = join(folder, 'ops.sock')
})

afterEach(async () => {
  for (const server of open) await server.stop()
  open.clear()
  rmSync(folder, { recursive: true, force: true })
})

async function serve(handlers: Partial<OperationsHandlers> = {}): Promise<OperationsServer> {
  const server = new OperationsServer(path, {
    drain: () => undefined,
    reload: async () => [],
    config: () => ({}),
    explainQuotas: () => [],
    health: () => ({ ok: true, checks: [] }),
    ...handlers,
  })
  await server.start()
  open.add(server)
  return server
}

test('only its owner may open it, and nothing else is left in the folder', async () => {
  await serve()
  expect((statSync(path).mode & 0o777).toString(8)).toBe('600')
  expect(readdirSync(folder)).toEqual(['ops.sock'])
})

test('it is gone after the stop', async () => {
  const server = await serve()
  await server.stop()
  expect(existsSync(path)).toBe(false)
})

test('a socket that a killed process has left behind is replaced', async () => {
  const first = await serve()
  // What is left when a process dies: the file without anybody behind it.
  const orphan = join(folder, 'orphan.sock')
  const dead = createServer().listen(orphan)
  await new Promise(resolve => dead.once('listening', resolve))
  await first.stop()
  writeFileSync(path, '')
  await serve()
  expect((await askOperations(path, 'GET', '/health')).status).toBe(200)
  await new Promise(resolve => dead.close(resolve))
})

test('a socket that is served is left alone', async () => {
  await serve()
  await expect(serve()).rejects.toThrow(`another process serves ${path}`)
  expect((await askOperations(path, 'GET', '/health')).status).toBe(200)
})

test("a newer process's socket survives the end of the older one", async () => {
  const older = await serve()
  rmSync(path)
  await serve()
  await older.stop()
  expect((await askOperations(path, 'GET', '/health')).status).toBe(200)
})

test('a folder that is not there is said, not waited for', async () => {
  path = join(folder, 'missing', 'ops.sock')
  await expect(serve()).rejects.toThrow('ENOENT')
})

test.each([
  ['GET', '/drain', 405],
  ['GET', '/reload', 405],
  ['POST', '/config', 405],
  ['POST', '/health', 405],
  ['GET', '/nothing', 404],
  ['GET', '/quotas/explain', 400],
] as const)('%s %s is refused with %d', async (method, where, status) => {
  await serve()
  expect((await askOperations(path, method, where)).status).toBe(status)
})

test('a fault in a handler is an answer', async () => {
  await serve({
    config: () => {
      throw new Error('no configuration yet')
    },
  })
  expect(await askOperations(path, 'GET', '/config')).toEqual({ status: 500, body: { error: 'no configuration yet' } })
})

describe('the commands', () => {
  test('drain begins and returns', async () => {
    let drains = 0
    await serve({ drain: () => drains++ })
    const { code, stdout } = await cli(['drain', '--socket', path])
    expect({ code, drains }).toEqual({ code: 0, drains: 1 })
    expect(stdout).toMatch(/^draining: .*nothing new is accepted.*\n.*the process waits for SIGTERM\n$/)
  })

  test('reload says what was loaded and why something was kept', async () => {
    const outcomes: ReloadOutcome[] = [
      { what: 'trust', result: 'loaded', generation: 3, problems: [], waiting: [] },
      {
        what: 'config',
        result: 'kept',
        generation: 2,
        problems: ['sidecar.yaml:1:1: peers: must be given'],
        waiting: [],
      },
    ]
    await serve({ reload: async () => outcomes })
    expect(await cli(['reload', '--socket', path])).toEqual({
      code: 1,
      stdout: 'trust: loaded, generation 3\nconfig: kept as it was, generation 2\n',
      stderr: 'mcp-sidecar: config: sidecar.yaml:1:1: peers: must be given\n',
    })
  })

  test.each([
    { ok: true, code: 0, stdout: 'well\n  ok   audit  open\n' },
    { ok: false, code: 1, stdout: 'not well\n  NOT  audit  open\n' },
  ])('health is $ok: exit $code', async ({ ok, code, stdout }) => {
    await serve({ health: () => ({ ok, checks: [{ name: 'audit', ok, detail: 'open' }] }) })
    expect(await cli(['health', '--socket', path])).toMatchObject({ code, stdout })
    expect(await cli(['health', '--quiet', '--socket', path])).toMatchObject({ code, stdout: '' })
  })

  test('the socket is found in the configuration, even in one that is broken otherwise', async () => {
    await serve()
    const config = join(folder, 'sidecar.yaml')
    writeFileSync(config, `admin: { operations: "unix:\${DIR}/ops.sock" }\nnonsense: 1\n`)
    const env = { MCP_SIDECAR_CONFIG: config, DIR: folder }
    expect(await cli(['health', '--quiet'], { env })).toMatchObject({ code: 0 })
  })

  test('what is no sidecar is told apart', async () => {
    const other = createServer(socket => socket.resume().end('220 smtp.example.org\r\n'))
    await new Promise<void>(resolve => other.listen(path, resolve))
    const { code, stderr } = await cli(['drain', '--socket', path])
    expect(code).toBe(1)
    expect(stderr).toContain(path)
    await new Promise(resolve => other.close(resolve))
  })

  test.each([
    {
      what: 'a socket that nobody serves',
      make: () => mkdirSync(path),
      want: /EACCES|ECONNREFUSED|nobody serves|denied/,
    },
    { what: 'no socket', make: () => undefined, want: /there is no such socket; is the sidecar running/ },
  ])('$what is told', async ({ make, want }) => {
    make()
    const { code, stderr } = await cli(['reload', '--socket', path])
    expect(code).toBe(1)
    expect(stderr).toMatch(want)
  })
})

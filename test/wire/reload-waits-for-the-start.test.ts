import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { askOperations } from '../../src/cli/operations-client.ts'
import { cli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { send, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function start(): Promise<{ upstream: ScriptedServer; running: RunningSidecar; socket: string }> {
  const upstream = await startScriptedServer()
  const running = await startTestSidecar(upstream.url)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return { upstream, running, socket: join(running.dir, 'ops.sock') }
}

type Sections = Record<string, Record<string, unknown>>

test('nothing of an upstream or a limit that waits for the next start is in use before it', async () => {
  const { upstream, running, socket } = await start()
  running.rewrite(config => {
    Object.assign(config as Sections, {
      upstream: { url: 'http://127.0.0.1:9', paths: ['/other'], host: 'preserve', timeouts: { firstByte: '1ms' } },
      limits: { body: '1KiB', streamsPerUser: 1 },
      quotas: [{ name: 'many', key: 'user', windows: [{ limit: 100, per: '1m' }] }],
    })
  })
  // With quotas, so that it is known when the rest of the file is in use.
  await eventually(() => running.lines.some(({ event }) => event === 'config.reloaded'))
  const answer = await send(running, { body: toolCall('search_docs', { say: 'x'.repeat(2000) }) })
  expect(answer.status).toBe(200)
  expect(answer.headers['ratelimit']).toMatch(/^"many/)
  const { headers } = upstream.seen.at(-1) ?? { headers: [] }
  expect(headers[headers.findIndex(name => name.toLowerCase() === 'host') + 1]).toBe(`127.0.0.1:${upstream.port}`)

  const ready = await (await fetch(`${running.admin}/readyz`)).json()
  expect(JSON.stringify(ready)).toContain(`${upstream.url} accepts`)
  expect(JSON.stringify(ready)).toContain('upstream, limits will change at the next start')
  const { body } = await askOperations(socket, 'GET', '/config')
  expect(body).toMatchObject({
    upstream: { url: upstream.url, host: 'rewrite', paths: ['/mcp', '/sse', '/messages'] },
    limits: { body: '4MiB' },
    quotas: [{ name: 'many' }],
  })
  expect(running.log.join('')).toContain('changes of upstream, limits take effect at the next start')
})

test('what waits is said at each reload, until the file has it again as it is in force', async () => {
  const { running, socket } = await start()
  running.rewrite(config => void (config['limits'] = { body: '1KiB' }))
  const want = {
    code: 0,
    stdout: 'config: unchanged, generation 1\nconfig: limits will change at the next start\n',
    stderr: '',
  }
  for (let i = 0; i < 2; i++) {
    const { stdout, ...rest } = await cli(['reload', '--socket', socket])
    expect({ ...rest, stdout: stdout.replace(/^trust:.*\n/m, '') }).toEqual(want)
  }
  running.rewrite(config => void delete config['limits'])
  const { stdout } = await cli(['reload', '--socket', socket])
  expect(stdout).toMatch(/^config: unchanged, generation 1$/m)
  expect(stdout).not.toContain('next start')
  expect(running.lines.some(({ event }) => event === 'config.reloaded')).toBe(false)
})

test('the chain keeps its rules while the rest of audit changes', async () => {
  const { running, socket } = await start()
  running.rewrite(
    config => void (config['audit'] = { args: 'none', chain: false, digestKey: '/none', checkpointEvery: 7 }),
  )
  const { stdout } = await cli(['reload', '--socket', socket])
  expect(stdout).toMatch(
    /^config: (loaded|unchanged), generation 2\nconfig: audit.chain, audit.digestKey, audit.checkpointEvery will change/m,
  )
  const { body } = await askOperations(socket, 'GET', '/config')
  expect(body).toMatchObject({ audit: { args: 'none', chain: true, checkpointEvery: 1000 } })
  expect((body as Sections)['audit']).not.toHaveProperty('digestKey')
})

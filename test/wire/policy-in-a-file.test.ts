import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { eventually } from '../support/eventually.ts'
import { send, toolCall } from '../support/request.ts'
import { startScriptedServer } from '../support/scripted-server.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function start(change?: (config: Record<string, unknown>) => void): Promise<RunningSidecar> {
  const upstream = await startScriptedServer()
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return running
}

const policy = (...tools: string[]): string =>
  stringify({ rules: [{ id: 'named', effect: 'allow', methods: ['tools/call'], tools }] })
const reasonFor = async (running: RunningSidecar, tool: string): Promise<unknown> =>
  (await send(running, { body: toolCall(tool) })).json.error?.data?.reason ?? 'served'

test('a policy moves into a file, and from then on the file is followed', async () => {
  const running = await start()
  const file = join(running.dir, 'policy.yaml')
  writeFileSync(file, policy('get_user'))
  running.rewrite(config => void (config['policy'] = { file: 'policy.yaml' }))
  await eventually(async () => (await reasonFor(running, 'search_docs')) === 'tool_not_permitted')
  expect(await reasonFor(running, 'get_user')).toBe('served')

  writeFileSync(file, policy('get_user', 'search_docs'))
  await eventually(async () => (await reasonFor(running, 'search_docs')) === 'served')
})

test('a policy moves into another file, and the one before is followed no more', async () => {
  const running = await start()
  const [first, second] = [join(running.dir, 'first.yaml'), join(running.dir, 'second.yaml')]
  writeFileSync(first, policy('get_user'))
  writeFileSync(second, policy('alpha'))
  running.rewrite(config => void (config['policy'] = { file: 'first.yaml' }))
  await eventually(async () => (await reasonFor(running, 'alpha')) === 'tool_not_permitted')
  running.rewrite(config => void (config['policy'] = { file: 'second.yaml' }))
  await eventually(async () => (await reasonFor(running, 'alpha')) === 'served')

  writeFileSync(first, 'not: [valid')
  writeFileSync(second, policy('alpha', 'beta'))
  await eventually(async () => (await reasonFor(running, 'beta')) === 'served')
  expect(running.lines.filter(({ event }) => event === 'config.kept')).toEqual([])
})

test('a policy file that is not there yet is followed: when it comes, it is in force', async () => {
  const running = await start()
  running.rewrite(config => void (config['policy'] = { file: 'late.yaml' }))
  await eventually(() => running.lines.find(({ event }) => event === 'config.kept'))
  expect(await reasonFor(running, 'search_docs')).toBe('served')

  writeFileSync(join(running.dir, 'late.yaml'), 'rules: [nonsense')
  await eventually(() => running.lines.filter(({ event }) => event === 'config.kept').length === 2)
  writeFileSync(join(running.dir, 'late.yaml'), policy('get_user'))
  await eventually(async () => (await reasonFor(running, 'search_docs')) === 'tool_not_permitted')
})

test('tools that a new policy names are named in the metrics', async () => {
  const running = await start()
  running.rewrite(config => {
    config['policy'] = { rules: [{ id: 'named', effect: 'allow', methods: ['tools/call'], tools: ['brand_new'] }] }
  })
  await eventually(async () => (await reasonFor(running, 'brand_new')) === 'served')
  const metrics = await (await fetch(`${running.admin}/metrics`)).text()
  expect(metrics).toMatch(/^mcp_tool_calls_total\{tool="brand_new",status="success"\} 1$/m)
})

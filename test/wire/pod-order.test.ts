import { type ChildProcess, spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { afterEach, expect, test } from 'vitest'
import { builtProgram } from '../support/built-program.ts'
import { eventually } from '../support/eventually.ts'
import { send, toolCall } from '../support/request.ts'
import { SidecarProcess } from '../support/sidecar-process.ts'

/**
 * What the kubelet does to a pod with a native sidecar, with real processes in the place of its containers: in a Job the
 * application ends and then the sidecar is stopped; when a pod is deleted the preStop hook of the sidecar runs, the
 * application is stopped, and only when that has ended the sidecar gets its SIGTERM.
 *
 * @source Kubernetes, Sidecar Containers §Pod lifecycle; KEP-753 §Pod termination.
 */
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** An application that answers calls, tells its port first, and ends by itself or a while after SIGTERM. */
const APPLICATION = `
const server = require('node:http').createServer((request, response) => {
  let body = ''
  request.on('data', chunk => { body += chunk })
  request.on('end', () => {
    const { id } = JSON.parse(body)
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: { content: [] } }))
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.on('SIGUSR2', () => process.exit(0))
process.on('SIGTERM', () => setTimeout(() => process.exit(0), 700))
`

async function pod(): Promise<{ app: ChildProcess; appEnded: Promise<unknown>; sidecar: SidecarProcess }> {
  const app = spawn(process.execPath, ['-e', APPLICATION], { stdio: ['ignore', 'pipe', 'inherit'] })
  cleanups.push(() => app.kill('SIGKILL'))
  const appEnded = new Promise(resolve => app.once('exit', resolve))
  const port = await new Promise<number>(resolve => app.stdout?.once('data', text => resolve(Number(text))))
  const sidecar = await SidecarProcess.start(`http://127.0.0.1:${port}`, config => {
    config['drain'] = { lameDuck: '45s', grace: '45s' }
  })
  cleanups.push(() => sidecar.end())
  return { app, appEnded, sidecar }
}

test('a Job completes: when its application has ended, the sidecar ends at once and with 0', async () => {
  const { app, appEnded, sidecar } = await pod()
  expect((await send(sidecar, { body: toolCall('search_a') })).status).toBe(200)
  app.kill('SIGUSR2')
  expect(await appEnded).toBe(0)
  const from = performance.now()
  // At the same moment: the sidecar has had no time to notice by itself that nobody listens any more.
  sidecar.child.kill('SIGTERM')
  expect(await sidecar.ended).toBe(0)
  expect(performance.now() - from).toBeLessThan(40_000)
  await sidecar.allText()
  expect(sidecar.lines().at(-1)).toMatchObject({ event: 'sidecar.stopped', stopped: { reason: 'SIGTERM', calls: 1 } })
})

test('a pod is deleted: calls are answered until the application has ended, and only then the sidecar ends', async () => {
  const { app, appEnded, sidecar } = await pod()
  const hook = spawn(process.execPath, [builtProgram(), 'drain', '--config', sidecar.configFile], { stdio: 'ignore' })
  expect(await new Promise(resolve => hook.once('exit', resolve))).toBe(0)
  await eventually(async () => (await sidecar.probe('/readyz')).status === 503)
  app.kill('SIGTERM')
  // Who has not heard of it yet, still gets an answer from the application that is about to end.
  expect((await send(sidecar, { body: toolCall('search_b') })).status).toBe(200)
  expect(await appEnded).toBe(0)
  expect(sidecar.child.exitCode).toBeNull()
  const from = performance.now()
  sidecar.child.kill('SIGTERM')
  expect(await sidecar.ended).toBe(0)
  expect(performance.now() - from).toBeLessThan(40_000)
  await sidecar.allText()
  expect(sidecar.lines().filter(({ event }) => event === 'mcp.call')).toHaveLength(1)
})

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { cli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { testPki } from '../support/pki.ts'
import { rawPeer } from '../support/raw-peers.ts'
import { send, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import { startTestSidecar } from '../support/sidecar.ts'
import { SidecarProcess } from '../support/sidecar-process.ts'

/**
 * `mcp-sidecar drain`, which is also the preStop hook: everything but the end of the process, which is SIGTERM's. A
 * process that ended by itself would be started again by the kubelet, and serve again.
 */
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function drained(drain: {
  lameDuck: string
  grace: string
}): Promise<{ upstream: ScriptedServer; running: SidecarProcess; call: Promise<number | 'cut'> }> {
  const upstream = await startScriptedServer()
  const running = await SidecarProcess.start(upstream.url, config => void (config['drain'] = drain))
  cleanups.push(
    () => upstream.stop(),
    () => running.end(),
  )
  const call = send(running, { body: toolCall('search_later') }).then(
    ({ status }) => status,
    () => 'cut' as const,
  )
  await eventually(() => upstream.waiting() === 1)
  expect((await cli(['drain', '--socket', running.socket])).code).toBe(0)
  return { upstream, running, call }
}

const isRefusingToConnect = (running: SidecarProcess): Promise<boolean> =>
  rawPeer(running).then(
    ({ socket }) => {
      socket.destroy()
      return false
    },
    () => true,
  )

test('what is under way is answered, nothing new is accepted, and the process waits for SIGTERM', async () => {
  const { upstream, running, call } = await drained({ lameDuck: '300ms', grace: '20s' })
  expect((await running.probe('/readyz')).status).toBe(503)
  // Who has not heard of it yet.
  expect((await send(running, { body: toolCall('search_docs') })).status).toBe(200)
  await eventually(() => isRefusingToConnect(running))
  upstream.release()
  expect(await call).toBe(200)
  await eventually(() => running.log().includes('SIGTERM ends the process'))
  expect(await isRefusingToConnect(running)).toBe(true)
  expect((await running.probe('/livez')).status).toBe(200)
  expect(running.child.exitCode).toBeNull()
  running.child.kill('SIGTERM')
  expect(await running.ended).toBe(0)
  await running.allText()
  expect(running.lines().at(-1)).toMatchObject({ event: 'sidecar.stopped', stopped: { reason: 'SIGTERM', calls: 2 } })
})

test('a SIGTERM in the middle does not cut it short', async () => {
  const { upstream, running, call } = await drained({ lameDuck: '500ms', grace: '20s' })
  running.child.kill('SIGTERM')
  await eventually(() => isRefusingToConnect(running))
  await sleep(200)
  expect(upstream.waiting()).toBe(1)
  upstream.release()
  expect(await call).toBe(200)
  expect(await running.ended).toBe(0)
  expect(running.log()).not.toContain('again')
})

test('a SIGTERM in the middle does not start it anew', async () => {
  const from = performance.now()
  const { running, call } = await drained({ lameDuck: '0s', grace: '4s' })
  await sleep(2500)
  running.child.kill('SIGTERM')
  expect([await call, await running.ended]).toEqual(['cut', 0])
  expect(performance.now() - from).toBeLessThan(6000)
  expect(running.log().match(/lame duck for/g)).toHaveLength(1)
})

test('a second SIGTERM cuts it short', async () => {
  const { running, call } = await drained({ lameDuck: '60s', grace: '60s' })
  running.child.kill('SIGTERM')
  await sleep(200)
  expect(running.child.exitCode).toBeNull()
  running.child.kill('SIGTERM')
  expect([await call, await running.ended]).toEqual(['cut', 0])
})

test('certificates that come after it open nothing', async () => {
  const pki = await testPki()
  let cert = ''
  const running = await startTestSidecar('http://127.0.0.1:9', config => {
    const socket = (config['admin'] as { operations: string }).operations.replace('unix:', '')
    cert = join(socket, '..', 'late.crt')
    config['tls'] = { ...(config['tls'] as object), cert }
  })
  cleanups.push(() => running.stop())
  await running.sidecar.drain()
  copyFileSync(pki.server.certFile, cert)
  await eventually(() => running.lines.some(({ event }) => event === 'trust.reloaded'))
  expect(running.sidecar.ports.mtls).toBeUndefined()
  expect(running.log.join('')).not.toContain('serving mTLS')
})

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, describe, expect, test } from 'vitest'
import { runProgram } from '../../src/cli/program.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { cli, testIo } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'

const HOST = 'mcp-sidecar-webhook.mcp-sidecar-system.svc'
const ca = mintCa({ name: 'webhook CA' })
const dir = temporaryFolder()
const config = join(dir, 'webhook.yaml')
const volume = new KubeletVolume(join(dir, 'tls'))

writeFileSync(
  config,
  `listen: 127.0.0.1:0
admin: 127.0.0.1:0
tls: { cert: ${volume.path('tls.crt')}, key: ${volume.path('tls.key')} }
`,
)

function issue() {
  const leaf = mintLeaf(ca, { cn: HOST, dns: [HOST], usages: ['serverAuth'] })
  return { serial: leaf.serial, keys: { 'tls.crt': leaf.chain, 'tls.key': leaf.key, 'ca.crt': ca.cert } }
}

/** Serial of the certificate that a new connection is shown; undefined when the handshake fails. */
function shownAt(port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port, servername: HOST, ca: ca.cert }, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.on('error', () => resolve(undefined))
  })
}

describe('mcp-sidecar webhook', () => {
  const io = testIo({ cwd: dir })
  const running = runProgram(['webhook', '--config', 'webhook.yaml'], io)
  const said = (message: string) =>
    io.texts
      .stderr()
      .split('\n')
      .filter(line => line.includes(message))
      .map(line => JSON.parse(line) as { port: number; adminPort: number; problems: string[] })
  const ports = () => eventually(() => said('the webhook serves')[0])

  afterAll(async () => {
    io.signal('SIGINT')
    await running
  })

  test('starts before its Secret is there, and is not ready', async () => {
    const { port, adminPort } = await ports()
    expect(await shownAt(port)).toBeUndefined()
    expect((await fetch(`http://127.0.0.1:${adminPort}/readyz`)).status).toBe(503)
    expect((await fetch(`http://127.0.0.1:${adminPort}/livez`)).status).toBe(200)
  })

  test('serves each certificate that the kubelet brings, three rotations in a row', async () => {
    const { port, adminPort } = await ports()
    for (let rotation = 0; rotation < 4; rotation += 1) {
      const { serial, keys } = issue()
      await volume.publish(keys, { jitterMs: 3 })
      await eventually(async () => (await shownAt(port)) === serial)
    }
    expect((await fetch(`http://127.0.0.1:${adminPort}/readyz`)).status).toBe(200)
    const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text()
    expect(metrics).toContain('mcp_sidecar_reloads_total{what="certificate",result="loaded"} 4')
  })

  test('keeps the last good one when a key comes that is not of its certificate, and says why', async () => {
    const { port } = await ports()
    const before = await shownAt(port)
    await volume.publish({ ...issue().keys, 'tls.key': issue().keys['tls.key'] })
    const [kept] = await eventually(() => {
      const lines = said('cannot be served with').filter(({ problems }) =>
        problems.join().includes('is not the key of'),
      )
      return lines.length > 0 ? lines : undefined
    })
    expect(kept?.problems[0]).toContain('tls.key')
    expect(await shownAt(port)).toBe(before)
    const { serial, keys } = issue()
    await volume.publish(keys)
    await eventually(async () => (await shownAt(port)) === serial)
  })
})

describe('a configuration that is wrong', () => {
  test.each([
    { text: 'listem: x', says: 'listem' },
    { text: 'listen: here', says: 'line 1 listen: must be an address and a port' },
    { text: 'inject:\n  connections: many', says: 'line 2 inject.connections' },
    { text: 'inject: { listenEnv: A, socketEnv: B }', says: 'excludes listenEnv' },
    { text: 'a: [', says: 'line 1' },
    { text: 'inject: *shared', says: 'Unresolved alias' },
  ])('$text', async ({ text, says }) => {
    writeFileSync(join(dir, 'wrong.yaml'), text)
    const run = await cli(['webhook', '--config', 'wrong.yaml'], { cwd: dir })
    expect(run.code).toBe(1)
    expect(run.stderr).toContain(says)
  })

  test('a file that is not there', async () => {
    expect(await cli(['webhook', '--config', 'none.yaml'], { cwd: dir })).toMatchObject({ code: 2 })
    expect(await cli(['webhook'], { cwd: dir })).toMatchObject({ code: 2 })
  })
})

import { spawn } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { builtProgram } from '../support/built-program.ts'
import { eventually } from '../support/eventually.ts'
import { temporaryFolder, testPki } from '../support/pki.ts'
import { type AuditLine, baseConfig } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** Somebody else who listens. */
async function occupied(): Promise<{ address: string; leave(): Promise<void> }> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const leave = (): Promise<void> => new Promise(resolve => server.close(() => resolve()))
  cleanups.push(leave)
  return { address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`, leave }
}

function folder(): string {
  const dir = temporaryFolder('mcp-sidecar-ports-')
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

interface Started {
  readonly ended: Promise<number | null>
  stdout(): string
  stderr(): string
  stop(): void
}

/** `mcp-sidecar <command>` with this configuration. */
function start(command: 'run' | 'webhook', dir: string, config: object): Started {
  const file = join(dir, 'config.yaml')
  writeFileSync(file, stringify(config))
  const child = spawn(process.execPath, [builtProgram(), command, '--config', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  cleanups.push(() => child.kill('SIGKILL'))
  const said = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => (said.stdout += String(chunk)))
  child.stderr.on('data', chunk => (said.stderr += String(chunk)))
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  return { ended, stdout: () => said.stdout, stderr: () => said.stderr, stop: () => void child.kill('SIGTERM') }
}

const UPSTREAM = 'http://127.0.0.1:9'

describe('an address on which somebody else listens', () => {
  test.each(['listen', 'admin'] as const)('%s.address: it says so in one line, and ends with 1', async setting => {
    const { address } = await occupied()
    const dir = folder()
    const base = baseConfig(await testPki(), dir, UPSTREAM)
    const run = start('run', dir, { ...base, [setting]: { ...(base[setting] as object), address } })
    expect(await run.ended).toBe(1)
    const complaints = run
      .stderr()
      .split('\n')
      .filter(line => line.startsWith('mcp-sidecar:'))
    expect(complaints).toEqual([
      `mcp-sidecar: ${setting}.address: cannot listen on ${address}: something else in this pod or on this machine listens there (EADDRINUSE)`,
    ])
    expect(run.stderr()).not.toContain('    at ')
    const lines = run
      .stdout()
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line) as AuditLine)
    // What has been begun is ended: the log does not look cut off.
    expect([lines[0]?.['event'], lines.at(-1)?.['event']]).toEqual(['sidecar.started', 'sidecar.stopped'])
  })

  test.each(['listen', 'admin'])('%s of the webhook: likewise', async setting => {
    const { address } = await occupied()
    const dir = folder()
    const webhook = start('webhook', dir, {
      ...{ listen: '127.0.0.1:0', admin: '127.0.0.1:0', [setting]: address },
      tls: { cert: join(dir, 'tls.crt'), key: join(dir, 'tls.key') },
    })
    expect(await webhook.ended).toBe(1)
    expect(webhook.stderr()).toContain(`mcp-sidecar: ${setting}: cannot listen on ${address}: `)
  })

  test('when certificates come only after the start: it says so, and serves when the address is free', async () => {
    const { address, leave } = await occupied()
    const dir = folder()
    const pki = await testPki()
    const base = baseConfig(pki, dir, UPSTREAM)
    const files = base['tls'] as Record<'cert' | 'key' | 'clientCa', string>
    const own = { cert: join(dir, 'own.crt'), key: join(dir, 'own.key'), clientCa: join(dir, 'own-ca.crt') }
    const run = start('run', dir, { ...base, tls: { ...files, ...own }, listen: { address } })
    await eventually(() => run.stderr().includes('own.crt'), 20_000)
    writeFileSync(own.clientCa, pki.ca.cert)
    writeFileSync(own.key, pki.server.key)
    writeFileSync(own.cert, pki.server.cert)
    await eventually(() => run.stderr().includes(`cannot listen on ${address}`), 20_000)
    await leave()
    await eventually(() => run.stderr().includes(`serving mTLS on ${address}`), 20_000)
    run.stop()
    expect(await run.ended).toBe(0)
  })
})

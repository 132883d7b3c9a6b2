import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { stringify } from 'yaml'
import { type Sidecar, type SidecarOptions, startSidecar } from '../../src/sidecar.ts'
import { type TestPki, testPki } from './pki.ts'

export interface RunningSidecar {
  readonly sidecar: Sidecar
  readonly port: number
  readonly admin: string
  readonly pki: TestPki
  readonly dir: string
  readonly configFile: string
  /** Audit lines so far. */
  readonly lines: AuditLine[]
  /** What the operational log has said. */
  readonly log: string[]
  /** Writes another configuration; follow it with `eventually`. */
  rewrite(change: (config: Record<string, unknown>) => void): void
  stop(): Promise<0 | 1>
}

// biome-ignore lint/suspicious/noExplicitAny: lines are looked at by many tests, each at other members.
export type AuditLine = Record<string, any>

/** A configuration that lets `mcp.read` search, on free ports, changed as the test needs it. */
export function baseConfig(pki: TestPki, dir: string, upstreamUrl: string): Record<string, unknown> {
  return {
    listen: { address: '127.0.0.1:0' },
    upstream: { url: upstreamUrl },
    admin: { address: '127.0.0.1:0', operations: `unix:${join(dir, 'ops.sock')}` },
    tls: { cert: pki.server.certFile, key: pki.server.keyFile, clientCa: pki.caFile },
    peers: [
      {
        name: 'gateway',
        match: { uri: 'spiffe://example.org/ns/gateway/sa/kong' },
        mayAssert: {
          users: ['*'],
          orgs: ['acme'],
          scopes: ['mcp.read', 'mcp.write'],
          roles: ['developer'],
          emails: ['*@acme.example'],
          forwardedFor: true,
        },
      },
    ],
    identity: { source: 'headers', required: true },
    policy: {
      rules: [
        {
          id: 'readers',
          effect: 'allow',
          when: { scopes: ['mcp.read'] },
          methods: ['tools/call'],
          tools: ['search_*', 'get_user', 'count', 'big', 'fail', 'ask'],
        },
      ],
    },
    drain: { lameDuck: '0s', grace: '2s' },
  }
}

/** The real sidecar in this process, in front of the given upstream. */
export async function startTestSidecar(
  upstreamUrl: string,
  change: (config: Record<string, unknown>) => void = () => {},
  {
    overload,
    env = {},
    ...deadlines
  }: SidecarOptions['deadlines'] & Partial<Pick<SidecarOptions, 'overload' | 'env'>> = {},
): Promise<RunningSidecar> {
  const pki = await testPki()
  const dir = mkdtempSync(join(tmpdir(), 'mcp-sidecar-test-'))
  const configFile = join(dir, 'sidecar.yaml')
  const config = baseConfig(pki, dir, upstreamUrl)
  change(config)
  writeFileSync(configFile, stringify(config))
  const lines: AuditLine[] = []
  const log: string[] = []
  const sidecar = await startSidecar({
    configPath: configFile,
    env,
    stdout: collect(text => lines.push(JSON.parse(text) as AuditLine)),
    stderr: collect(text => log.push(text)),
    version: '0.0.0-test',
    deadlines,
    // Client, server and sidecar share one event loop here, and on a slow day it is late without any load.
    overload: { watchesTimers: false, ...overload },
  })
  return {
    sidecar,
    port: sidecar.ports.mtls ?? 0,
    admin: `http://127.0.0.1:${sidecar.ports.admin}`,
    pki,
    dir,
    configFile,
    lines,
    log,
    rewrite(further) {
      further(config)
      writeFileSync(configFile, stringify(config))
    },
    async stop() {
      const code = await sidecar.stop('test')
      rmSync(dir, { recursive: true, force: true })
      return code
    },
  }
}

function collect(line: (text: string) => void): Writable {
  let rest = ''
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      rest += String(chunk)
      const parts = rest.split('\n')
      rest = parts.pop() ?? ''
      for (const part of parts) line(part)
      done()
    },
  })
}

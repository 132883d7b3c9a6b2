import { spawn } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { stringify } from 'yaml'
import { builtProgram } from '../test/support/built-program.ts'
import {
  compareRuns,
  REQUIREMENT_SETS,
  type RequirementSet,
  runSuite,
  type SuiteRun,
} from '../test/support/conformance.ts'
import { startEverythingServer } from '../test/support/everything-server.ts'
import { temporaryFolder, testPki } from '../test/support/pki.ts'
import { startPlainBridge } from '../test/support/plain-bridge.ts'
import { baseConfig } from '../test/support/sidecar.ts'

/**
 * `npm run conformance`: the official MCP conformance suite against an MCP server, and against the same
 * server behind the sidecar. Every check has to end the same way; with a policy that denies something, just the
 * scenarios that use it may differ. Exit code 1 when anything else is seen. Checks that fail without the sidecar too
 * are of extensions that the server does not have; the suite runs them and does not count them.
 */
async function main(): Promise<number> {
  const upstream = await startEverythingServer()
  try {
    const direct = new Map<RequirementSet, SuiteRun>()
    let isFine = true
    for (const set of REQUIREMENT_SETS) {
      const run = await runSuite(`http://localhost:${upstream.port}/mcp`, set)
      tell('without the sidecar', set, run, [])
      isFine &&= run.conforms
      direct.set(set, run)
    }
    for (const way of WAYS) isFine = (await compareWay(way, upstream.url, direct)) && isFine
    say(isFine ? 'The sidecar changes nothing but what its policy says.' : 'The sidecar changes what it should not.')
    return isFine ? 0 : 1
  } finally {
    await upstream.stop()
  }
}

/** One way through the sidecar. */
interface Way {
  readonly name: string
  readonly protocol: 'http/1.1' | 'h2'
  readonly policy: object
  /** Scenarios that have to differ, because they use what the policy denies. */
  readonly differs: Readonly<Record<RequirementSet, readonly string[]>>
}

const NOWHERE = { '2025-11-25': [], '2026-07-28': [] }

const WAYS: readonly Way[] = [
  {
    name: 'everything allowed by default, HTTP/1.1',
    protocol: 'http/1.1',
    policy: { default: 'allow' },
    differs: NOWHERE,
  },
  {
    // Lists are read and filtered here, and nothing falls out of them.
    name: 'everything allowed by rules, HTTP/2',
    protocol: 'h2',
    policy: {
      rules: [
        { id: 'methods', effect: 'allow', methods: ['*'] },
        { id: 'objects', effect: 'allow', tools: ['*'], prompts: ['*'], resources: ['**'] },
      ],
    },
    differs: NOWHERE,
  },
  {
    name: 'some things denied, HTTP/1.1',
    protocol: 'http/1.1',
    policy: {
      default: 'allow',
      rules: [
        { id: 'no-images', effect: 'deny', tools: ['test_image_*'], prompts: ['*_with_image'] },
        { id: 'no-binaries', effect: 'deny', resources: ['test://static-binary'] },
        { id: 'no-schemas', effect: 'deny', tools: ['json_schema_*'] },
        { id: 'no-log-levels', effect: 'deny', methods: ['logging/setLevel'] },
      ],
    },
    differs: {
      '2025-11-25': [
        // Its tool is not called but looked for in the list.
        'json-schema-2020-12',
        'logging-set-level',
        'prompts-get-with-image',
        'resources-read-binary',
        'tools-call-image',
        // Sets its log level first.
        'tools-call-with-logging',
      ],
      '2026-07-28': ['json-schema-2020-12', 'prompts-get-with-image', 'resources-read-binary', 'tools-call-image'],
    },
  },
]

/** Runs both sets one way and tells what differs. @returns whether just that differs which should. */
async function compareWay(
  way: Way,
  upstreamUrl: string,
  direct: ReadonlyMap<RequirementSet, SuiteRun>,
): Promise<boolean> {
  const pki = await testPki()
  const bridge = await startPlainBridge({ ca: pki.ca.cert, identity: pki.gateway, protocol: way.protocol })
  const sidecar = await startSidecar(upstreamUrl, bridge.port, way.policy)
  bridge.connectTo(sidecar.port)
  let isFine = true
  try {
    for (const set of REQUIREMENT_SETS) {
      const run = await runSuite(`http://localhost:${bridge.port}/mcp`, set)
      const differences = compareRuns(direct.get(set) as SuiteRun, run)
      const expected = new Set(way.differs[set])
      const found = new Set(differences.map(difference => difference.scenario))
      tell(way.name, set, run, [...found])
      for (const { scenario, lines } of differences) {
        if (!expected.has(scenario)) say(`  ${scenario} should be as without the sidecar (-), and is not (+)`, ...lines)
      }
      const missing = [...expected].filter(scenario => !found.has(scenario))
      for (const scenario of missing) say(`  ${scenario} should feel the policy, and does not`)
      isFine &&= missing.length === 0 && differences.every(difference => expected.has(difference.scenario))
    }
  } finally {
    await bridge.stop()
    const { code, auditLines, complaints } = await sidecar.stop()
    say(`  ${auditLines} audit lines`)
    if (code !== 0) {
      say(`  the sidecar ended with exit code ${code}`, ...complaints.slice(-20))
      isFine = false
    }
  }
  return isFine
}

interface SidecarProcess {
  readonly port: number
  stop(): Promise<{ code: number; auditLines: number; complaints: readonly string[] }>
}

const READY_MS = 20_000
const STOP_MS = 15_000

/** The sidecar as it runs in a pod: a process of its own, whose standard output is the audit log. */
async function startSidecar(upstreamUrl: string, bridgePort: number, policy: object): Promise<SidecarProcess> {
  const dir = temporaryFolder('mcp-conformance-')
  const [port, adminPort] = await freePorts()
  const config = {
    ...baseConfig(await testPki(), dir, upstreamUrl),
    // The suite comes as a page of localhost would, with the bridge's port in Host and Origin.
    listen: { address: `127.0.0.1:${port}`, hosts: ['localhost'], origins: [`http://localhost:${bridgePort}`] },
    admin: { address: `127.0.0.1:${adminPort}`, operations: 'off' },
    policy,
  }
  writeFileSync(join(dir, 'sidecar.yaml'), stringify(config))

  const child = spawn(process.execPath, [builtProgram(), 'run', '--config', join(dir, 'sidecar.yaml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let auditLines = 0
  const complaints: string[] = []
  createInterface({ input: child.stdout }).on('line', () => auditLines++)
  createInterface({ input: child.stderr }).on('line', line => complaints.push(line))
  const ended = new Promise<number>(resolve => child.once('close', code => resolve(code ?? 1)))

  const isReady = await Promise.race([untilReady(adminPort), ended.then(() => false)])
  if (!isReady) {
    child.kill('SIGKILL')
    throw new Error(['the sidecar did not start', ...complaints].join('\n'))
  }
  return {
    port,
    async stop() {
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      const code = await ended
      clearTimeout(late)
      rmSync(dir, { recursive: true, force: true })
      return { code, auditLines, complaints }
    },
  }
}

async function untilReady(adminPort: number): Promise<boolean> {
  const deadline = Date.now() + READY_MS
  while (Date.now() < deadline) {
    const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz`).catch(() => undefined)
    await answer?.arrayBuffer()
    if (answer?.status === 200) return true
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  return false
}

/** Two ports that are free now. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()]
  const ports = await Promise.all(
    servers.map(
      server =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject)
          server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
        }),
    ),
  )
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
  return [ports[0] as number, ports[1] as number]
}

function tell(way: string, set: RequirementSet, run: SuiteRun, differing: readonly string[]): void {
  const differs = differing.length === 0 ? '' : `; differs in ${differing.join(', ')}`
  const verdict = run.conforms ? 'conforms' : 'does not conform'
  say(
    `${set}, ${way}: ${verdict}, ${run.scenarios.size} scenarios, ${run.passed} checks passed, ${run.failed} failed${differs}`,
  )
}

function say(...lines: readonly string[]): void {
  for (const line of lines) process.stdout.write(`${line}\n`)
}

process.exitCode = await main()

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { builtProgram } from '../test/support/built-program.ts'
import { startGatewayLoad } from '../test/support/gateway-load.ts'
import { temporaryFolder, testPki } from '../test/support/pki.ts'
import { RotatingTrust, type RotationTimes, startAnsweringServer } from '../test/support/rotation.ts'
import { baseConfig } from '../test/support/sidecar.ts'
import { type Held, heldBy } from './chaos/process.ts'
import { median } from './soak/drift.ts'
import { countOf, isOverload, SoakedProgram } from './soak/program.ts'

/**
 * `npm run soak:rotation [-- --rotations 500]`: the sidecar as a process of its own, with leaf, key and CA rotated
 * again and again as cert-manager, trust-manager and the kubelet do it, under constant load over 16 connections. Exit code 1 when a request has failed, a connection was cut that need not be, a rotation was kept back,
 * or memory, open files or watches have grown. On a machine that has no time for it the sidecar turns connections and
 * calls away; those come again, and each has to be in the audit log as just that. How soon each step was live is
 * printed, as the machine has it.
 */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { rotations: { type: 'string', default: '500' } },
  })
  const rotations = Number(values.rotations)
  if (!Number.isInteger(rotations) || rotations < 1) return complain(`--rotations ${values.rotations} is no number`)

  const dir = temporaryFolder('mcp-sidecar-soak-')
  const trust = new RotatingTrust(dir)
  await trust.publish()
  const upstream = await startAnsweringServer()
  const configFile = join(dir, 'sidecar.yaml')
  const config = { ...baseConfig(await testPki(), dir, upstream.url), tls: trust.files }
  writeFileSync(configFile, stringify(config))

  const log = new TrustLog()
  const sidecar = new SoakedProgram(builtProgram(), HEAP, configFile, line => log.note(line))
  const port = await sidecar.serving
  const load = startGatewayLoad({
    port,
    credential: trust.credential,
    connections: CONNECTIONS,
    pauseMs: 20,
    retriesTurnedAway: true,
  })
  const times: RotationTimes[] = []
  const held: Held[] = []
  try {
    for (let rotation = 1; rotation <= rotations && load.failures.length === 0; rotation++) {
      times.push(await trust.rotate(port, load))
      held.push(heldBy(sidecar.pid))
      if (rotation % 25 === 0) say(`${rotation} rotations, ${load.counts.answered} answers; ${told(held.at(-1))}`)
    }
  } finally {
    await load.stop()
    await sidecar.stop()
    await upstream.stop()
  }

  for (const step of ['caAdded', 'leafReplaced', 'caRemoved'] as const) say(distribution(step, times))
  const faults = [
    ...load.failures.map(failure => `failed: ${failure}`),
    ...log.cut.map(line => `cut: ${line}`),
    ...log.kept.map(line => `kept back: ${line}`),
    ...growth(held),
    ...(load.counts.turnedAway <= log.overloaded
      ? []
      : [`${load.counts.turnedAway} were turned away, and the log says so of ${log.overloaded}`]),
    ...(log.reloads >= 3 * rotations ? [] : [`only ${log.reloads} generations were taken into use`]),
  ]
  for (const fault of faults.slice(0, 20)) complain(fault)
  const { answered, connected, repeated, turnedAway } = load.counts
  say(
    `${times.length} rotations, ${log.reloads} generations, ${answered} requests answered, ${load.failures.length} failed, ` +
      `${repeated} repeated, ${turnedAway} turned away by overload, ${connected} connections, ${log.cut.length} cut`,
  )
  return faults.length === 0 ? 0 : 1
}

const CONNECTIONS = 16

/** What the image's NODE_OPTIONS come to under the memory limit of the manifests, 256 MiB. */
const HEAP = ['--max-old-space-size=128', '--max-semi-space-size=4', '--v8-pool-size=1']

/** What the audit lines say of trust and connections. */
class TrustLog {
  readonly cut: string[] = []
  readonly kept: string[] = []
  reloads = 0
  /** Connections and calls that were turned away because there was too much to do. */
  overloaded = 0

  note(line: string): void {
    // Most lines are calls; only the others are read.
    if (line.includes('"event":"trust.reloaded"')) this.reloads++
    else if (isOverload(line)) this.overloaded += countOf(line)
    else if (line.includes('"event":"trust.kept"')) this.kept.push(line)
    // The probe that holds on to the old CA is to be cut.
    else if (line.includes('"event":"connection.closed"') && !line.includes('CN=probe')) this.cut.push(line)
  }
}

/** Growth is what the last fifth has over the second: by then everything is loaded that ever will be. */
function growth(held: readonly Held[]): string[] {
  if (held.length < 50) return []
  const fifth = Math.floor(held.length / 5)
  const before = held.slice(fifth, 2 * fifth)
  const after = held.slice(-fifth)
  const faults: string[] = []
  const [anonBefore, anonAfter] = [median(before.map(h => h.anonMiB)), median(after.map(h => h.anonMiB))]
  say(`memory: median ${mib(anonBefore)} in the second fifth, ${mib(anonAfter)} in the last`)
  // A leak of one context a rotation would be some 50 MiB in 500.
  if (anonAfter > anonBefore * 1.1 + 8) faults.push(`memory has grown from ${mib(anonBefore)} to ${mib(anonAfter)}`)
  for (const what of ['files', 'watches'] as const) {
    const [low, high] = [Math.max(...before.map(h => h[what])), median(after.map(h => h[what]))]
    if (high > low) faults.push(`open ${what} have grown from ${low} to ${high}`)
  }
  return faults
}

function told(held: Held | undefined): string {
  return held === undefined ? '' : `${mib(held.anonMiB)} anonymous, ${held.files} open files, ${held.watches} watches`
}

function distribution(step: keyof RotationTimes, times: readonly RotationTimes[]): string {
  const ms = times.map(time => time[step]).toSorted((a, b) => a - b)
  const at = (share: number) => `${Math.round(ms[Math.min(ms.length - 1, Math.floor(ms.length * share))] ?? 0)} ms`
  const late = ms.filter(value => value > 1000).length
  return `${step}: live after ${at(0.5)} (median), ${at(0.99)} (p99), ${at(1)} (longest); ${late} of ${ms.length} took over 1 s`
}

function mib(mebibytes: number): string {
  return `${mebibytes.toFixed(1)} MiB`
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function complain(line: string): number {
  process.stderr.write(`${line}\n`)
  return 1
}

process.exitCode = await main()

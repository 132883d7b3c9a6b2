import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { startGatewayLoad } from '../test/support/gateway-load.ts'
import { temporaryFolder, testPki } from '../test/support/pki.ts'
import { RotatingTrust, type RotationTimes, startAnsweringServer } from '../test/support/rotation.ts'
import { baseConfig } from '../test/support/sidecar.ts'

/**
 * `npm run soak:rotation [-- --rotations 500] [--dist]`: the sidecar as a process of its own, with leaf, key and CA
 * rotated again and again as cert-manager, trust-manager and the kubelet do it, under constant load over 16
 * connections. Exit code 1 when a request has failed, a connection was cut that need not be, a rotation was kept back,
 * or memory, open files or watches have grown. On a machine that has no time for it the sidecar turns connections and
 * calls away; those come again, and each has to be in the audit log as just that. How soon each step was live is
 * printed, as the machine has it.
 */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { rotations: { type: 'string', default: '500' }, dist: { type: 'boolean', default: false } },
  })
  const rotations = Number(values.rotations)
  if (!Number.isInteger(rotations) || rotations < 1) return complain(`--rotations ${values.rotations} is no number`)
  const program = fileURLToPath(new URL(values.dist ? '../dist/mcp-sidecar.mjs' : '../src/main.ts', import.meta.url))
  if (!existsSync(program)) return complain(`${program} is not there; npm run build makes it`)

  const dir = temporaryFolder('mcp-sidecar-soak-')
  const trust = new RotatingTrust(dir)
  await trust.publish()
  const upstream = await startAnsweringServer()
  const configFile = join(dir, 'sidecar.yaml')
  const config = { ...baseConfig(await testPki(), dir, upstream.url), tls: trust.files }
  writeFileSync(configFile, stringify(config))

  const sidecar = new SidecarProcess(program, configFile)
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
      held.push(sidecar.holds())
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
    ...sidecar.cut.map(line => `cut: ${line}`),
    ...sidecar.kept.map(line => `kept back: ${line}`),
    ...growth(held),
    ...(load.counts.turnedAway <= sidecar.overloaded
      ? []
      : [`${load.counts.turnedAway} were turned away, and the log says so of ${sidecar.overloaded}`]),
    ...(sidecar.reloads >= 3 * rotations ? [] : [`only ${sidecar.reloads} generations were taken into use`]),
  ]
  for (const fault of faults.slice(0, 20)) complain(fault)
  const { answered, connected, repeated, turnedAway } = load.counts
  say(
    `${times.length} rotations, ${sidecar.reloads} generations, ${answered} requests answered, ${load.failures.length} failed, ` +
      `${repeated} repeated, ${turnedAway} turned away by overload, ${connected} connections, ${sidecar.cut.length} cut`,
  )
  return faults.length === 0 ? 0 : 1
}

const CONNECTIONS = 16

/** What the image's NODE_OPTIONS come to under the memory limit of the manifests, 256 MiB. */
const HEAP = ['--max-old-space-size=128', '--max-semi-space-size=4']

const OVERLOADED = /"reason":"(?:OVERLOADED|sidecar_overloaded)"/

/** What a process holds at one moment. */
interface Held {
  readonly rssBytes: number
  readonly files: number
  readonly watches: number
}

/** The sidecar, and what its audit lines say of trust and connections. */
class SidecarProcess {
  readonly serving: Promise<number>
  readonly cut: string[] = []
  readonly kept: string[] = []
  reloads = 0
  /** Connections and calls that were turned away because there was too much to do. */
  overloaded = 0
  readonly #child: ChildProcess
  readonly #exited: Promise<void>

  constructor(program: string, configFile: string) {
    const child = spawn(process.execPath, [...HEAP, program, 'run', '--config', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    // And everything that it has said has been read.
    this.#exited = new Promise(resolve => child.once('close', () => resolve()))
    createInterface({ input: child.stdout }).on('line', line => this.#onAudit(line))
    this.serving = new Promise((resolve, reject) => {
      child.once('exit', code => reject(new Error(`the sidecar has ended with code ${code}`)))
      createInterface({ input: child.stderr }).on('line', line => {
        const serving = /serving mTLS on \S*:(\d+) /.exec(line)
        if (serving !== null) resolve(Number(serving[1]))
      })
    })
  }

  holds(): Held {
    const proc = `/proc/${this.#child.pid}`
    const fds = readdirSync(`${proc}/fd`)
    let watches = 0
    for (const fd of fds) {
      const isWatcher = tryRead(() => readlinkSync(`${proc}/fd/${fd}`)).includes('inotify')
      if (isWatcher)
        watches += tryRead(() => readFileSync(`${proc}/fdinfo/${fd}`, 'utf8')).split('\ninotify ').length - 1
    }
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`${proc}/status`, 'utf8'))
    return { rssBytes: Number(rss?.[1] ?? 0) * 1024, files: fds.length, watches }
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    await this.#exited
  }

  #onAudit(line: string): void {
    // Most lines are calls; only the others are read.
    if (line.includes('"event":"trust.reloaded"')) this.reloads++
    else if (OVERLOADED.test(line)) this.overloaded += Number(/"count":(\d+)/.exec(line)?.[1] ?? 1)
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
  const [rssBefore, rssAfter] = [median(before.map(h => h.rssBytes)), median(after.map(h => h.rssBytes))]
  say(`memory: median ${mib(rssBefore)} in the second fifth, ${mib(rssAfter)} in the last`)
  // A leak of one context a rotation would be some 50 MiB in 500.
  if (rssAfter > rssBefore * 1.1 + 8 * 2 ** 20)
    faults.push(`memory has grown from ${mib(rssBefore)} to ${mib(rssAfter)}`)
  for (const what of ['files', 'watches'] as const) {
    const [low, high] = [Math.max(...before.map(h => h[what])), median(after.map(h => h[what]))]
    if (high > low) faults.push(`open ${what} have grown from ${low} to ${high}`)
  }
  return faults
}

function told(held: Held | undefined): string {
  return held === undefined ? '' : `${mib(held.rssBytes)}, ${held.files} open files, ${held.watches} watches`
}

function distribution(step: keyof RotationTimes, times: readonly RotationTimes[]): string {
  const ms = times.map(time => time[step]).toSorted((a, b) => a - b)
  const at = (share: number) => `${Math.round(ms[Math.min(ms.length - 1, Math.floor(ms.length * share))] ?? 0)} ms`
  const late = ms.filter(value => value > 1000).length
  return `${step}: live after ${at(0.5)} (median), ${at(0.99)} (p99), ${at(1)} (longest); ${late} of ${ms.length} took over 1 s`
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

function tryRead(read: () => string): string {
  try {
    return read()
  } catch {
    // It has been closed since it was listed.
    return ''
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function complain(line: string): number {
  process.stderr.write(`${line}\n`)
  return 1
}

process.exitCode = await main()

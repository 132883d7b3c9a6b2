import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { stringify } from 'yaml'
import { builtProgram } from '../test/support/built-program.ts'
import { eventually } from '../test/support/eventually.ts'
import { type GatewayLoad, startGatewayLoad } from '../test/support/gateway-load.ts'
import { watchLivez } from '../test/support/livez-watch.ts'
import { temporaryFolder, testPki } from '../test/support/pki.ts'
import { RotatingTrust } from '../test/support/rotation.ts'
import { baseConfig } from '../test/support/sidecar.ts'
import { type Held, heldBy } from './chaos/process.ts'
import { freePort, MisbehavingServer } from './chaos/server.ts'
import { driftOf, median } from './soak/drift.ts'
import { countOf, isOverload, SoakedProgram } from './soak/program.ts'
import { Visitors } from './soak/visitors.ts'

/**
 * `npm run soak [-- --short]`: the built bundle under an even load, for ten minutes and a million calls, whichever is
 * later. Connections come and go, so do event streams; the policy is reloaded, and leaf, key and CA are rotated, all the
 * time. `--short` is twenty seconds; `--minutes` and `--calls` choose.
 *
 * It prints what the process holds every 30 s, and ends with exit code 1 when
 * - anonymous memory (RssAnon) drifts by more than 2 % over the second half (a short run only says its drift);
 * - calls that were answered and lines of the audit log are not equal in number, or a call went wrong;
 * - a reload was kept back or got lost, `/livez` failed, or the end was not clean;
 * - files, sockets or watches are open, afterwards, that were not in the beginning.
 */
const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '10' },
    calls: { type: 'string', default: '1000000' },
  },
})
const seconds = values.short ? 20 : Number(values.minutes) * 60
const leastCalls = values.short ? 0 : Number(values.calls)
/** Nothing is sampled before: the JIT and the pools of the process fill first. */
const settleSeconds = Math.min(60, seconds / 5)
const rotateEveryMs = values.short ? 4000 : 15_000
const reloadEveryMs = values.short ? 1500 : 5000
const SAMPLE_MS = 500
const MOST_DRIFT = 0.02
/** What the image sets, for a container of 128 MiB. */
const HEAP = ['--max-old-space-size=64', '--max-semi-space-size=4', '--v8-pool-size=1']
/** Together about 1,700 calls a second. */
const CONNECTIONS = 64
const PAUSE_MS = 30

/** What the audit log has said, in numbers. */
const log = { calls: 0, probes: 0, opened: 0, closed: 0, overloaded: 0, cut: 0, trust: 0, config: 0, others: 0 }
const faults: string[] = []

await main()
for (const fault of faults.slice(0, 30)) console.error(`fault: ${fault.slice(0, 500)}`)
console.log(faults.length === 0 ? 'steady' : `${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)

async function main(): Promise<void> {
  const dir = temporaryFolder('mcp-sidecar-soak-')
  const upstream = new MisbehavingServer(await freePort(), '/dev/null')
  await upstream.start()
  const trust = new RotatingTrust(dir)
  await trust.publish()
  const admin = await freePort()
  const config: Record<string, unknown> = {
    ...baseConfig(await testPki(), dir, upstream.url),
    tls: trust.files,
    // How long a busy machine takes to accept is not what is looked at here.
    upstream: { url: upstream.url, timeouts: { connect: '10s' } },
    admin: { address: `127.0.0.1:${admin}`, operations: `unix:${join(dir, 'ops.sock')}` },
  }
  const configFile = join(dir, 'sidecar.yaml')
  writeFileSync(configFile, stringify(config))
  const sidecar = new SoakedProgram(builtProgram(), HEAP, configFile, noteLine)
  const port = await sidecar.serving
  const livez = await watchLivez(`http://127.0.0.1:${admin}`, 50)
  await sleep(2000)
  const idle = heldBy(sidecar.pid)

  const gateways = startGatewayLoad({
    ...{ port, credential: trust.credential, connections: CONNECTIONS, pauseMs: PAUSE_MS },
    ...{ callsPerConnection: 100, retriesTurnedAway: true },
  })
  const visitors = new Visitors(port, trust.credential, 16, 4000)
  const isOver = (): boolean =>
    elapsed() >= seconds * 1000 && gateways.counts.answered + visitors.counts.called >= leastCalls
  const begun = performance.now()
  const elapsed = (): number => performance.now() - begun
  const hasFailed = (): boolean => gateways.failures.length + visitors.failures.length > 0

  const done = { rewrites: 0, rotations: 0 }
  const rotating = every(rotateEveryMs, isOver, async () => {
    if (hasFailed()) return
    await trust.rotate(port, {
      offer(credential) {
        gateways.offer(credential)
        visitors.offer(credential)
      },
      reconnect: () => gateways.reconnect(),
    })
    done.rotations++
  })
  const reloading = every(reloadEveryMs, isOver, async () => {
    const { rules } = config['policy'] as { rules: unknown[] }
    rules.splice(1, 1, { id: `nobody-${done.rewrites}`, effect: 'deny', when: { users: [`nobody-${done.rewrites}`] } })
    // Replaced whole: half a file would be kept back, and rightly.
    writeFileSync(`${configFile}.next`, stringify(config))
    renameSync(`${configFile}.next`, configFile)
    done.rewrites++
  })

  const samples: number[] = []
  let row: Held[] = []
  console.log('    time      calls  connections  streams   RssAnon  files  watches  rotations  reloads')
  const print = (): void => {
    const { files, watches } = row.at(-1) as Held
    const memory = `${median(row.map(held => held.anonMiB)).toFixed(1)} MiB`
    const cells = [
      gateways.counts.answered,
      gateways.counts.connected,
      log.opened,
      memory,
      files,
      watches,
      log.trust / 3,
    ]
    const widths = [10, 12, 8, 10, 6, 8, 10]
    const told = cells.map((cell, i) =>
      (typeof cell === 'number' ? String(Math.floor(cell)) : cell).padStart(widths[i] ?? 0),
    )
    console.log(
      `${`${Math.round(elapsed() / 1000)} s`.padStart(8)} ${told.join(' ')} ${String(log.config).padStart(8)}`,
    )
    row = []
  }
  while (!isOver() && !hasFailed()) {
    await sleep(SAMPLE_MS)
    const held = heldBy(sidecar.pid)
    row.push(held)
    if (elapsed() >= settleSeconds * 1000) samples.push(held.anonMiB)
    if (row.length >= (values.short ? 5000 : 30_000) / SAMPLE_MS) print()
  }
  if (row.length > 0) print()
  if (hasFailed()) faults.push('stopped at the first call that went wrong')
  await Promise.all([rotating.stop(), reloading.stop()])
  await Promise.all([gateways.stop(), visitors.stop()])
  // Idle connections to the server are closed after a few seconds, and so is what clients have left.
  await sleep(6000)
  // On a machine that is busy the last reload may take its time.
  await eventually(() => log.config >= done.rewrites, 20_000).catch(() => {})
  const left = heldBy(sidecar.pid)
  const probes = await livez()
  const code = await sidecar.stop()
  upstream.kill()

  judgeMemory(samples, idle, left)
  judgeHeld(idle, left)
  judgeAccounts(gateways, visitors)
  if (log.trust < 3 * done.rotations) faults.push(`${done.rotations} rotations made ${log.trust} generations of trust`)
  if (log.config < done.rewrites) faults.push(`of ${done.rewrites} configurations ${log.config} were taken into use`)
  if (probes.failures.length > 0) faults.push(`/livez: ${probes.failures[0]}`)
  if (code !== 0) faults.push(`the sidecar ended with ${code}`)
}

/** Counts one line; of calls, which are nearly all, nothing else is read. */
function noteLine(line: string): void {
  const event = /"event":"([^"]+)"/.exec(line)?.[1] ?? ''
  // Who looks whether a rotation is live has calls of its own, and connections that are refused and cut.
  const isProbe = line.includes('"subject":"CN=probe"')
  if (isProbe) log.probes += countOf(line)
  else if (event === 'mcp.call') log.calls++
  else if (event === 'mcp.stream.open') log.opened++
  else if (event === 'mcp.stream.close') log.closed++
  else if (event === 'trust.reloaded') log.trust++
  else if (event === 'config.reloaded') log.config++
  // Streams whose caller came with a certificate of the CA that has gone; calls have other connections by then.
  else if (event === 'connection.closed' && line.includes('"reason":"CA_REMOVED"')) log.cut += countOf(line)
  else if (isOverload(line)) log.overloaded += countOf(line)
  else if (event === 'trust.kept' || event === 'config.kept' || event === 'audit.gap') faults.push(line)
  else if (event === 'connection.refused' || event === 'connection.closed' || event === 'mcp.refused') faults.push(line)
  else log.others++
}

function judgeMemory(samples: readonly number[], idle: Held, left: Held): void {
  const drift = driftOf(samples)
  const quarter = Math.floor(samples.length / 4)
  const quarters = [0, 1, 2, 3].map(i => median(samples.slice(i * quarter, (i + 1) * quarter)).toFixed(1))
  console.log(
    `RssAnon: ${idle.anonMiB.toFixed(1)} MiB before, ${left.anonMiB.toFixed(1)} MiB after; medians of the quarters ` +
      `${quarters.join(', ')} MiB; drift over the second half ${(drift * 100).toFixed(2)} %`,
  )
  if (drift > MOST_DRIFT && values.short) console.log('a short run says nothing about drift')
  else if (drift > MOST_DRIFT) faults.push(`memory drifts by ${(drift * 100).toFixed(2)} %, at most 2 % is steady`)
}

function judgeHeld(idle: Held, left: Held): void {
  console.log(
    `open before: ${idle.files} files (${idle.sockets} sockets), ${idle.watches} watches; ` +
      `after: ${left.files} files (${left.sockets} sockets), ${left.watches} watches`,
  )
  if (left.sockets > idle.sockets + 4) faults.push(`${left.sockets} sockets are open, ${idle.sockets} were before`)
  if (left.files > idle.files + 6) faults.push(`${left.files} files are open, ${idle.files} were before`)
  if (left.watches !== idle.watches) faults.push(`${left.watches} watches, ${idle.watches} before`)
}

function judgeAccounts({ counts, failures }: GatewayLoad, visitors: Visitors): void {
  const { listened, called } = visitors.counts
  const answered = counts.answered + called
  const turnedAway = counts.turnedAway + visitors.counts.turnedAway
  console.log(
    `clients: ${answered} calls answered on ${counts.connected} connections and ${called} of their own, ${listened} streams ` +
      `heard, ${turnedAway} turned away; log: ${log.calls} calls, ${log.opened} streams opened, ${log.closed} closed, ` +
      `${log.overloaded} turned away, ${log.cut} cut with their CA, ${log.probes} lines of the probe, ${log.others} others`,
  )
  faults.push(...[...failures, ...visitors.failures].slice(0, 10))
  if (log.calls !== answered) faults.push(`${answered} calls were answered, and the log has ${log.calls}`)
  if (log.opened !== listened) faults.push(`${listened} streams were seen, and the log has ${log.opened}`)
  if (log.closed !== log.opened) faults.push(`${log.opened} streams were opened, and ${log.closed} closed`)
  // The probe is turned away as well, without a count of its own.
  if (log.overloaded < turnedAway) faults.push(`${turnedAway} were turned away, and the log has ${log.overloaded}`)
}

/** Does it again and again, so far apart, until it is over; an error is a fault. */
function every(ms: number, isOver: () => boolean, act: () => Promise<void>): { stop(): Promise<void> } {
  let wake: (() => void) | undefined
  let isStopped = false
  const running = (async () => {
    while (!isStopped && !isOver()) {
      await act()
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, ms)
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
        if (isStopped) wake()
      })
    }
  })().catch((error: unknown) => void faults.push(String(error)))
  return {
    stop() {
      isStopped = true
      wake?.()
      return running
    },
  }
}

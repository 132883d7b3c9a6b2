import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { builtProgram } from '../test/support/built-program.ts'
import { eventually } from '../test/support/eventually.ts'
import { imageMalloc } from '../test/support/image-malloc.ts'
import { watchLivez } from '../test/support/livez-watch.ts'
import { temporaryFolder } from '../test/support/pki.ts'
import { RotatingTrust } from '../test/support/rotation.ts'
import { linesOf, SidecarProcess } from '../test/support/sidecar-process.ts'
import { ChaosLoad } from './chaos/load.ts'
import { type Held, heldBy, metric } from './chaos/process.ts'
import { freePort, MisbehavingServer } from './chaos/server.ts'

/**
 * `npm run chaos [-- --short] [--keep DIR]`: the sidecar as a process of its own under constant load, while everything around it
 * breaks: the server, the clients, stdout, descriptors, the clock, the CPU, and in the end certificates, configuration
 * and the process itself at once. About two minutes; `--short` about forty seconds. `--keep`
 * leaves the audit log and what the server has seen in a folder.
 *
 * It ends with the accounting, and with exit code 1 when that does not close: every call is answered or refused by a
 * reason of the table; every request that reached the server has exactly one audit line and was sent once; the log
 * verifies from its first line to its closing line; nothing is left open; memory is back; `/livez` has answered all along.
 *
 * Not done here: a real jump of the system clock (it would hit the whole machine; the process gets a clock that is off,
 * in all that JavaScript sees, which leaves out OpenSSL's own look at validity) and a CPU quota of a cgroup (needs one
 * that can be written; busy siblings and a low priority stand for it).
 */
const { values } = parseArgs({ options: { short: { type: 'boolean', default: false }, keep: { type: 'string' } } })
/** What the image sets. */
const HEAP = '--max-old-space-size=128 --max-semi-space-size=4 --v8-pool-size=1'
const scale = values.short ? 1 : 4
const dir = temporaryFolder('mcp-sidecar-chaos-')
const seenFile = join(dir, 'upstream-saw')
const clockFile = join(dir, 'clock')
const faults: string[] = []
const hasPrlimit = existsSync('/usr/bin/prlimit')

await main()
await fullDisk()
for (const fault of faults.slice(0, 30)) console.error(`fault: ${fault}`)
console.log(faults.length === 0 ? 'the accounting closes' : `${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)

async function main(): Promise<void> {
  writeFileSync(seenFile, '')
  writeFileSync(clockFile, '0')
  const upstream = new MisbehavingServer(await freePort(), seenFile)
  await upstream.start()
  const trust = new RotatingTrust(dir)
  await trust.publish()
  const sidecar = await SidecarProcess.start(
    upstream.url,
    config => {
      config['tls'] = trust.files
      config['upstream'] = {
        url: upstream.url,
        timeouts: { connect: '1s', firstByte: '1s', streamIdle: '2s' },
        breaker: { openFor: '1s', minimum: 20, window: '2s' },
      }
      config['drain'] = { lameDuck: '1s', grace: '6s' }
    },
    {
      NODE_OPTIONS: `${HEAP} --import=${join(import.meta.dirname, 'chaos/clock.mjs')}`,
      CHAOS_CLOCK: clockFile,
      ...imageMalloc(),
    },
    hasPrlimit ? { wrapper: ['prlimit', '--nofile=400:4096'] } : {},
  )
  const pid = sidecar.child.pid ?? 0
  const livez = await watchLivez(sidecar.admin, 50)
  void sidecar.ended.then(livez)
  const load = new ChaosLoad('first', sidecar.port, trust.credential)

  const idle = heldBy(pid)
  load.start(16, 4, 4)
  await phase(load, 'calm', async () => sleep(2500 * scale))
  const loaded = heldBy(pid)

  await phase(load, 'the server is killed, and comes back', async () => {
    for (let i = 0; i < scale; i++) {
      load.tools = ['search_docs', 'search_slow', 'count']
      // What was being answered breaks off with the server.
      load.mayEnd = true
      upstream.kill()
      await sleep(300)
      load.mayEnd = false
      await sleep(500)
      await upstream.start()
      await sleep(1000)
    }
  })
  await phase(load, 'the server freezes', async () => {
    upstream.child.kill('SIGSTOP')
    await sleep(1500)
    upstream.child.kill('SIGCONT')
    await sleep(1000)
  })
  for (const [name, tool] of [
    ['the server is slow', 'search_slow'],
    ['the server resets', 'search_reset'],
    ['the server sends garbage', 'search_garbage'],
    ['the server storms with 100-continue', 'search_storm'],
    ['the server says that it is at fault', 'search_fault'],
  ] as const) {
    await phase(load, name, async () => {
      load.tools = ['search_docs', 'search_docs', 'search_docs', 'count', tool]
      await sleep(1200 * scale)
    })
  }
  await phase(load, 'the server closes what it had kept alive', async () => {
    load.tools = ['search_close']
    await sleep(1200 * scale)
    load.tools = ['search_docs', 'count']
  })
  await phase(load, 'clients go away in the middle', async () => {
    load.resets = 0.5
    load.tools = ['search_docs', 'search_slow', 'count']
    await sleep(1500 * scale)
    load.resets = 0
    load.tools = ['search_docs', 'count']
  })
  await phase(load, 'nobody reads stdout', async () => {
    sidecar.reader.kill('SIGSTOP')
    await sleep(1500 * scale)
    sidecar.reader.kill('SIGCONT')
    await eventually(async () => (await metric(sidecar.admin, 'mcp_sidecar_audit_blocked')) === 0, 10_000)
  })
  await phase(load, 'strangers take every connection', async () => {
    const strangers = Array.from({ length: 500 }, () => {
      const socket = net.connect({ port: sidecar.port, host: '127.0.0.1', localAddress: '127.0.0.9' })
      return socket.on('error', () => {})
    })
    await sleep(1000)
    if ((await fetch(`${sidecar.admin}/readyz`)).status !== 200) faults.push('not ready among strangers')
    for (const stranger of strangers) stranger.destroy()
    await sleep(300)
  })
  if (hasPrlimit) {
    await phase(load, 'no descriptors are left', async () => {
      const few = heldBy(pid).files + 1
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${few}:4096`])
      await sleep(1200 * scale)
      execFileSync('prlimit', ['--pid', String(pid), '--nofile=400:4096'])
      await sleep(500)
    })
  }
  await phase(load, 'the clock jumps', async () => {
    for (const ms of [600_000, -30_000, 3_600_000, 0]) {
      writeFileSync(clockFile, String(ms))
      await sleep(500 * scale)
    }
  })
  await phase(load, 'the CPU is taken', async () => {
    const busy = Array.from({ length: 4 }, () => spawn(process.execPath, ['-e', 'for(;;);'], { stdio: 'ignore' }))
    execFileSync('renice', ['-n', '10', '-p', String(pid)], { stdio: 'ignore' })
    await sleep(1500 * scale)
    for (const child of busy) child.kill('SIGKILL')
    execFileSync('renice', ['-n', '0', '-p', String(pid)], { stdio: 'ignore' })
    await sleep(1000)
  })
  await phase(load, 'calm again', async () => sleep(1500))

  await quiet(sidecar, load, pid, idle, loaded)
  const again = new ChaosLoad('last', sidecar.port, trust.credential)
  again.start(16, 4, 4)
  await phase(again, 'certificates, configuration and the process, all at once', async () => {
    await sleep(500)
    again.mayEnd = true
    const rotation = trust.rotate(sidecar.port, again).catch(() => 'the process went first')
    const reloads = (async () => {
      for (let i = 0; i < 20; i++) {
        sidecar.rewrite(config => {
          const rules = (config['policy'] as { rules: unknown[] }).rules
          rules.splice(1, 1, { id: `nobody-${i}`, effect: 'deny', when: { users: [`nobody-${i}`] } })
        })
        await sleep(40)
      }
    })()
    await sleep(150)
    sidecar.child.kill('SIGTERM')
    await sleep(500)
    again.leave()
    await Promise.all([rotation, reloads, sidecar.ended])
  })
  await again.stop()
  const probes = await livez()
  upstream.kill()

  const code = await sidecar.ended
  if (code !== 0) faults.push(`the sidecar ended with ${code}: ${sidecar.log().slice(-400)}`)
  const missed = probes.failures
  if (missed.length > 0) faults.push(`/livez: ${missed.length} of ${probes.asked}: ${missed[0]}`)
  console.log(`/livez was asked ${probes.asked} times and took ${Math.round(probes.most)} ms at most`)
  await account(sidecar, [load, again])
  if (values.keep !== undefined) {
    for (const file of [sidecar.auditFile, seenFile]) copyFileSync(file, join(values.keep, basename(file)))
  }
  sidecar.end()
}

async function phase(load: ChaosLoad, name: string, run: () => Promise<unknown>): Promise<void> {
  const [answered, refused, failed] = [load.count('answered'), load.count('refused'), load.failures.length]
  load.latencies.length = 0
  await run()
  const latencies = load.latencies.toSorted((a, b) => a - b)
  const p99 = latencies[Math.floor(latencies.length * 0.99)] ?? 0
  const told = `${load.count('answered') - answered} answered, ${load.count('refused') - refused} refused, p99 ${Math.round(p99)} ms`
  console.log(`${name}: ${told}`)
  for (const failure of load.failures.slice(failed, failed + 5)) faults.push(`${name}: ${failure}`)
}

/** The load ends, and after a moment nothing of it may be left. */
async function quiet(sidecar: SidecarProcess, load: ChaosLoad, pid: number, idle: Held, loaded: Held): Promise<void> {
  await load.stop()
  await eventually(async () => (await metric(sidecar.admin, 'mcp_active_connections')) === 0, 10_000).catch(() => {})
  // Idle connections to the server are closed after a few seconds.
  await sleep(5000)
  for (const name of ['mcp_active_connections', 'mcp_active_streams']) {
    const value = await metric(sidecar.admin, name)
    if (value !== 0) faults.push(`${name} is ${value} after everybody has left`)
  }
  const end = heldBy(pid)
  const timers = await metric(sidecar.admin, 'nodejs_active_resources')
  console.log(
    `held idle ${told(idle)}; under load ${told(loaded)}; afterwards ${told(end)}, ${timers} timers and handles`,
  )
  if (end.sockets > idle.sockets + 4)
    faults.push(`${end.sockets} sockets are open, ${idle.sockets} were in the beginning`)
  if (end.files > idle.files + 6) faults.push(`${end.files} files are open, ${idle.files} were in the beginning`)
  if (end.watches !== idle.watches) faults.push(`${end.watches} watches, ${idle.watches} in the beginning`)
  // Timers of single calls and connections would be hundreds; those of the process itself are a handful.
  if (timers > 60) faults.push(`${timers} timers and handles are active`)
  // What has been compiled meanwhile stays; the machine's own malloc keeps a good deal of what was freed, the image's not.
  const most = loaded.anonMiB * (imageMalloc().LD_PRELOAD === undefined ? 1.35 : 1.15) + 6
  if (end.anonMiB > most) faults.push(`${end.anonMiB} MiB, ${loaded.anonMiB} MiB under the first load`)
}

function told({ anonMiB, files, sockets, watches }: Held): string {
  return `${anonMiB.toFixed(1)} MiB, ${files} files (${sockets} sockets), ${watches} watches`
}

async function account(sidecar: SidecarProcess, loads: readonly ChaosLoad[]): Promise<void> {
  const text = await sidecar.allText()
  const lines = linesOf(text)
  try {
    console.log(
      execFileSync(process.execPath, [builtProgram(), 'audit', 'verify', sidecar.auditFile]).toString().trim(),
    )
  } catch (error) {
    faults.push(`the log does not verify: ${String((error as { stdout?: Buffer }).stdout ?? error)}`)
  }
  const ended = new Map<string, string[]>()
  let refusals = 0
  let calls = 0
  for (const line of lines) {
    const event = String(line['event'])
    if (event === 'mcp.refused') refusals += Number(line['count'] ?? 1)
    if (event === 'mcp.call') calls += 1
    if (event === 'mcp.call' || event === 'mcp.refused' || event === 'mcp.stream.close') {
      const id = String(line['requestId'])
      ended.set(id, [...(ended.get(id) ?? []), event])
    }
  }
  const sent = readFileSync(seenFile, 'utf8').split('\n').filter(Boolean)
  const once = new Set<string>()
  for (const id of sent) {
    if (once.has(id)) faults.push(`${id} was sent to the server twice`)
    once.add(id)
    const events = ended.get(id) ?? []
    if (events.length !== 1)
      faults.push(`${id} reached the server and has ${events.length} lines (${events.join(', ')})`)
  }
  let [answered, refused, broken, unanswered] = [0, 0, 0, 0]
  for (const load of loads) {
    for (const [id, seen] of load.seen) {
      const events = ended.get(id) ?? []
      if ((seen === 'answered' || seen === 'broken') && !(events.length === 1 && events[0] === 'mcp.call'))
        faults.push(`${id} was ${seen} and has the lines: ${events.join(', ')}`)
    }
    answered += load.count('answered')
    refused += load.count('refused')
    broken += load.count('broken')
    unanswered += load.count('unanswered')
  }
  if (refusals < refused) faults.push(`${refused} refusals were seen, and ${refusals} are in the log`)
  const reasons = loads.flatMap(load => [...load.reasons]).map(([reason, n]) => `${reason} ${n}`)
  console.log(
    `clients saw ${answered} answers, ${refused} refusals, ${broken} broken and ${unanswered} without an answer`,
  )
  console.log(`refusals: ${reasons.join(', ')}`)
  console.log(`${sent.length} requests reached the server; the log has ${calls} calls and ${refusals} refusals`)
}

/** Lines that cannot be written at all: no call is let pass, probes answer, and the end is not called good. */
async function fullDisk(): Promise<void> {
  const upstream = new MisbehavingServer(await freePort(), seenFile)
  await upstream.start()
  const sidecar = await SidecarProcess.start(upstream.url, () => {}, {}, { stdout: '/dev/full', isAwaited: false })
  await eventually(async () => (await sidecar.probe('/livez')).status === 200, 10_000)
  await eventually(async () => (await sidecar.probe('/readyz')).status === 503)
  sidecar.child.kill('SIGTERM')
  const code = await sidecar.ended
  upstream.kill()
  console.log(`the disk behind stdout is full: alive, not ready, ended with ${code}`)
  if (code !== 1) faults.push(`with a full disk the sidecar ended with ${code}`)
  sidecar.end()
}

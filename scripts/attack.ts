import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import http2 from 'node:http2'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type tls from 'node:tls'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { deflateSync, gzipSync } from 'node:zlib'
import { imageMalloc } from '../test/support/image-malloc.ts'
import { watchLivez } from '../test/support/livez-watch.ts'
import { temporaryFolder, testPki } from '../test/support/pki.ts'
import { Flag, Frame, frame, postHead, preface } from '../test/support/raw-peers.ts'
import { toolCall, USER_HEADERS } from '../test/support/request.ts'
import { SidecarProcess } from '../test/support/sidecar-process.ts'
import { closed, connectFrom, opened, plainFrom, type Target } from './attack/connections.ts'
import { ChaosLoad } from './chaos/load.ts'
import { heldBy } from './chaos/process.ts'
import { freePort, MisbehavingServer } from './chaos/server.ts'

/**
 * `npm run attack [-- --short --only 'rapid reset']`: the sidecar as a process of its own, honest callers at an even
 * pace, and attackers beside them in a process of their own, from other addresses of the loopback. Long form: 1,000 slow
 * clients and 100,000 bad handshakes.
 *
 * Printed for each attack: the honest callers' p99 as a multiple of its calm value (the aim is 3), and how many of their
 * calls were refused or went wrong. Exit code 1 when one went wrong, when one was refused (in the long form: in the short
 * one, made for machines that have no time, that the sidecar has none is only said), or when the process or its probes
 * failed; a ratio alone is no failure, since attackers, callers and the sidecar share this machine's cores, as they do
 * not in a cluster.
 */
// Options are read again in the process of the attackers.
const { values } = parseArgs({
  options: { short: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
})
const seconds = values.short ? 3 : 15
const slowClients = values.short ? 200 : 1000
const badHandshakes = values.short ? 2000 : 100_000
/** Refusals that come of a machine without time: the sidecar sheds, or its connection to the server takes too long. */
const NO_TIME = new Set(['sidecar_overloaded', 'upstream_unreachable', 'upstream_timeout'])
const faults: string[] = []
const ATTACKS: Readonly<Record<string, (target: Target) => Promise<unknown>>> = {
  [`slow-loris: ${slowClients} clients drip a head`]: slowHeads,
  'slow-loris: bodies that drip': slowBodies,
  'HTTP/2 rapid reset': rapidReset,
  'header bombs': headerBombs,
  [`${badHandshakes} bad handshakes`]: handshakes,
  'bodies and heads that unfold': unfolding,
}
const chosen = Object.keys(ATTACKS).filter(name => name.includes(values.only))

if (process.send === undefined) {
  if (chosen.length === 0) {
    console.error(`no attack is called '${values.only}': ${Object.keys(ATTACKS).join(', ')}`)
    process.exit(2)
  }
  await main()
  for (const fault of faults.slice(0, 30)) console.error(`fault: ${fault}`)
  console.log(faults.length === 0 ? 'no honest call went wrong' : `${faults.length} faults`)
  process.exit(faults.length === 0 ? 0 : 1)
} else {
  process.once('message', async ({ name, target }: Order) => {
    await ATTACKS[name]?.(target)
    process.send?.(faults, () => process.exit(0))
  })
}

/** What a process of attackers is told. */
interface Order {
  readonly name: string
  readonly target: Target
}

/**
 * Runs an attack in a process of its own that gets no more of the machine than the others leave (SCHED_IDLE, sched(7)):
 * attackers of a pod do not take their time from its cores.
 */
function attack(name: string, target: Target): Promise<void> {
  const idle = existsSync('/usr/bin/chrt')
    ? { execPath: '/usr/bin/chrt', execArgv: ['--idle', '0', process.execPath] }
    : {}
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), idle)
  child.send({ name, target } satisfies Order)
  return new Promise((resolve, reject) => {
    child.once('message', found => faults.push(...(found as string[])))
    child.once('error', reject)
    // Not `exit`: what it has said may be on its way then.
    child.once('close', code => (code === 0 ? resolve() : reject(new Error(`the attackers ended with ${code}`))))
  })
}

async function main(): Promise<void> {
  const dir = temporaryFolder('mcp-sidecar-attack-')
  const server = new MisbehavingServer(await freePort(), join(dir, 'seen'))
  await server.start()
  const sidecar = await SidecarProcess.start(
    server.url,
    config => {
      config['limits'] = { connections: 1000 }
      config['drain'] = { lameDuck: '0s', grace: '3s' }
    },
    { NODE_OPTIONS: '--max-old-space-size=128 --max-semi-space-size=4 --v8-pool-size=1', ...imageMalloc() },
  )
  const pki = await testPki()
  const target = { port: sidecar.port, ca: pki.ca.cert, gateway: pki.gateway.tls, stranger: pki.stranger.tls }
  const livez = await watchLivez(sidecar.admin, 50)
  const honest = new ChaosLoad('honest', sidecar.port, { ...pki.gateway.tls, ca: pki.ca.cert })
  honest.start(8, 0, 10)
  // The JIT is cold in the beginning, and a cold calm would flatter what follows.
  await sleep(values.short ? 2000 : 15_000)
  const calm = await measured(honest, 'calm', undefined, () => sleep(seconds * 1000))
  const before = heldBy(sidecar.child.pid ?? 0)

  for (const name of chosen) {
    await measured(honest, name, calm, () => attack(name, target))
    // What the attack left behind is over before the next one begins.
    await sleep(1000)
  }
  await measured(honest, 'calm again', calm, () => sleep(seconds * 1000))

  await honest.stop()
  const probes = await livez()
  const after = heldBy(sidecar.child.pid ?? 0)
  console.log(
    `memory ${before.anonMiB.toFixed(1)} MiB before, ${after.anonMiB.toFixed(1)} MiB after; ${after.sockets} sockets`,
  )
  console.log(`/livez was asked ${probes.asked} times and took ${Math.round(probes.most)} ms at most`)
  if (probes.failures.length > 0) faults.push(`/livez: ${probes.failures[0]}`)
  if (sidecar.child.exitCode !== null || sidecar.child.signalCode !== null) faults.push('the sidecar has ended')
  sidecar.child.kill('SIGTERM')
  const code = await sidecar.ended
  if (code !== 0) faults.push(`the sidecar ended with ${code}`)
  server.kill()
  sidecar.end()
}

/** @returns p99 of the honest callers, ms. */
async function measured(
  honest: ChaosLoad,
  name: string,
  calm: number | undefined,
  run: () => Promise<unknown>,
): Promise<number> {
  const [failed, refused, answered] = [honest.failures.length, honest.count('refused'), honest.count('answered')]
  honest.latencies.length = 0
  await run()
  const latencies = honest.latencies.toSorted((a, b) => a - b)
  const p99 = latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN
  const ratio = calm === undefined ? '' : `, ${(p99 / calm).toFixed(1)} × calm`
  const wrong = honest.failures.slice(failed)
  const turnedAway = honest.count('refused') - refused
  console.log(`${name}: p99 ${p99.toFixed(1)} ms${ratio}; ${honest.count('answered') - answered} honest calls answered`)
  for (const failure of wrong.slice(0, 3)) faults.push(`${name}: ${failure}`)
  const said = `${name}: ${turnedAway} honest calls were refused (${[...honest.reasons].join(' ')} so far)`
  const hadNoTime = [...honest.reasons.keys()].every(reason => NO_TIME.has(reason))
  if (turnedAway > 0 && values.short && hadNoTime) console.log(said)
  else if (turnedAway > 0) faults.push(said)
  if (latencies.length === 0) faults.push(`${name}: no honest call was answered at all`)
  return p99
}

/** Clients with a good certificate that never come to the end of their head. */
async function slowHeads(target: Target): Promise<void> {
  const sockets: tls.TLSSocket[] = []
  const until = performance.now() + seconds * 1000
  const opener = (async () => {
    for (let i = 0; i < slowClients && performance.now() < until; i++) {
      const socket = connectFrom(target, i, ['http/1.1'])
      sockets.push(socket)
      socket.once('secureConnect', () => socket.write('POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Drip: '))
      // No faster than an address may, or most of them would never get as far as a head.
      if (i % 10 === 9) await sleep(25)
    }
  })()
  const drip = setInterval(() => {
    for (const socket of sockets) if (socket.writable) socket.write('x')
  }, 500)
  await opener
  await sleep(Math.max(0, until - performance.now()))
  clearInterval(drip)
  for (const socket of sockets) socket.destroy()
}

async function slowBodies(target: Target): Promise<void> {
  const users = Object.entries(USER_HEADERS).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n${users.join('')}\r\n`
  const sockets = Array.from({ length: 100 }, (_, i) => {
    const socket = connectFrom(target, i, ['http/1.1'])
    socket.once('secureConnect', () => socket.write(head))
    return socket
  })
  const drip = setInterval(() => {
    for (const socket of sockets) if (socket.writable) socket.write(' ')
  }, 100)
  await sleep(seconds * 1000)
  clearInterval(drip)
  for (const socket of sockets) socket.destroy()
}

/** CVE-2023-44487, on connection after connection, since each of them is cut off soon. */
async function rapidReset(target: Target): Promise<void> {
  const cancel = Buffer.from([0, 0, 0, 8])
  const head = postHead()
  await repeat(4, async i => {
    const socket = connectFrom(target, i, ['h2'])
    await opened(socket)
    const parts = [preface()]
    for (let n = 0; n < 1000; n++) {
      parts.push(
        frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1 + 2 * n, head),
        frame(Frame.reset, 0, 1 + 2 * n, cancel),
      )
    }
    socket.write(Buffer.concat(parts))
    await closed(socket, 500)
    await sleep(50)
  })
}

async function headerBombs(target: Target): Promise<void> {
  const large = `POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Large: ${'x'.repeat(100_000)}\r\n\r\n`
  const many = `POST /mcp HTTP/1.1\r\nHost: localhost\r\n${'X-Many: 1\r\n'.repeat(2500)}\r\n`
  const more = Buffer.alloc(8000)
  await repeat(4, async i => {
    const isHttp2 = i % 2 === 0
    const socket = connectFrom(target, i, [isHttp2 ? 'h2' : 'http/1.1'])
    await opened(socket)
    if (isHttp2) {
      socket.write(Buffer.concat([preface(), frame(Frame.headers, Flag.endStream, 1, postHead())]))
      for (let n = 0; n < 100 && socket.writable; n++) socket.write(frame(Frame.continuation, 0, 1, more))
    } else {
      socket.write(i % 4 === 1 ? large : many)
    }
    await closed(socket, 500)
    await sleep(50)
  })
}

/** Garbage, silence, certificates of a stranger, and none at all. */
async function handshakes(target: Target): Promise<void> {
  let begun = 0
  const kinds = [
    (i: number) => plainFrom(target, i).end('GET / HTTP/1.1\r\n\r\n'),
    (i: number) => plainFrom(target, i).end(Buffer.from('16030100050100000103', 'hex')),
    (i: number) => connectFrom(target, i, ['h2'], target.stranger),
    (i: number) => connectFrom(target, i, ['h2'], {}),
  ]
  const one = async (): Promise<void> => {
    while (begun < badHandshakes) {
      const i = begun++
      // Most are garbage: a whole handshake costs the attacker, who is on this machine, as much as the sidecar.
      const kind = kinds[i % 20 < 18 ? i % 2 : 2 + (i % 2)] as (typeof kinds)[number]
      const socket = kind(i)
      socket.resume()
      await closed(socket, 1000)
    }
  }
  await Promise.all(Array.from({ length: 16 }, one))
}

/** Compressed bodies, which are refused unread, and heads whose few bytes stand for megabytes. */
async function unfolding(target: Target): Promise<void> {
  const zeros = Buffer.alloc(50_000_000, ' ')
  const bodies = [
    { coding: 'gzip', bytes: gzipSync(zeros) },
    { coding: 'deflate', bytes: deflateSync(zeros) },
    { coding: 'gzip, gzip', bytes: gzipSync(gzipSync(zeros)) },
    { coding: 'identity', bytes: Buffer.from(`${'['.repeat(100_000)}${toolCall('search_docs')}`) },
  ]
  const entry = Buffer.concat([
    Buffer.from([0x40, 6]),
    Buffer.from('x-bomb'),
    Buffer.from([0x7f, 0xb9, 0x16]),
    Buffer.alloc(3000, 'x'),
  ])
  const bomb = Buffer.concat([postHead(), entry, Buffer.alloc(8000, 0x80 | 62)])
  await repeat(3, async i => {
    if (i % 3 === 0) {
      const socket = connectFrom(target, i, ['h2'])
      await opened(socket)
      socket.write(Buffer.concat([preface(), frame(Frame.headers, Flag.endHeaders | Flag.endStream, 1, bomb)]))
      await closed(socket, 500)
    } else {
      const { coding, bytes } = bodies[i % bodies.length] as (typeof bodies)[number]
      const status = await posted(target, coding, bytes)
      if (status !== 0 && status !== 415 && status !== 400)
        faults.push(`a body in ${coding} was answered with ${status}`)
    }
    await sleep(50)
  })
}

function posted(target: Target, coding: string, bytes: Buffer): Promise<number> {
  return new Promise(resolve => {
    const session = http2.connect(`https://localhost:${target.port}`, { ca: target.ca, ...target.gateway })
    session.on('error', () => resolve(0))
    const headers = Object.fromEntries(Object.entries(USER_HEADERS).map(([name, value]) => [name.toLowerCase(), value]))
    const stream = session.request({
      ':method': 'POST',
      ':path': '/mcp',
      'content-type': 'application/json',
      'content-encoding': coding,
      accept: 'application/json, text/event-stream',
      ...headers,
    })
    let status = 0
    stream.on('response', got => (status = got[':status'] ?? 0))
    stream.on('error', () => {})
    stream.on('close', () => {
      session.destroy()
      resolve(status)
    })
    stream.resume()
    stream.end(bytes)
  })
}

/** So many attackers, each doing the same again and again until the time is over. */
async function repeat(attackers: number, once: (i: number) => Promise<unknown>): Promise<void> {
  const until = performance.now() + seconds * 1000
  let i = 0
  const attacker = async (): Promise<void> => {
    while (performance.now() < until) await once(i++)
  }
  await Promise.all(Array.from({ length: attackers }, attacker))
}

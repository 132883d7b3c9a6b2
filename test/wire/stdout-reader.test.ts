import https from 'node:https'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { cli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { type LivezTimes, watchLivez } from '../support/livez-watch.ts'
import { send, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import type { AuditLine } from '../support/sidecar.ts'
import { inParallel, linesOf, SidecarProcess } from '../support/sidecar-process.ts'

let server: ScriptedServer
let running: SidecarProcess
let agent: https.Agent

beforeAll(async () => {
  server = await startScriptedServer()
})
afterAll(() => server.stop())
afterEach(() => {
  agent.destroy()
  running.end()
})

async function start(onBlocked: 'block' | 'drop'): Promise<void> {
  agent = new https.Agent({ keepAlive: true })
  running = await SidecarProcess.start(server.url, config => {
    config['audit'] = { onBlocked }
    config['limits'] = { handshakes: 1000 }
  })
}

/** How the calls of one load ended, by request id. */
interface Ends {
  readonly answered: string[]
  readonly blocked: string[]
  /** The machine is shared: whoever is shed because the event loop was late is accounted for, too. */
  readonly shed: string[]
  readonly other: string[]
}

const FILLER = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`part${i}`, 'x'.repeat(1000)]))

/** Calls with about 11 KB of line each, so many at a time. */
async function load(name: string, n: number, parallel: number): Promise<Ends> {
  const ends: Ends = { answered: [], blocked: [], shed: [], other: [] }
  await inParallel(n, parallel, async i => {
    const id = `${name}-${i}`
    const answer = await send(running, {
      agent,
      headers: { 'X-Request-ID': id },
      body: toolCall('search_docs', FILLER),
    }).catch((error: Error) => error)
    if (answer instanceof Error) ends.other.push(`${id}: ${answer.message}`)
    else if (answer.json.result !== undefined) ends.answered.push(id)
    else if (answer.status === 503 && answer.json.error.data.reason === 'audit_blocked') ends.blocked.push(id)
    else if (answer.status === 503 && answer.json.error.data.reason === 'sidecar_overloaded') ends.shed.push(id)
    else ends.other.push(`${id}: ${answer.status} ${answer.text}`)
  })
  return ends
}

/** Less than the shortest time for which a stopped reader would hold an event loop that waits for it, ms. */
const FROZEN_MS = 3000

function inWords({ median, most, asked }: LivezTimes): string {
  return `/livez in ${median.toFixed(1)} ms (median of ${asked}), ${most.toFixed(1)} ms at most`
}

const isBlocked = () =>
  eventually(async () => (await running.probe('/metrics')).text.includes('\nmcp_sidecar_audit_blocked 1\n'), 10_000)

/** Ids of calls that have a line, in order, and how often something was refused for want of audit lines, or shed. */
function accountOf(lines: readonly AuditLine[]): { answered: string[]; blocked: number; shed: number } {
  const refused = (reason: string) =>
    lines
      .filter(({ event, decision }) => event === 'mcp.refused' && decision?.reason === reason)
      .reduce((sum, { count = 1 }) => sum + (count as number), 0)
  const calls = lines.filter(({ event }) => event === 'mcp.call').map(({ requestId }) => requestId as string)
  return { answered: calls.toSorted(), blocked: refused('audit_blocked'), shed: refused('sidecar_overloaded') }
}

/** The same, as the clients of several loads have seen it. */
function accountOfClients(...loads: readonly Ends[]): ReturnType<typeof accountOf> {
  const all = (kind: keyof Ends) => loads.flatMap(ends => ends[kind])
  expect(all('other')).toEqual([])
  return { answered: all('answered').toSorted(), blocked: all('blocked').length, shed: all('shed').length }
}

const verified = async () => (await cli(['audit', 'verify', running.auditFile])).stdout

describe('under block', () => {
  test('a reader that has stopped: new calls are refused after 5 s, probes answer, nothing is lost', async () => {
    await start('block')
    const warm = await load('warm', 600, 120)
    const before = running.memoryMiB()
    const livez = await watchLivez(running.admin)
    running.reader.kill('SIGSTOP')
    // More than the pipe and the writer take; their answers wait for their lines.
    const inFlight = load('flight', 60, 60)
    await isBlocked()
    const from = Date.now()
    const late = await load('late', 60, 60)
    const waitedMs = Date.now() - from
    expect(late.answered).toEqual([])
    expect(late.blocked.length).toBeGreaterThan(0)
    expect(waitedMs).toBeGreaterThan(4500)
    expect((await running.probe('/readyz')).status).toBe(503)
    const grown = running.memoryMiB() - before
    running.reader.kill('SIGCONT')
    const first = await inFlight
    await eventually(async () => (await running.probe('/readyz')).status === 200)
    const after = await load('after', 50, 10)
    expect(after.answered.length).toBeGreaterThan(0)
    const slowest = await livez()
    console.info(`stopped reader: ${inWords(slowest)}, memory +${grown.toFixed(1)} MiB`)
    expect(slowest.failures).toEqual([])
    expect(slowest.most).toBeLessThan(FROZEN_MS)
    expect(grown).toBeLessThan(96)

    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    expect(accountOf(linesOf(await running.allText()))).toEqual(accountOfClients(warm, first, late, after))
    expect(await verified()).toContain('intact')
  }, 60_000)

  test('a slow reader: every call has its line, in one chain', async () => {
    await start('block')
    const warm = await load('warm', 600, 50)
    const livez = await watchLivez(running.admin)
    const pulse = setInterval(() => {
      running.reader.kill('SIGSTOP')
      setTimeout(() => running.reader.kill('SIGCONT'), 60)
    }, 80)
    const ends = await load('slow', 600, 50)
    clearInterval(pulse)
    await new Promise(resolve => setTimeout(resolve, 80))
    running.reader.kill('SIGCONT')
    const slowest = await livez()
    console.info(`slow reader: ${inWords(slowest)}`)
    expect(slowest.failures).toEqual([])
    expect(slowest.most).toBeLessThan(FROZEN_MS)
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    expect(accountOf(linesOf(await running.allText()))).toEqual(accountOfClients(warm, ends))
    expect(await verified()).toContain('intact')
  }, 60_000)

  test('a reader that is gone: calls are refused at once, and the exit code tells of the loss', async () => {
    await start('block')
    await load('warm', 20, 5)
    running.reader.kill('SIGKILL')
    const ends = await load('gone', 300, 20)
    expect(ends.other).toEqual([])
    // Who is under way when the first write fails is answered; nobody after that.
    expect(ends.answered.length).toBeLessThanOrEqual(20)
    expect((await running.probe('/livez')).status).toBe(200)
    expect((await running.probe('/readyz')).status).toBe(503)
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(1)
    expect(running.log()).toMatch(/[1-9]\d* audit lines were not taken by stdout before the end/)
  }, 60_000)

  test('SIGTERM while the reader has stopped: it ends within its grace, exit code 1, the loss on stderr', async () => {
    await start('block')
    running.reader.kill('SIGSTOP')
    const inFlight = load('flight', 60, 60)
    await isBlocked()
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(1)
    const lost = Number(/(\d+) audit lines were not taken/.exec(running.log())?.[1])
    const { answered } = await inFlight
    running.reader.kill('SIGCONT')
    const lines = (await running.allText()).split('\n').slice(0, -1)
    // Whoever was answered has a line. What is missing at the end is what stderr has said.
    const there = new Set(accountOf(lines.map(line => JSON.parse(line) as AuditLine)).answered)
    expect(answered.filter(id => !there.has(id))).toEqual([])
    expect(lost).toBeGreaterThan(0)
    expect((await cli(['audit', 'verify', running.auditFile])).stdout).toContain('truncated')
  }, 60_000)
})

describe('under drop', () => {
  test('a reader that has stopped: every call is answered, and the gap says how many lines are missing', async () => {
    await start('drop')
    const warm = await load('warm', 600, 50)
    running.reader.kill('SIGSTOP')
    const livez = await watchLivez(running.admin)
    const ends = await load('dropped', 600, 50)
    const seen = accountOfClients(warm, ends)
    expect(seen.blocked).toBe(0)
    expect(seen.answered.length).toBeGreaterThan(0)
    const slowest = await livez()
    console.info(`stopped reader under drop: ${inWords(slowest)}`)
    expect(slowest.failures).toEqual([])
    expect(slowest.most).toBeLessThan(FROZEN_MS)
    const dropped = Number(/^mcp_sidecar_audit_dropped_total (\d+)$/m.exec((await running.probe('/metrics')).text)?.[1])
    expect(dropped).toBeGreaterThan(0)
    running.reader.kill('SIGCONT')
    await eventually(() => running.text().includes('"event":"audit.gap"'))
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    const lines = linesOf(await running.allText())
    const gaps = lines.filter(({ event }) => event === 'audit.gap')
    expect(gaps.reduce((sum, { count }) => sum + (count as number), 0)).toBe(dropped)
    const written = accountOf(lines)
    expect(written.answered.length + written.shed + dropped).toBe(seen.answered.length + seen.shed)
    expect(await verified()).toContain('intact')
  }, 60_000)

  test('a reader that is gone: calls are served and counted', async () => {
    await start('drop')
    running.reader.kill('SIGKILL')
    const seen = accountOfClients(await load('gone', 300, 20))
    expect(seen.blocked).toBe(0)
    expect(seen.answered.length).toBeGreaterThan(0)
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(1)
  }, 60_000)
})

import https from 'node:https'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { verifyLines } from '../support/audit-log.ts'
import { openStream } from '../support/event-stream.ts'
import { send, toolCall } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import type { AuditLine } from '../support/sidecar.ts'
import { SidecarProcess } from '../support/sidecar-process.ts'

/** 200 by hand: `AUDIT_KILLS=200 vitest run test/wire/kill-nine`. */
const KILLS = Number(process.env['AUDIT_KILLS'] ?? 5)
const WORKERS = 12

let server: ScriptedServer
let running: SidecarProcess | undefined

beforeAll(async () => {
  server = await startScriptedServer()
})
afterAll(() => server.stop())
afterEach(() => running?.end())

/** Load until the sidecar is gone. @returns ids of calls whose answers have come whole, and of streams that have begun. */
async function loadUntilKilled(
  target: SidecarProcess,
  afterMs: number,
): Promise<{ answered: string[]; begun: string[] }> {
  const agent = new https.Agent({ keepAlive: true })
  const [answered, begun]: [string[], string[]] = [[], []]
  let isOver = false
  const call = async (id: string): Promise<void> => {
    const answer = await send(target, { agent, headers: { 'X-Request-ID': id }, body: toolCall('search_docs', { id }) })
    if (answer.status === 200 && !answer.broken) answered.push(id)
  }
  const stream = async (id: string): Promise<void> => {
    const open = await openStream(target, { agent, headers: { 'X-Request-ID': id }, body: toolCall('count') })
    begun.push(id)
    if ((await open.ended) === 'complete' && open.text().includes('"result"')) answered.push(id)
  }
  const worker = async (w: number): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      const id = `k-${w}-${n}`
      await (n % 5 === 4 ? stream(id) : call(id)).catch(() => {
        isOver ||= target.child.killed
      })
    }
  }
  const workers = Array.from({ length: WORKERS }, (_, w) => worker(w))
  while (answered.length < WORKERS) await new Promise(resolve => setTimeout(resolve, 5))
  await new Promise(resolve => setTimeout(resolve, afterMs))
  target.child.kill('SIGKILL')
  await target.ended
  isOver = true
  await Promise.all(workers)
  agent.destroy()
  return { answered, begun }
}

test(
  `killed ${KILLS} times at any moment: every answered call has its line, and verify says what the end lacks`,
  async () => {
    let all = 0
    for (let i = 0; i < KILLS; i++) {
      running = await SidecarProcess.start(server.url)
      const { answered, begun } = await loadUntilKilled(running, (i * 37) % 250)
      const text = await running.allText()
      const lines = text.split('\n')
      // Half a line, or nothing after the last line feed.
      const rest = lines.pop() as string
      const records = lines.map(line => JSON.parse(line) as AuditLine)
      const of = (event: string) => new Set(records.filter(x => x['event'] === event).map(x => x['requestId']))
      const [calls, started] = [of('mcp.call'), of('mcp.started')]
      expect(answered.filter(id => !calls.has(id))).toEqual([])
      expect(begun.filter(id => !started.has(id))).toEqual([])
      const report = verifyLines({ log: rest === '' ? lines : [...lines, rest] })
      expect(report.problems.map(({ kind }) => kind)).toEqual(rest === '' ? ['truncated'] : ['foreign', 'truncated'])
      const open = verifyLines({ log: lines }, { open: true })
      expect(open.problems).toEqual([])
      all += answered.length
      running.end()
    }
    console.info(`${KILLS} kills, ${all} answered calls, each with its line`)
  },
  60_000 + KILLS * 10_000,
)

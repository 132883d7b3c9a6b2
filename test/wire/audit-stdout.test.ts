import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { MAX_WAITING_BYTES } from '../../src/edge/line-writer.ts'
import type { Order } from '../support/audit-child.ts'
import { verifyLines } from '../support/audit-log.ts'

/** One child with its stdout on a real pipe, and `cat` as its reader, which can be stopped and killed. */
class Setup {
  readonly dir = mkdtempSync(join(tmpdir(), 'audit-'))
  readonly #file = join(this.dir, 'out.log')
  readonly reader: ChildProcess
  readonly child: ChildProcess
  readonly #messages: Record<string, unknown>[] = []
  readonly #readerGone: Promise<void>
  readonly childGone: Promise<number | null>
  #wake: () => void = () => {}

  constructor(onBlocked: 'block' | 'drop') {
    const fifo = join(this.dir, 'pipe')
    execFileSync('mkfifo', [fifo])
    const out = openSync(this.#file, 'w')
    this.reader = spawn('cat', [fifo], { stdio: ['ignore', out, 'inherit'] })
    const pipe = openSync(fifo, constants.O_WRONLY)
    this.child = spawn(process.execPath, ['test/support/audit-child.ts', onBlocked], {
      stdio: ['ignore', pipe, 'inherit', 'ipc'],
    })
    closeSync(pipe)
    closeSync(out)
    this.#readerGone = new Promise(resolve => this.reader.once('exit', () => resolve()))
    this.childGone = new Promise(resolve => this.child.once('exit', code => resolve(code)))
    this.child.on('message', message => {
      this.#messages.push(message as Record<string, unknown>)
      this.#wake()
    })
  }

  order(order: Order): void {
    this.child.send(order)
  }

  /** The next message that has the member. */
  async told<T = unknown>(name: string): Promise<Record<string, T>> {
    for (;;) {
      const at = this.#messages.findIndex(message => name in message)
      if (at >= 0) return this.#messages.splice(at, 1)[0] as Record<string, T>
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  toldSoFar(name: string): unknown[] {
    return this.#messages.filter(message => name in message).map(message => message[name])
  }

  async stats(): Promise<{ state: string; pendingBytes: number; waiting: number; dropped: number; records: number }> {
    this.order({ do: 'stats' })
    return (await this.told('stats')).stats as never
  }

  async until(what: (stats: Awaited<ReturnType<Setup['stats']>>) => boolean): Promise<void> {
    while (!what(await this.stats())) await new Promise(resolve => setTimeout(resolve, 20))
  }

  /** Everything that the reader got, once the writing end is closed. */
  async text(): Promise<string> {
    await this.#readerGone
    return readFileSync(this.#file, 'utf8')
  }

  end(): void {
    this.reader.kill('SIGKILL')
    this.child.kill('SIGKILL')
    rmSync(this.dir, { recursive: true })
  }
}

let setup: Setup
afterEach(() => setup.end())

const eventsIn = (text: string, event: string): number => text.split(`"event":"${event}"`).length - 1

async function start(onBlocked: 'block' | 'drop'): Promise<number> {
  setup = new Setup(onBlocked)
  return (await setup.told<number>('ready')).ready as number
}

describe('a reader that has stopped', () => {
  test('under block: new calls wait, memory stays bounded, probes answer, and nothing is lost', async () => {
    const port = await start('block')
    setup.reader.kill('SIGSTOP')
    // More than the pipe and the writer take; they are in flight, with their lines, when the rest arrives.
    setup.order({ do: 'calls', n: 200, parallel: 200, name: 'inflight' })
    await setup.until(({ state }) => state === 'blocked')
    setup.order({ do: 'calls', n: 800, parallel: 200, name: 'stalled' })
    await setup.until(({ waiting }) => waiting === 200)
    expect(await (await fetch(`http://127.0.0.1:${port}/livez`)).text()).toBe('blocked')
    const before = (await setup.stats()).records
    expect(before).toBe(1 + 200)
    setup.reader.kill('SIGCONT')
    const ends = [await setup.told<number>('done'), await setup.told<number>('done')]
    setup.order({ do: 'stats' })
    const { mostPending } = await setup.told<number>('mostPending')
    expect(ends).toMatchObject([
      { answered: 200, refused: 0 },
      { answered: 800, refused: 0 },
    ])
    expect(mostPending).toBeLessThanOrEqual(MAX_WAITING_BYTES + 200 * 2 * 15 * 1024)
    setup.order({ do: 'close', graceMs: 5000 })
    expect((await setup.told('closed')).closed).toBe(0)
    const text = await setup.text()
    expect(eventsIn(text, 'mcp.call')).toBe(1000)
    expect(verifyLines({ a: text.split('\n').slice(0, -1) }).problems).toEqual([])
  })

  test('under block for longer than a call waits: it is refused, and refusals are counted in one line', async () => {
    await start('block')
    setup.reader.kill('SIGSTOP')
    setup.order({ do: 'calls', n: 200, parallel: 200, name: 'inflight' })
    await setup.until(({ state }) => state === 'blocked')
    setup.order({ do: 'calls', n: 100, parallel: 100, name: 'waiting' })
    await setup.until(({ waiting }) => waiting === 100)
    setup.order({ do: 'refuse', n: 5000 })
    await setup.told('refusals')
    expect(await setup.told('done')).toMatchObject({ done: 'waiting', answered: 0, refused: 100 })
    setup.reader.kill('SIGCONT')
    expect(await setup.told('done')).toMatchObject({ done: 'inflight', answered: 200, refused: 0 })
    setup.order({ do: 'close', graceMs: 5000 })
    await setup.told('closed')
    const text = await setup.text()
    expect(eventsIn(text, 'mcp.call')).toBe(200)
    expect(text).toContain('"count":5000')
    expect(eventsIn(text, 'mcp.refused')).toBe(1)
  }, 20_000)

  test('under drop: every call is answered, and the gap says how many lines are missing', async () => {
    await start('drop')
    setup.reader.kill('SIGSTOP')
    setup.order({ do: 'calls', n: 2000, parallel: 50, name: 'dropped' })
    expect(await setup.told('done')).toMatchObject({ answered: 2000, refused: 0 })
    const { dropped } = await setup.stats()
    expect(dropped).toBeGreaterThan(0)
    setup.reader.kill('SIGCONT')
    await setup.until(({ state }) => state === 'open')
    setup.order({ do: 'close', graceMs: 5000 })
    await setup.told('closed')
    const text = await setup.text()
    const report = verifyLines({ a: text.split('\n').slice(0, -1) })
    expect(report.problems).toEqual([])
    expect(eventsIn(text, 'mcp.call') + (report.chains[0]?.dropped ?? 0)).toBe(2000)
  })

  test('at the end: the grace is kept, and the loss is told', async () => {
    await start('block')
    setup.reader.kill('SIGSTOP')
    setup.order({ do: 'calls', n: 200, parallel: 200, name: 'end' })
    await setup.until(({ state }) => state === 'blocked')
    setup.order({ do: 'close', graceMs: 200 })
    expect((await setup.told<number>('closed')).closed).toBeGreaterThan(0)
    expect(await setup.childGone).toBe(1)
  })
})

test('a slow reader gets everything, in order', async () => {
  await start('block')
  setup.order({ do: 'calls', n: 3000, parallel: 100, name: 'slow' })
  const pulse = setInterval(() => {
    setup.reader.kill('SIGSTOP')
    setTimeout(() => setup.reader.kill('SIGCONT'), 30)
  }, 40)
  const { answered, refused } = await setup.told<number>('done')
  clearInterval(pulse)
  setTimeout(() => setup.reader.kill('SIGCONT'), 50)
  setup.order({ do: 'close', graceMs: 5000 })
  await setup.told('closed')
  const text = await setup.text()
  expect((answered as number) + (refused as number)).toBe(3000)
  expect(eventsIn(text, 'mcp.call')).toBe(answered)
  expect(verifyLines({ a: text.split('\n').slice(0, -1) }).problems).toEqual([])
})

test.each(['block', 'drop'] as const)('a closed reader under %s: the process lives and says so', async onBlocked => {
  const port = await start(onBlocked)
  setup.reader.kill('SIGKILL')
  setup.order({ do: 'calls', n: 300, parallel: 10, name: 'closed' })
  const { answered, refused } = await setup.told<number>('done')
  expect((answered as number) + (refused as number)).toBe(300)
  if (onBlocked === 'drop') expect(refused).toBe(0)
  else expect(refused).toBeGreaterThan(0)
  expect(await (await fetch(`http://127.0.0.1:${port}/livez`)).text()).toBe('broken')
  setup.order({ do: 'close', graceMs: 500 })
  expect((await setup.told<number>('closed')).closed).toBeGreaterThan(0)
})

/** 200 by hand: `AUDIT_KILLS=200 vitest run test/wire/audit-stdout`. */
test('killed at any moment: every answered call has its line, and verify names what the end lacks', async () => {
  const kills = Number(process.env.AUDIT_KILLS ?? 5)
  for (let i = 0; i < kills; i++) {
    await start('block')
    setup.order({ do: 'calls', n: 1e6, parallel: 20, name: `k${i}`, tellEach: true })
    await setup.told('answered')
    await new Promise(resolve => setTimeout(resolve, (i * 37) % 120))
    setup.child.kill('SIGKILL')
    await setup.childGone
    const answered = setup.toldSoFar('answered') as string[]
    const text = await setup.text()
    for (const id of answered) expect(text.includes(`"requestId":"${id}"`), id).toBe(true)
    const lines = text.split('\n')
    const rest = lines.pop() as string
    const kinds = verifyLines({ a: rest === '' ? lines : [...lines, rest] }).problems.map(({ kind }) => kind)
    expect(kinds).toEqual(rest === '' ? ['truncated'] : ['foreign', 'truncated'])
    setup.end()
    setup = { end: () => {} } as Setup
  }
}, 300_000)

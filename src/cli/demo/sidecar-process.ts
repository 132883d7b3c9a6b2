import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { JsonObject } from '../../core/json.ts'
import { CliError, type CliIo } from '../io.ts'

/** The sidecar as a process of its own, as it runs in a pod; its standard output is the audit log. */
export interface DemoSidecar {
  readonly logFile: string
  /** Waits for the first line that has not been taken yet and fits. */
  takeLine(fits: (line: JsonObject) => boolean): Promise<JsonObject | undefined>
  /** What `audit verify` says of the log so far. */
  verifyLog(): Promise<{ ok: boolean; text: string }>
  readonly ended: Promise<number>
  /** The last lines that it wrote to stderr, for when the story does not go as told. */
  complaints(): readonly string[]
  stop(): Promise<void>
}

export interface DemoSidecarOptions {
  readonly io: CliIo
  readonly configFile: string
  readonly adminPort: number
  readonly log: string
}

const READY_MS = 20_000
const LINE_MS = 15_000

export async function startDemoSidecar({ io, configFile, adminPort, log }: DemoSidecarOptions): Promise<DemoSidecar> {
  const child = start(io, ['run', '--config', configFile])
  const file = createWriteStream(log)
  const lines: JsonObject[] = []
  const waiting = new Set<() => void>()
  const complaints: string[] = []
  child.stdout.pipe(file)
  createInterface({ input: child.stdout }).on('line', line => {
    lines.push(JSON.parse(line) as JsonObject)
    for (const wake of waiting) wake()
  })
  createInterface({ input: child.stderr }).on('line', line => complaints.push(line))
  const ended = new Promise<number>(resolve => child.once('close', code => resolve(code ?? 1)))
  void ended.then(() => {
    for (const wake of waiting) wake()
  })

  const isReady = await Promise.race([untilReady(adminPort), ended.then(() => false)])
  if (!isReady) {
    child.kill('SIGKILL')
    throw new CliError(1, ['the sidecar did not start', ...complaints.slice(-20)])
  }
  return {
    logFile: log,
    ended,
    complaints: () => complaints.slice(-20),
    takeLine: async fits => {
      const deadline = Date.now() + LINE_MS
      for (;;) {
        const at = lines.findIndex(fits)
        if (at >= 0) return lines.splice(at, 1)[0]
        const left = deadline - Date.now()
        if (left <= 0 || child.exitCode !== null) return undefined
        await new Promise<void>(resolve => {
          const timer = setTimeout(wake, left)
          function wake() {
            clearTimeout(timer)
            waiting.delete(wake)
            resolve()
          }
          waiting.add(wake)
        })
      }
    },
    verifyLog: () => verify(io, log),
    stop: async () => {
      child.kill('SIGTERM')
      const kill = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await ended
      clearTimeout(kill)
    },
  }
}

async function verify(io: CliIo, log: string): Promise<{ ok: boolean; text: string }> {
  const child = start(io, ['audit', 'verify', '--open', log])
  const chunks: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
  const code = await new Promise<number>(resolve => child.once('close', code => resolve(code ?? 1)))
  const said = Buffer.concat(chunks).toString('utf8').trim().split('\n')
  return { ok: code === 0, text: said.at(-1) ?? '' }
}

/** This same program again. It stays in our process group, so that Ctrl-C reaches both. */
function start(io: CliIo, argv: readonly string[]): ChildProcessByStdio<null, Readable, Readable> {
  const [runtime, ...before] = io.self
  // No stray configuration of the user's environment: the story has its own.
  const env = { ...io.env, MCP_SIDECAR_CONFIG: undefined, FORCE_COLOR: undefined, NO_COLOR: '1' }
  return spawn(runtime, [...before, ...argv], { cwd: io.cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
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

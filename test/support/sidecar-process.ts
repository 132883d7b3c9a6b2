import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { stringify } from 'yaml'
import { builtProgram } from './built-program.ts'
import { eventually } from './eventually.ts'
import { type TestPki, testPki } from './pki.ts'
import { type AuditLine, baseConfig } from './sidecar.ts'

/**
 * `mcp-sidecar run` as a process of its own, its stdout on a real pipe with `cat` as the reader, which a test can stop,
 * let go on and kill. What `cat` got is in a file, as with a log collector; stderr is a file, too.
 */
export class SidecarProcess {
  readonly pki: TestPki
  readonly dir = mkdtempSync(join(tmpdir(), 'mcp-sidecar-process-'))
  readonly configFile = join(this.dir, 'sidecar.yaml')
  readonly auditFile = join(this.dir, 'audit.log')
  readonly socket = join(this.dir, 'ops.sock')
  readonly child: ChildProcess
  readonly reader: ChildProcess
  /** How the sidecar ended: its exit code, or the signal that killed it. */
  readonly ended: Promise<number | NodeJS.Signals>
  readonly admin: string
  readonly sidecar: { readonly ports: { mtls: number | undefined; admin: number } }
  readonly #logFile = join(this.dir, 'stderr.log')
  readonly #readerGone: Promise<void>
  readonly #config: Record<string, unknown>

  static async start(
    upstreamUrl: string,
    change: (config: Record<string, unknown>) => void = () => {},
    env: Record<string, string> = {},
    how: HowToStart = {},
  ): Promise<SidecarProcess> {
    const started = new SidecarProcess(await testPki(), await freePort(), upstreamUrl, change, env, how)
    if (how.isAwaited === false) return started
    const { child } = started
    const hasEnded = () => child.exitCode !== null || child.signalCode !== null
    try {
      await eventually(async () => {
        if (hasEnded()) return true
        started.sidecar.ports.mtls ??= Number(/serving mTLS on [^ ]*:(\d+)/.exec(started.log())?.[1] ?? 0) || undefined
        if (started.sidecar.ports.mtls === undefined) throw new Error(`it does not listen yet: ${started.log()}`)
        const { status, text } = await started.probe('/readyz')
        if (status !== 200) throw new Error(`it is not ready: ${text}`)
        return true
      }, 60_000)
      if (hasEnded()) throw new Error(`ended with ${child.exitCode ?? child.signalCode}: ${started.log()}`)
    } catch (error) {
      started.end()
      throw error
    }
    return started
  }

  private constructor(
    pki: TestPki,
    adminPort: number,
    upstreamUrl: string,
    change: (config: Record<string, unknown>) => void,
    env: Record<string, string>,
    { wrapper = [], stdout }: HowToStart,
  ) {
    this.pki = pki
    this.admin = `http://127.0.0.1:${adminPort}`
    this.sidecar = { ports: { mtls: undefined, admin: adminPort } }
    this.#config = baseConfig(pki, this.dir, upstreamUrl)
    this.#config['admin'] = { address: `127.0.0.1:${adminPort}`, operations: `unix:${this.socket}` }
    change(this.#config)
    writeFileSync(this.configFile, stringify(this.#config))
    const fifo = join(this.dir, 'stdout')
    execFileSync('mkfifo', [fifo])
    const [out, log] = [openSync(this.auditFile, 'w'), openSync(this.#logFile, 'w')]
    this.reader = spawn('cat', [fifo], { stdio: ['ignore', out, 'ignore'] })
    const pipe = openSync(fifo, constants.O_WRONLY)
    const command = [...wrapper, process.execPath, builtProgram(), 'run', '--config', this.configFile]
    const other = stdout === undefined ? undefined : openSync(stdout, 'a')
    this.child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', other ?? pipe, log],
      env: { PATH: process.env['PATH'], ...env },
    })
    for (const descriptor of [pipe, out, log, ...(other === undefined ? [] : [other])]) closeSync(descriptor)
    this.#readerGone = new Promise(resolve => this.reader.once('exit', () => resolve()))
    this.ended = new Promise(resolve =>
      this.child.once('exit', (code, signal) => resolve(code ?? (signal as 'SIGKILL'))),
    )
  }

  get port(): number {
    return this.sidecar.ports.mtls ?? 0
  }

  /** What stderr has got so far. */
  log(): string {
    return readFileSync(this.#logFile, 'utf8')
  }

  /** What the reader of stdout has got so far. */
  text(): string {
    return readFileSync(this.auditFile, 'utf8')
  }

  /** Whole lines that the reader has got so far. */
  lines(): AuditLine[] {
    return linesOf(this.text())
  }

  /** Everything, once the sidecar has ended and the reader has read the pipe to its end. */
  async allText(): Promise<string> {
    await this.ended
    await this.#readerGone
    return this.text()
  }

  rewrite(change: (config: Record<string, unknown>) => void): void {
    change(this.#config)
    writeFileSync(this.configFile, stringify(this.#config))
  }

  /** Asks the admin port on a connection of its own. */
  probe(path: string): Promise<{ status: number; text: string; ms: number }> {
    return new Promise((resolve, reject) => {
      const from = performance.now()
      http
        .get(`${this.admin}${path}`, { agent: false }, response => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString()
            resolve({ status: response.statusCode ?? 0, text, ms: performance.now() - from })
          })
        })
        .on('error', reject)
    })
  }

  /** Anonymous memory of the process, MiB. */
  memoryMiB(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8')
    return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024
  }

  /** Takes away whatever is left of it. */
  end(): void {
    this.reader.kill('SIGKILL')
    this.child.kill('SIGKILL')
    rmSync(this.dir, { recursive: true, force: true })
  }
}

export interface HowToStart {
  /** What runs the program, with arguments of its own: `['prlimit', '--nofile=200']`. */
  readonly wrapper?: readonly string[]
  /** A file or device that stdout goes to instead of the pipe. */
  readonly stdout?: string
  /** False: `start` does not wait until it serves. */
  readonly isAwaited?: boolean
}

export function linesOf(text: string): AuditLine[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as AuditLine)
}

/** Runs `task` for 0 to `n - 1`, so many at a time. */
export async function inParallel(n: number, parallel: number, task: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < n) await task(next++)
  }
  await Promise.all(Array.from({ length: Math.min(n, parallel) }, worker))
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

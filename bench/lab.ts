import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { mintDevPki } from '../src/edge/pki.ts'

export const root = path.resolve(import.meta.dirname, '..')

/** Files of a PKI that lives as long as the run. */
export interface Pki {
  readonly ca: string
  readonly serverCert: string
  readonly serverKey: string
  /** The gateway's. */
  readonly cert: string
  readonly key: string
}

/** What a run of the bench has set up: a folder, a PKI, processes; all of it goes with `close`. */
export class Lab {
  readonly work = mkdtempSync(path.join(os.tmpdir(), 'mcp-sidecar-bench-'))
  readonly #children: ChildProcess[] = []

  async mintPki(): Promise<Pki> {
    const dir = this.dir('pki')
    await mintDevPki(dir)
    return {
      ca: path.join(dir, 'ca.crt'),
      serverCert: path.join(dir, 'server/tls.crt'),
      serverKey: path.join(dir, 'server/tls.key'),
      cert: path.join(dir, 'gateway/tls.crt'),
      key: path.join(dir, 'gateway/tls.key'),
    }
  }

  dir(name: string): string {
    const dir = path.join(this.work, name)
    mkdirSync(dir, { recursive: true })
    return dir
  }

  /**
   * Starts a process whose stdout is a pipe that somebody reads, as under a container runtime. (What Node calls a pipe
   * to a child is a socket, which costs more to write to and cannot be opened as /dev/stdout.)
   */
  spawnPiped(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const fifo = path.join(this.work, `stdout-${this.#children.length}`)
    execFileSync('mkfifo', [fifo])
    this.spawn('sh', ['-c', `exec cat < ${fifo} > /dev/null`])
    const fd = openSync(fifo, 'w')
    const child = this.spawn(command, args, { stdio: ['ignore', fd, 'ignore'], env: { ...process.env, ...env } })
    closeSync(fd)
    return child
  }

  /** Starts a process of the run's own; what it writes to stdout is read and dropped. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], ...options })
    this.#children.push(child)
    child.stdout?.resume()
    return child
  }

  /** Starts a Node script of the bench and waits for its first word. */
  async node(script: string, args: readonly string[], nodeArgs: readonly string[] = []): Promise<ChildProcess> {
    const child = this.spawn(process.execPath, [...nodeArgs, script, ...args])
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child.once('exit', code => reject(new Error(`${script} ended with ${code}`)))
    })
    return child
  }

  async stop(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), 3000)
    await gone
    clearTimeout(late)
  }

  async close(): Promise<void> {
    await Promise.all(this.#children.map(child => this.stop(child)))
    rmSync(this.work, { recursive: true, force: true })
  }
}

/** CPU time of a process and its children so far, ns: of each thread as the scheduler counts it, not the kernel's tick. */
export function cpuNanos(pid: number): number {
  let nanos = 0
  for (const id of familyOf(pid)) {
    for (const task of readdirSync(`/proc/${id}/task`)) {
      nanos += Number(readFileSync(`/proc/${id}/task/${task}/schedstat`, 'utf8').split(' ')[0])
    }
  }
  return nanos
}

/**
 * What the machine's CPUs have done since it started, in ticks of 10 ms: `stolen` is what they were ready to do and the
 * hypervisor gave to other machines (0 where nobody can tell).
 */
export function machineTicks(): { readonly all: number; readonly stolen: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n')
  // user, nice, system, idle, iowait, irq, softirq, steal; what guests take is part of the first two (proc(5)).
  const ticks = line.trim().split(/ +/).slice(1, 9).map(Number)
  return { all: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks[7] ?? 0 }
}

/**
 * Keeps the cores from going to sleep until `close` is called, as benches of latency do: to wake one takes a virtual machine
 * up to some milliseconds, and each process that a call goes through waits for that anew.
 *
 * @returns undefined where this process may not ask for it.
 * @source  https://docs.kernel.org/power/pm_qos_interface.html
 */
export function keepCoresAwake(): { close(): void } | undefined {
  try {
    const fd = openSync('/dev/cpu_dma_latency', constants.O_WRONLY)
    // µs that waking may take, for as long as the file is open.
    writeSync(fd, Buffer.alloc(4))
    return { close: () => closeSync(fd) }
  } catch {
    return undefined
  }
}

/** Anonymous memory that is resident (`RssAnon`), of a process and its children, KiB. */
export function anonymousKib(pid: number): number {
  let kib = 0
  for (const id of familyOf(pid)) {
    try {
      const status = readFileSync(`/proc/${id}/status`, 'utf8')
      kib += Number(/^RssAnon:\s+([0-9]+) kB/m.exec(status)?.[1] ?? 0)
    } catch {
      // Ended meanwhile.
    }
  }
  return kib
}

export function isInstalled(program: string): boolean {
  return ['/usr/sbin', '/usr/bin', '/usr/local/bin'].some(dir => existsSync(path.join(dir, program)))
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Waits until something accepts connections. */
export async function untilOpen(port: number): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const open = await new Promise<boolean>(resolve => {
      const socket = net.connect(port, '127.0.0.1', () => {
        socket.destroy()
        resolve(true)
      })
      socket.once('error', () => resolve(false))
    })
    if (open) return
    await sleep(20)
  }
  throw new Error(`nothing listens on port ${port}`)
}

export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  if (sorted.length === 0) return Number.NaN
  if (sorted.length % 2 === 1) return sorted[middle] as number
  return ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

function familyOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return [pid, ...children.split(' ').filter(Boolean).map(Number)]
}

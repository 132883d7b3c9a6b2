import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { imageMalloc } from '../../test/support/image-malloc.ts'

/**
 * The sidecar as a process of its own for hours and millions of calls: its audit lines are looked at as they come and
 * kept nowhere.
 */
export class SoakedProgram {
  /** Port that takes calls; rejects when the process ends before. */
  readonly serving: Promise<number>
  readonly pid: number
  readonly #child: ChildProcess
  readonly #ended: Promise<number | NodeJS.Signals>

  /** @param onLine  Is given each audit line, unparsed. */
  constructor(program: string, nodeArgs: readonly string[], configFile: string, onLine: (line: string) => void) {
    const child = spawn(process.execPath, [...nodeArgs, program, 'run', '--config', configFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...imageMalloc() },
    })
    this.#child = child
    this.pid = child.pid ?? 0
    // Not 'exit': everything that it has said is to be read first.
    this.#ended = new Promise(resolve => child.once('close', (code, signal) => resolve(code ?? (signal as 'SIGKILL'))))
    createInterface({ input: child.stdout }).on('line', onLine)
    this.serving = new Promise((resolve, reject) => {
      child.once('exit', code => reject(new Error(`the sidecar has ended with code ${code}`)))
      createInterface({ input: child.stderr }).on('line', line => {
        const serving = /serving mTLS on \S*:(\d+) /.exec(line)
        if (serving !== null) resolve(Number(serving[1]))
      })
    })
  }

  /** Asks it to end, and waits until it has and its last line is read. */
  async stop(): Promise<number | NodeJS.Signals> {
    this.#child.kill('SIGTERM')
    return this.#ended
  }
}

/** How many happenings an audit line stands for: those that are alike are written as one line with a count. */
export function countOf(line: string): number {
  return Number(/"count":(\d+)/.exec(line)?.[1] ?? 1)
}

const NO_TIME = /"reason":"(?:OVERLOADED|TOO_MANY_HANDSHAKES|sidecar_overloaded|ERR_TLS_HANDSHAKE_TIMEOUT)"/

/** The sidecar had no time for this one, a connection or a call. */
export function isOverload(line: string): boolean {
  return NO_TIME.test(line)
}

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import http from 'node:http'
import { performance } from 'node:perf_hooks'

/** What a process holds at one moment. */
export interface Held {
  readonly anonMiB: number
  readonly files: number
  readonly sockets: number
  readonly watches: number
}

export function heldBy(pid: number): Held {
  const proc = `/proc/${pid}`
  const held = { files: 0, sockets: 0, watches: 0 }
  for (const fd of readdirSync(`${proc}/fd`)) {
    const target = tryRead(() => readlinkSync(`${proc}/fd/${fd}`))
    held.files += 1
    if (target.startsWith('socket:')) held.sockets += 1
    if (target.includes('inotify')) {
      held.watches += tryRead(() => readFileSync(`${proc}/fdinfo/${fd}`, 'utf8')).split('\ninotify ').length - 1
    }
  }
  const anon = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`${proc}/status`, 'utf8'))
  return { ...held, anonMiB: Number(anon?.[1] ?? 0) / 1024 }
}

function tryRead(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}

/** Asks `/livez` again and again on one connection, as long as it is told to; every answer has to be 200. */
export class LivenessWatch {
  readonly failures: string[] = []
  readonly #pending: string[] = []
  asked = 0
  longestMs = 0
  readonly #url: string
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  #timer: NodeJS.Timeout | undefined
  #isStopped = false

  constructor(admin: string) {
    this.#url = `${admin}/livez`
    this.#ask()
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#agent.destroy()
  }

  #ask(): void {
    if (this.#isStopped) return
    const begun = performance.now()
    const next = (failure?: string): void => {
      if (this.#isStopped) return
      this.longestMs = Math.max(this.longestMs, performance.now() - begun)
      // What fails last is the end of the process; only what is followed by an answer was a gap.
      if (failure !== undefined) this.#pending.push(failure)
      else this.failures.push(...this.#pending.splice(0))
      this.#timer = setTimeout(() => this.#ask(), 50)
    }
    this.asked += 1
    const request = http
      .get(this.#url, { agent: this.#agent, timeout: 5000 }, response => {
        response.resume()
        response.on('close', () => next(response.statusCode === 200 ? undefined : `status ${response.statusCode}`))
      })
      .on('error', error => {
        // A kept connection that was closed for its idleness just as it was used again says nothing; a new one does.
        if (request.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET') this.#ask()
        else next(String(error))
      })
  }
}

/** One series of the metrics, without labels or with any. */
export async function metric(admin: string, name: string): Promise<number> {
  const page = await (await fetch(`${admin}/metrics`)).text()
  let sum = Number.NaN
  for (const [, value] of page.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, 'gm'))) {
    sum = (Number.isNaN(sum) ? 0 : sum) + Number(value)
  }
  return sum
}

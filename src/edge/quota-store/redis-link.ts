import { createClient } from 'redis'
import { DRAW_SCRIPT, DRAW_SHA } from './redis-script.ts'

/**
 * One connection to Redis with a breaker around it. A call that Redis does not answer within the deadline fails; a few
 * of those in a row, any error, or a lost connection open the breaker, and then nobody waits: a probe of its own, which
 * runs the very script with a write, closes it again.
 */
export class RedisLink {
  readonly #options: RedisLinkOptions
  #client: Client
  #state: 'connecting' | 'up' | 'down' = 'connecting'
  #why = 'not connected yet'
  #timeouts = 0
  #pending = 0
  #probing = false
  #closed = false
  #timer: NodeJS.Timeout | undefined
  readonly #firstUp = Promise.withResolvers<void>()

  constructor(options: RedisLinkOptions) {
    this.#options = options
    this.#client = this.#connect()
    this.#probeSoon(PROBE_EVERY_MS)
  }

  /** Whether a call may be sent now. False also when so many wait for answers that one more would only wait as well. */
  get usable(): boolean {
    return this.#state === 'up' && this.#client.isReady && this.#pending < MAX_PENDING
  }

  get up(): boolean {
    return this.#state === 'up'
  }

  get detail(): string {
    return this.#state === 'up' ? 'connected' : this.#why
  }

  /** Resolves when the breaker has closed for the first time, or after `ms`. */
  async firstUp(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await Promise.race([
      this.#firstUp.promise,
      new Promise<void>(resolve => {
        timer = setTimeout(resolve, ms)
      }),
    ])
    clearTimeout(timer)
  }

  /**
   * Runs the script once.
   *
   * @param late  Told once after `late` was returned: the answer that came all the same, undefined when none did.
   * @returns     The script's numbers; `failed` when it did not run; `late` when that is not known yet.
   */
  async run(
    keys: readonly string[],
    args: readonly string[],
    late: (answer: readonly number[] | undefined) => void,
  ): Promise<readonly number[] | 'late' | 'failed'> {
    const answer = await this.#within(this.#options.deadlineMs, this.#send(keys, args), late)
    if (answer === 'late') {
      this.#timeouts++
      if (this.#timeouts >= TIMEOUTS_TO_OPEN) this.#open(`no answer within ${this.#options.deadlineMs} ms`)
      return 'late'
    }
    if (answer instanceof Error) {
      this.#open(describeError(answer))
      return 'failed'
    }
    this.#timeouts = 0
    return answer
  }

  /** The same without a breaker and with a time of its own; for what nobody waits for. Never throws. */
  async runPatiently(keys: readonly string[], args: readonly string[]): Promise<readonly number[] | undefined> {
    const answer = await this.#within(PATIENCE_MS, this.#send(keys, args), () => undefined)
    return answer === 'late' || answer instanceof Error ? undefined : answer
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#client.destroy()
  }

  #connect(): Client {
    const client = createClient({
      url: this.#options.url,
      RESP: 2,
      disableOfflineQueue: true,
      disableClientInfo: true,
      maintNotifications: 'disabled',
      commandsQueueMaxLength: MAX_PENDING * 2,
      socket: {
        connectTimeout: CONNECT_MS,
        reconnectStrategy: (retries: number) =>
          Math.min(50 * 2 ** Math.min(retries, 6), 1000) * (0.8 + Math.random() * 0.4),
      },
    })
    client.on('error', (error: Error) => {
      if (client === this.#client) this.#open(describeError(error))
    })
    client.on('ready', () => {
      if (client === this.#client) void this.#probe()
    })
    // Rejects only when it is given up by destroy(); everything else is told by 'error'.
    client.connect().catch(() => undefined)
    return client as unknown as Client
  }

  async #send(keys: readonly string[], args: readonly string[]): Promise<readonly number[] | Error> {
    const client = this.#client
    this.#pending++
    try {
      try {
        return numbers(await client.sendCommand(['EVALSHA', DRAW_SHA, String(keys.length), ...keys, ...args]))
      } catch (error) {
        // A restarted Redis has forgotten the script; sending it whole teaches it again.
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
        return numbers(await client.sendCommand(['EVAL', DRAW_SCRIPT, String(keys.length), ...keys, ...args]))
      }
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    } finally {
      this.#pending--
    }
  }

  #within(
    ms: number,
    sent: Promise<readonly number[] | Error>,
    late: (answer: readonly number[] | undefined) => void,
  ): Promise<readonly number[] | Error | 'late'> {
    return new Promise(resolve => {
      let isLate = false
      const timer = setTimeout(() => {
        // When it was this process that stood still, the answer is already in the socket: let it be read first.
        setImmediate(() => {
          isLate = true
          resolve('late')
        })
      }, ms)
      void sent.then(answer => {
        clearTimeout(timer)
        if (isLate) late(answer instanceof Error ? undefined : answer)
        else resolve(answer)
      })
    })
  }

  #open(why: string): void {
    if (this.#closed) return
    const was = this.#state
    this.#why = why
    this.#state = 'down'
    this.#timeouts = 0
    if (was !== 'down') this.#options.onDown(why)
  }

  #probeSoon(ms: number): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      if (this.#state !== 'up') void this.#probe()
      this.#probeSoon(PROBE_EVERY_MS)
    }, ms).unref()
  }

  async #probe(): Promise<void> {
    if (this.#probing || this.#closed || !this.#client.isReady) return
    this.#probing = true
    try {
      const client = this.#client
      const answer = await this.#within(PATIENCE_MS, this.#send([this.#options.probeKey], PROBE_ARGS), () => undefined)
      if (this.#closed || client !== this.#client) return
      if (answer === 'late') {
        // A connection that has gone silent without a word may stay so for minutes; a new one finds out at once.
        this.#open(`no answer within ${PATIENCE_MS} ms`)
        this.#client = this.#connect()
        client.destroy()
        return
      }
      if (answer instanceof Error) return this.#open(describeError(answer))
      if (this.#state === 'up') return
      await this.#options.beforeUp()
      if (this.#closed || !this.#client.isReady) return
      this.#state = 'up'
      this.#timeouts = 0
      this.#options.onUp()
      this.#firstUp.resolve()
    } finally {
      this.#probing = false
    }
  }
}

export interface RedisLinkOptions {
  readonly url: string
  readonly deadlineMs: number
  readonly probeKey: string
  /** Runs when Redis answers again, before any call is sent to it. */
  readonly beforeUp: () => Promise<void>
  readonly onUp: () => void
  readonly onDown: (why: string) => void
}

/** How often Redis is tried while it is away. */
export const PROBE_EVERY_MS = 250

const TIMEOUTS_TO_OPEN = 3
const MAX_PENDING = 2000
const CONNECT_MS = 2000
const PATIENCE_MS = 2000
/** A write of one unit into a window of a second: an answer to it means that draws work, memory included. */
const PROBE_ARGS = ['', '1', '1000', '4294967295', '1', '0']

interface Client {
  readonly isReady: boolean
  sendCommand(args: readonly string[]): Promise<unknown>
  destroy(): void
}

function numbers(reply: unknown): readonly number[] | Error {
  if (Array.isArray(reply) && reply.every(item => typeof item === 'number')) return reply
  return new Error('the script answered with something else than numbers')
}

/** What went wrong, without the text of the script or the address' credentials in it. */
function describeError(error: Error): string {
  const causes = error instanceof AggregateError ? error.errors : [error]
  const first: unknown = causes[0] ?? error
  const text = first instanceof Error ? first.message || first.name : String(first)
  return text.slice(0, 200)
}

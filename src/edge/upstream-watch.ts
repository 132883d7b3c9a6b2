import { connect } from 'node:net'
import type { UpstreamConfig } from '../config/config.ts'
import { type Exposure, probeExposure } from './exposure.ts'

export interface UpstreamWatchOptions {
  readonly target: UpstreamConfig['target']
  /** Addresses of this pod on which nobody but the sidecar may answer. */
  readonly podAddresses: readonly string[]
  readonly onChange: (up: boolean) => void
  /** Called when it has begun, or ceased, to answer around the sidecar. @param where  Where it does. */
  readonly onExposed: (where: readonly Exposure[]) => void
}

const LOOK_MS = 2000
const EXPOSURE_MS = 30_000
const TIMEOUT_MS = 1000

/**
 * Looks now and then whether the MCP server accepts connections, and whether it does so where it must not. Only opens
 * and closes a connection: a request would leave sessions behind in servers that make one for each.
 */
export class UpstreamWatch {
  readonly #options: UpstreamWatchOptions
  readonly #timers: NodeJS.Timeout[] = []
  /** Undefined until the first look is over. */
  up: boolean | undefined
  /** Undefined until the first look is over, and where the pod has no address of its own. */
  exposed: boolean | undefined

  constructor(options: UpstreamWatchOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    this.#timers.push(setInterval(() => void this.look(), LOOK_MS).unref())
    if (this.#options.podAddresses.length > 0) {
      this.#timers.push(setInterval(() => void this.#lookOutside(), EXPOSURE_MS).unref())
      void this.#lookOutside()
    }
    await this.look()
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer)
  }

  /** Looks now. @returns what was seen. */
  async look(): Promise<boolean> {
    const up = await accepts(this.#options.target)
    if (up !== this.up) {
      this.up = up
      this.#options.onChange(up)
    }
    return up
  }

  async #lookOutside(): Promise<void> {
    const { target, podAddresses, onExposed } = this.#options
    const where = await probeExposure(target, podAddresses, TIMEOUT_MS)
    const was = this.exposed === true
    this.exposed = where.length > 0
    if (this.exposed !== was) onExposed(where)
  }
}

function accepts(target: UpstreamConfig['target']): Promise<boolean> {
  return new Promise(resolve => {
    const socket =
      target.kind === 'unix' ? connect({ path: target.path }) : connect({ host: target.host, port: target.port })
    const settle = (up: boolean): void => {
      socket.destroy()
      resolve(up)
    }
    socket.setTimeout(TIMEOUT_MS, () => settle(false))
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}

import { lookup } from 'node:dns/promises'
import type { QuotaStoreConfig } from '../../config/config.ts'

/** Among how many sidecars limits are divided. */
export interface ReplicaCount {
  readonly current: number
  /** One line for people. */
  readonly detail: string
  follow(follower: () => void): void
  close(): void
}

export const ONE_REPLICA: ReplicaCount = fixed(1, 'in memory, for this sidecar alone')

type Share = Extract<QuotaStoreConfig, { kind: 'memory' }>['share']

export interface ReplicaDeps {
  readonly report?: (line: string) => void
  /** Every address of a name, as DNS has it. */
  readonly resolve?: (name: string) => Promise<readonly { address: string; family: number }[]>
  readonly everyMs?: number
}

/** The number in the configuration, or a count of addresses that is kept up to date. */
export async function replicaCount(share: Share, deps: ReplicaDeps = {}): Promise<ReplicaCount> {
  if (share === undefined) return ONE_REPLICA
  if (share.kind === 'replicas') return fixed(share.replicas, `in memory, divided by ${share.replicas}`)
  const count = new DnsCount(share.name, deps)
  await count.begin()
  return count
}

function fixed(current: number, detail: string): ReplicaCount {
  return { current, detail, follow: () => undefined, close: () => undefined }
}

const EVERY_MS = 10_000
/** How long the start of the sidecar waits for the first answer. */
const FIRST_MS = 2_000

/**
 * Counts the addresses behind a headless name, for as long as it lives. When DNS does not answer, or with nothing, the
 * last count is kept; before there was any, the sidecar takes itself to be alone.
 */
class DnsCount implements ReplicaCount {
  #current = 1
  #known = false
  #failing = false
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #follower: (() => void) | undefined
  readonly #name: string
  readonly #deps: ReplicaDeps

  constructor(name: string, deps: ReplicaDeps) {
    this.#name = name
    this.#deps = deps
  }

  get current(): number {
    return this.#current
  }

  get detail(): string {
    const count = this.#known ? `divided by ${this.#current} (${this.#name})` : `${this.#name} has not been counted yet`
    return `in memory, ${count}${this.#failing ? ', DNS does not answer: the last count is kept' : ''}`
  }

  follow(follower: () => void): void {
    this.#follower = follower
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async begin(): Promise<void> {
    const first = this.#count()
    await Promise.race([first, new Promise<void>(resolve => setTimeout(resolve, FIRST_MS).unref())])
    void first.then(() => this.#again())
  }

  #again(): void {
    if (this.#closed) return
    const everyMs = this.#deps.everyMs ?? EVERY_MS
    // Not all replicas at the same moment.
    this.#timer = setTimeout(
      () => void this.#count().then(() => this.#again()),
      everyMs * (0.9 + Math.random() * 0.2),
    ).unref()
  }

  async #count(): Promise<void> {
    let count = 0
    try {
      const addresses = await (this.#deps.resolve ?? addressesOf)(this.#name)
      // A pod of a dual-stack cluster has one address of each family.
      const v4 = new Set(addresses.filter(({ family }) => family === 4).map(({ address }) => address))
      const v6 = new Set(addresses.filter(({ family }) => family === 6).map(({ address }) => address))
      count = Math.max(v4.size, v6.size)
    } catch {
      count = 0
    }
    if (this.#closed) return
    const failing = count === 0
    if (failing !== this.#failing) {
      this.#deps.report?.(
        failing
          ? `quotas: ${this.#name} has no addresses; limits stay divided by ${this.#current}`
          : `quotas: ${this.#name} has addresses again`,
      )
      this.#failing = failing
    }
    if (failing) return
    this.#known = true
    if (count === this.#current) return
    this.#deps.report?.(`quotas: limits are divided by ${count} (were by ${this.#current})`)
    this.#current = count
    this.#follower?.()
  }
}

async function addressesOf(name: string): Promise<readonly { address: string; family: number }[]> {
  // getaddrinfo, because it knows the search path of the pod: `my-headless` alone is enough.
  return lookup(name, { all: true })
}

import type { CompiledQuota, CompiledQuotas } from './compile.ts'
import { type QuotaDecision, type QuotaLease, UNMETERED } from './decision.ts'
import type { Demand } from './demand.ts'
import type { QuotaReading } from './reading.ts'
import { InFlight } from './slots.ts'
import { bytesOfKey, FRESH, KeyTable, OVERFLOW } from './table.ts'
import { SteadyClock, type WindowColumn } from './window.ts'

/**
 * What has been used of every quota, in this process. A draw looks at all windows and slots first and charges only when
 * every one of them admits, so a refused call leaves no trace.
 *
 * Memory is bounded by `budgetBytes` for all windows together, divided evenly among the quotas that have any.
 */
export class Ledger {
  #compiled: CompiledQuotas
  readonly #budgetBytes: number
  readonly #clock = new SteadyClock()
  #nowMs = 0
  #books: readonly Book[] = []
  // Scratch of the draw under way; draws are synchronous.
  #slots: number[] = []

  constructor(compiled: CompiledQuotas, budgetBytes: number = DEFAULT_BUDGET_BYTES) {
    this.#compiled = compiled
    this.#budgetBytes = budgetBytes
    this.#books = openBooks(compiled, budgetBytes, [], 0)
  }

  get compiled(): CompiledQuotas {
    return this.#compiled
  }

  /**
   * Admits and charges, or refuses and charges nothing.
   *
   * @param demands  Made from the compiled quotas that this ledger holds, or held before.
   * @param nowMs    Monotonic ms.
   * @param watches  This ledger only watches while somebody else decides: a key that would have to share the overflow
   *                 is taken to fit and leaves no trace.
   */
  draw(demands: readonly Demand[], nowMs: number, watches = false): QuotaDecision {
    if (demands.length === 0) return UNMETERED
    const now = this.#clock.at(nowMs)
    this.#nowMs = now
    const refused = this.#look(demands, now, watches)
    if (refused !== undefined) {
      this.#settle(demands)
      return refused
    }
    const reading = this.#charge(demands, now)
    this.#settle(demands)
    return { admitted: true, reading, lease: this.#hold(demands) }
  }

  /** When the last draw was, on the clock of this ledger; `refund` asks for it. */
  get drawnAtMs(): number {
    return this.#nowMs
  }

  /** Takes back what a draw has charged; its lease is given back apart from that. */
  refund(demands: readonly Demand[], drawnAtMs: number): void {
    for (const demand of demands) {
      if (demand.cost > 0) this.#bookOf(demand.quota)?.table?.refund(demand.key, drawnAtMs, demand.cost)
    }
  }

  /** Goes on with another generation: a quota of the same name and key keeps what has been used and what is held. */
  reconfigure(compiled: CompiledQuotas, nowMs: number): void {
    this.#books = openBooks(compiled, this.#budgetBytes, this.#books, this.#clock.at(nowMs))
    this.#compiled = compiled
  }

  /** What one bucket holds, for `explain`. */
  inspect(quota: CompiledQuota, key: string, nowMs: number): BucketState {
    const book = this.#bookOf(quota)
    const now = this.#clock.at(nowMs)
    const table = book?.table
    const known = table?.find(key)
    const isOverflow = table !== undefined && known === undefined && table.size >= table.capacity
    const slot = known ?? (isOverflow ? OVERFLOW : undefined)
    return {
      inFlight: book?.inFlight.held(key) ?? 0,
      isOverflow,
      windows: quota.windows.map(({ perMs, limit }) => {
        const column = table?.columns.find(column => column.perMs === perMs)
        if (column === undefined || slot === undefined) return { used: 0, nextFreeMs: 0, resetMs: 0 }
        const used = column.used(slot, now)
        return {
          used,
          nextFreeMs: column.fitsAfterMs(slot, now, 1, limit),
          resetMs: column.emptyAfterMs(slot, now),
        }
      }),
    }
  }

  /** Keys of a quota that have used something or hold something. */
  keys(quota: CompiledQuota): Iterable<string> {
    const book = this.#bookOf(quota)
    if (book === undefined) return []
    return new Set([...(book.table?.keys() ?? []), ...book.inFlight.keys()])
  }

  status(): LedgerStatus {
    return {
      budgetBytes: this.#budgetBytes,
      quotas: this.#books.map(({ quota, table, inFlight }) => ({
        name: quota.name,
        keys: table?.size ?? 0,
        capacity: table?.capacity ?? 0,
        overflowed: table?.overflowed ?? 0,
        inFlightKeys: inFlight.size,
      })),
    }
  }

  #look(demands: readonly Demand[], now: number, watches: boolean): Refused | undefined {
    let full: Refused | undefined
    let biting: Demand | undefined
    let bitingColumn = 0
    let bitingSlot = 0
    let waitMs = 0
    for (let i = 0; i < demands.length; i++) {
      const demand = demands[i]!
      if (demand.slots > 0) full ??= this.#looksFull(demand)
      const slot = this.#place(demand, now)
      this.#slots[i] = watches && slot === OVERFLOW ? NOWHERE : slot
      if (this.#slots[i] === NOWHERE) continue
      const book = this.#bookOf(demand.quota)!
      const table = book.table!
      // Elements of one batch that all share the overflow must fit into it together.
      const cost = slot === OVERFLOW ? this.#overflowCost(demands, i) : demand.cost
      for (let at = 0; at < table.columns.length; at++) {
        const column = table.columns[at]!
        const limit = book.quota.windows[at]!.limit
        if (table.used(column, slot, now) + cost <= limit) continue
        const wait = column.fitsAfterMs(slot === FRESH ? OVERFLOW : slot, now, cost, limit)
        // The window that takes longest decides when a retry succeeds.
        if (biting !== undefined && wait <= waitMs) continue
        biting = demand
        bitingColumn = at
        bitingSlot = slot
        waitMs = wait
      }
    }
    if (biting === undefined) return full
    const book = this.#bookOf(biting.quota)!
    const column = book.table!.columns[bitingColumn]!
    const limit = book.quota.windows[bitingColumn]!.limit
    // More than the whole limit at once never fits, not even into an empty window: say so by the longest time there is.
    const retryAfterMs = waitMs > 0 ? waitMs : column.perMs
    const slot = bitingSlot === FRESH ? OVERFLOW : bitingSlot
    return {
      admitted: false,
      refusal: {
        reason: 'quota_exhausted',
        quota: book.quota.name,
        limit,
        windowMs: column.perMs,
        retryAfterMs,
      },
      reading: {
        name: book.quota.name,
        limit,
        windowMs: column.perMs,
        remaining: Math.max(0, limit - column.used(slot, now)),
        resetMs: column.emptyAfterMs(slot, now),
      },
    }
  }

  #looksFull(demand: Demand): Refused | undefined {
    if (demand.slots === 0) return undefined
    const book = this.#bookOf(demand.quota)
    const limit = book?.quota.concurrent
    if (book === undefined || limit === undefined) return undefined
    const held = book.inFlight.held(demand.key)
    if (held + demand.slots <= limit) return undefined
    return {
      admitted: false,
      refusal: { reason: 'quota_concurrency', quota: book.quota.name, limit, retryAfterMs: CONCURRENCY_RETRY_MS },
      reading: { name: book.quota.name, limit, windowMs: 0, remaining: Math.max(0, limit - held), resetMs: 0 },
    }
  }

  #charge(demands: readonly Demand[], now: number): QuotaReading | undefined {
    let tightest: CompiledQuota | undefined
    let tightestColumn: WindowColumn | undefined
    let tightestSlot = 0
    let limit = 0
    let remaining = Number.POSITIVE_INFINITY
    for (let i = 0; i < demands.length; i++) {
      const demand = demands[i]!
      if (this.#slots[i] === NOWHERE) continue
      const book = this.#bookOf(demand.quota)!
      const table = book.table!
      const slot = table.charge(demand.key, this.#slots[i]!, now, demand.cost)
      for (let at = 0; at < table.columns.length; at++) {
        const column = table.columns[at]!
        const windowLimit = book.quota.windows[at]!.limit
        const left = windowLimit - column.used(slot, now)
        if (left >= remaining) continue
        tightest = book.quota
        tightestColumn = column
        tightestSlot = slot
        limit = windowLimit
        remaining = left
      }
    }
    if (tightest === undefined) return this.#slotReading(demands)
    return {
      name: tightest.name,
      limit,
      windowMs: tightestColumn!.perMs,
      remaining: Math.max(0, remaining),
      resetMs: tightestColumn!.emptyAfterMs(tightestSlot, now),
    }
  }

  /** For calls that only concurrency limits cover. */
  #slotReading(demands: readonly Demand[]): QuotaReading | undefined {
    let reading: QuotaReading | undefined
    for (const demand of demands) {
      const book = this.#bookOf(demand.quota)
      const limit = book?.quota.concurrent
      if (book === undefined || limit === undefined || demand.slots === 0) continue
      const remaining = Math.max(0, limit - book.inFlight.held(demand.key) - demand.slots)
      if (reading !== undefined && reading.remaining <= remaining) continue
      reading = { name: book.quota.name, limit, windowMs: 0, remaining, resetMs: 0 }
    }
    return reading
  }

  #hold(demands: readonly Demand[]): QuotaLease | undefined {
    let lease: Lease | undefined
    for (const demand of demands) {
      if (demand.slots === 0) continue
      const book = this.#bookOf(demand.quota)
      if (book === undefined) continue
      lease ??= new Lease()
      lease.add(book.inFlight, demand)
    }
    return lease
  }

  #place(demand: Demand, now: number): number {
    if (demand.cost === 0) return NOWHERE
    const table = this.#bookOf(demand.quota)?.table
    if (table === undefined) return NOWHERE
    table.sweep(now, 1)
    return table.place(demand.key, now)
  }

  #settle(demands: readonly Demand[]): void {
    for (let i = 0; i < demands.length; i++) this.#bookOf(demands[i]!.quota)?.table?.settle()
  }

  #overflowCost(demands: readonly Demand[], upTo: number): number {
    let cost = 0
    for (let i = 0; i <= upTo; i++) {
      if (demands[i]!.quota === demands[upTo]!.quota && this.#slots[i] === OVERFLOW) cost += demands[i]!.cost
    }
    return cost
  }

  /** A call that was judged under an earlier generation draws from its quota's book of today, if there still is one. */
  #bookOf(quota: CompiledQuota): Book | undefined {
    const book = this.#books[quota.index]
    if (book !== undefined && (book.quota === quota || book.quota.identity === quota.identity)) return book
    return this.#books.find(({ quota: { identity } }) => identity === quota.identity)
  }
}

export type Refused = Extract<QuotaDecision, { admitted: false }>

export interface BucketState {
  readonly inFlight: number
  /** The bucket is the one that new keys share while the table is full. */
  readonly isOverflow: boolean
  /** In the order of the quota's windows. */
  readonly windows: readonly { readonly used: number; readonly nextFreeMs: number; readonly resetMs: number }[]
}

export interface LedgerStatus {
  readonly budgetBytes: number
  readonly quotas: readonly {
    readonly name: string
    readonly keys: number
    readonly capacity: number
    readonly overflowed: number
    readonly inFlightKeys: number
  }[]
}

/** Memory for the windows of all keys of all quotas together. */
const DEFAULT_BUDGET_BYTES = 64 * 1024 * 1024

/** Nobody knows when a call in flight will end, so this is only advice. */
const CONCURRENCY_RETRY_MS = 1000

/** One quota and what has been used of it. */
interface Book {
  readonly quota: CompiledQuota
  /** Undefined for a quota that only limits concurrency. */
  readonly table: KeyTable | undefined
  readonly inFlight: InFlight
}

const NOWHERE = -2

function openBooks(compiled: CompiledQuotas, budgetBytes: number, old: readonly Book[], now: number): readonly Book[] {
  const withWindows = compiled.quotas.filter(({ windows }) => windows.length > 0).length
  return compiled.quotas.map(quota => {
    const before = old.find(book => book.quota.identity === quota.identity)
    const inFlight = before?.inFlight ?? new InFlight()
    if (quota.windows.length === 0) return { quota, table: undefined, inFlight }
    const capacity = Math.max(1, Math.floor(budgetBytes / withWindows / bytesOfKey(quota)))
    const known = before?.table
    if (known?.fits(quota) === true) {
      known.capacity = capacity
      return { quota, table: known, inFlight }
    }
    const table = new KeyTable(quota, capacity)
    if (known !== undefined) table.inherit(known, now)
    return { quota, table, inFlight }
  })
}

class Lease implements QuotaLease {
  #held: { readonly inFlight: InFlight; readonly key: string; readonly slots: number }[] | undefined = []

  add(inFlight: InFlight, demand: Demand): void {
    inFlight.hold(demand.key, demand.slots)
    this.#held?.push({ inFlight, key: demand.key, slots: demand.slots })
  }

  release(): void {
    const held = this.#held
    this.#held = undefined
    if (held === undefined) return
    for (const { inFlight, key, slots } of held) inFlight.giveBack(key, slots)
  }
}

/**
 * Keeps strangers from filling the log: of things that are identical in caller and reason, the first is written at once
 * and those that follow within the window become one line with a count. Memory is bounded by `maxKeys` and `maxBytes`;
 * what finds no place of its own is counted under a key that says less.
 */
export class Coalescer {
  readonly #entries = new Map<string, Entry>()
  /** How many most telling keys there are for each second one, so that one caller cannot take every place. */
  readonly #variants = new Map<string, number>()
  #bytes = 0
  readonly #windowMs: number
  readonly #maxKeys: number
  readonly #maxBytes: number

  constructor(windowMs = 10_000, maxKeys = 512, maxBytes = 1 << 20) {
    this.#windowMs = windowMs
    this.#maxKeys = maxKeys
    this.#maxBytes = maxBytes
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0
  }

  /**
   * Notes one occurrence.
   *
   * @param ladder  What makes it identical to others, from the most telling key to the one that always has a place.
   * @param hold    Nothing can be written at the moment: the first one is counted as well.
   * @returns       True when the caller is to write a line of its own for it now.
   */
  note(ladder: readonly Rung[], nowMs: number, hold: boolean): boolean {
    const last = ladder.length - 1
    for (let at = 0; at <= last; at++) {
      const { key, draft } = ladder[at] as Rung
      const entry = this.#entries.get(key)
      if (entry !== undefined) {
        if (entry.count === 0) entry.firstAtMs = nowMs
        entry.count += 1
        entry.lastAtMs = nowMs
        if (entry.draft === '') this.#keep(entry, draft())
        return false
      }
      const full = this.#entries.size >= this.#maxKeys || this.#bytes >= this.#maxBytes
      if (at < last && (full || (at === 0 && !this.#takeVariant(ladder)))) continue
      const parent = at === 0 && last > 0 ? (ladder[1] as Rung).key : undefined
      const fresh = { draft: '', count: 0, firstAtMs: nowMs, lastAtMs: nowMs, endsAtMs: nowMs + this.#windowMs, parent }
      this.#entries.set(key, fresh)
      // Only what has the most telling place gets a line of its own; what is left over is counted.
      if (!hold && at === 0 && !full) return true
      fresh.count = 1
      this.#keep(fresh, draft())
      return false
    }
    return true
  }

  /** Takes out what is due: every entry whose window has ended, or all of them. */
  take(nowMs: number, all = false): Coalesced[] {
    const due: Coalesced[] = []
    for (const [key, entry] of this.#entries) {
      if (!all && entry.endsAtMs > nowMs) continue
      this.#entries.delete(key)
      this.#bytes -= entry.draft.length
      if (entry.parent !== undefined) this.#giveVariantBack(entry.parent)
      if (entry.count > 0) due.push(entry)
    }
    return due
  }

  #takeVariant(ladder: readonly Rung[]): boolean {
    const parent = (ladder[1] as Rung).key
    const taken = this.#variants.get(parent) ?? 0
    if (taken >= MAX_VARIANTS) return false
    this.#variants.set(parent, taken + 1)
    return true
  }

  #giveVariantBack(parent: string): void {
    const taken = this.#variants.get(parent) ?? 0
    if (taken <= 1) this.#variants.delete(parent)
    else this.#variants.set(parent, taken - 1)
  }

  #keep(entry: Entry, draft: string): void {
    entry.draft = draft
    this.#bytes += draft.length
  }
}

/** One way to call things identical, and the draft of a line that says no more than that. */
export interface Rung {
  readonly key: string
  draft(): string
}

export interface Coalesced {
  readonly draft: string
  readonly count: number
  readonly firstAtMs: number
  readonly lastAtMs: number
}

interface Entry {
  draft: string
  count: number
  firstAtMs: number
  lastAtMs: number
  readonly endsAtMs: number
  readonly parent: string | undefined
}

const MAX_VARIANTS = 32

/**
 * Units that were admitted while Redis was away and that it has still to learn of, by bucket. Bounded: beyond the cap
 * further buckets are not reported, and only this sidecar's own ledger knows of them.
 */
export class Debts {
  readonly #units = new Map<string, number>()

  get size(): number {
    return this.#units.size
  }

  /** @param identity  Identity of the quota; it holds no line break, so it ends at the first one. */
  add(identity: string, key: string, units: number): void {
    const bucket = `${identity}\n${key}`
    const owed = this.#units.get(bucket)
    if (owed === undefined && this.#units.size >= MAX_BUCKETS) return
    this.#units.set(bucket, Math.min((owed ?? 0) + units, MAX_UNITS))
  }

  /** What is owed for a bucket; whoever takes it reports it, or puts it back. */
  take(identity: string, key: string): number {
    if (this.#units.size === 0) return 0
    const bucket = `${identity}\n${key}`
    const owed = this.#units.get(bucket) ?? 0
    if (owed > 0) this.#units.delete(bucket)
    return owed
  }

  takeSome(count: number): { readonly identity: string; readonly key: string; readonly units: number }[] {
    const taken: { identity: string; key: string; units: number }[] = []
    for (const [bucket, units] of this.#units) {
      if (taken.length >= count) break
      this.#units.delete(bucket)
      const end = bucket.indexOf('\n')
      taken.push({ identity: bucket.slice(0, end), key: bucket.slice(end + 1), units })
    }
    return taken
  }
}

const MAX_BUCKETS = 65_536
const MAX_UNITS = 0xffff_ffff

import { hash } from 'node:crypto'
import type { Caller } from '../core/identity/caller.ts'
import { ownText } from '../core/own-text.ts'

/** What can belong to somebody: a session, an id of the SSE transport, an event to resume at, a task, a server's request. */
export type OwnedKind = 'session' | 'sse' | 'event' | 'task' | 'request'

/** Whose something is, as text that is the same for the same principal and for nobody else. */
export type Owner = string

/**
 * The principal that sessions and tasks belong to: entry of `peers`, matched name, organisation and user. A rotated
 * certificate keeps what is its own, because its name stays; two peers under one wildcard entry share nothing.
 */
export function ownerOf(caller: Caller): Owner {
  const { peer, user } = caller
  const workload = `${peer.name}\n${peer.matched}`
  // No part can hold a line feed: certificates, headers and claims with control characters are refused.
  return user === undefined ? workload : `${workload}\n${user.org ?? ''}\n${user.id}`
}

/** An id as it may be logged: the first half of its SHA-256, in hexadecimal. */
export function digestOf(id: string): string {
  return hash('sha256', id, 'hex').slice(0, 32)
}

/** Bounds of one kind. Time to live is counted from the last use. */
export interface OwnershipBounds {
  readonly most: number
  readonly mostForOne: number
  readonly idleMs: number
}

/**
 * Who owns which ids. Only the upstream's own answers make owners: nothing is adopted because somebody names it first.
 * Ids are kept as digests. The tables are bounded, as a whole and for each owner, so that nobody can push out what is
 * another's by making many of his own; the longest unused goes first.
 *
 * All times are ms since the epoch and come from the caller.
 */
export class Ownership {
  readonly #tables: Record<OwnedKind, Table>

  constructor(bounds: Partial<Record<OwnedKind, OwnershipBounds>> = {}) {
    const table = (kind: OwnedKind): Table => new Table(bounds[kind] ?? DEFAULT_BOUNDS[kind])
    this.#tables = {
      session: table('session'),
      sse: table('sse'),
      event: table('event'),
      task: table('task'),
      request: table('request'),
    }
  }

  /**
   * Records that the upstream has given `id` to `owner`.
   *
   * @returns false when the id is already somebody else's; it stays theirs, and the answer must not reach the claimant.
   */
  claim(kind: OwnedKind, id: string, owner: Owner, nowMs: number): boolean {
    return this.#tables[kind].claim(keyOf(id), owner, nowMs)
  }

  /** Whether the id is the owner's own; a use that keeps it alive. Unknown and somebody else's answer the same. */
  owns(kind: OwnedKind, id: string, owner: Owner, nowMs: number): boolean {
    return this.#tables[kind].standing(keyOf(id), owner, nowMs) === 'own'
  }

  /** As `owns`, with the difference that the audit line shows and the caller never learns. */
  standing(kind: OwnedKind, id: string, owner: Owner, nowMs: number): 'own' | 'foreign' | 'unknown' {
    return this.#tables[kind].standing(keyOf(id), owner, nowMs)
  }

  /** Ends what is the owner's own, once: true for exactly one of several askers. */
  take(kind: OwnedKind, id: string, owner: Owner, nowMs: number): boolean {
    const key = keyOf(id)
    if (this.#tables[kind].standing(key, owner, nowMs) !== 'own') return false
    this.#tables[kind].forget(key)
    return true
  }

  /** The session was ended, or the upstream does not know it any more. */
  forget(kind: OwnedKind, id: string): void {
    this.#tables[kind].forget(keyOf(id))
  }

  /** Drops what has not been used for too long. Work is proportional to what is dropped. */
  sweep(nowMs: number): void {
    for (const table of Object.values(this.#tables)) table.sweep(nowMs)
  }

  size(kind: OwnedKind): number {
    return this.#tables[kind].size
  }
}

/** Id of a request that the server sent within a session (or on a stream): a JSON-RPC id keeps its type. */
export function serverRequestId(session: string, id: string | number): string {
  return `${session}\n${typeof id === 'number' ? 'n' : 's'}${id}`
}

const HOUR_MS = 3_600_000
const DEFAULT_BOUNDS: Record<OwnedKind, OwnershipBounds> = {
  session: { most: 50_000, mostForOne: 5000, idleMs: 8 * HOUR_MS },
  sse: { most: 10_000, mostForOne: 1000, idleMs: 8 * HOUR_MS },
  event: { most: 100_000, mostForOne: 10_000, idleMs: HOUR_MS },
  task: { most: 50_000, mostForOne: 5000, idleMs: 24 * HOUR_MS },
  request: { most: 20_000, mostForOne: 1000, idleMs: HOUR_MS },
}

function keyOf(id: string): string {
  return hash('sha256', id, 'base64url')
}

interface Entry {
  readonly owner: Owned
  usedAtMs: number
}

/** What one owner has, oldest use first, so that his own oldest can be found without looking at anybody else's. */
interface Owned {
  readonly owner: Owner
  readonly keys: Set<string>
}

class Table {
  readonly #bounds: OwnershipBounds
  /** In order of use, the longest unused first. */
  readonly #entries = new Map<string, Entry>()
  readonly #owners = new Map<Owner, Owned>()

  constructor(bounds: OwnershipBounds) {
    this.#bounds = bounds
  }

  get size(): number {
    return this.#entries.size
  }

  claim(key: string, owner: Owner, nowMs: number): boolean {
    const standing = this.standing(key, owner, nowMs)
    if (standing !== 'unknown') return standing === 'own'
    let owned = this.#owners.get(owner)
    if (owned === undefined) {
      owned = { owner: ownText(owner), keys: new Set() }
      this.#owners.set(owned.owner, owned)
    }
    if (owned.keys.size >= this.#bounds.mostForOne) this.forget(first(owned.keys))
    if (this.#entries.size >= this.#bounds.most) this.forget(first(this.#entries.keys()))
    // Dropping the last of an owner's own drops the owner too.
    this.#owners.set(owned.owner, owned)
    owned.keys.add(key)
    this.#entries.set(key, { owner: owned, usedAtMs: nowMs })
    return true
  }

  standing(key: string, owner: Owner, nowMs: number): 'own' | 'foreign' | 'unknown' {
    const entry = this.#entries.get(key)
    if (entry === undefined) return 'unknown'
    if (nowMs - entry.usedAtMs >= this.#bounds.idleMs) {
      this.forget(key)
      return 'unknown'
    }
    if (entry.owner.owner !== owner) return 'foreign'
    entry.usedAtMs = nowMs
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    entry.owner.keys.delete(key)
    entry.owner.keys.add(key)
    return 'own'
  }

  forget(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#entries.delete(key)
    entry.owner.keys.delete(key)
    if (entry.owner.keys.size === 0) this.#owners.delete(entry.owner.owner)
  }

  sweep(nowMs: number): void {
    for (const [key, entry] of this.#entries) {
      if (nowMs - entry.usedAtMs < this.#bounds.idleMs) return
      this.forget(key)
    }
  }
}

function first(keys: Iterable<string>): string {
  for (const key of keys) return key
  throw new Error('a full table has a first entry')
}

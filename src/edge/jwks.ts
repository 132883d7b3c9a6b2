import type { JSONWebKeySet, JWK, JWTVerifyGetKey } from 'jose'
import { err, ok, type Result } from '../core/result.ts'
import type { FilesRead } from './files/read-generation.ts'
import { type FileWatch, watchFiles } from './files/watch-files.ts'

/** The issuer's keys as one immutable value. */
export interface KeySet {
  readonly find: JWTVerifyGetKey
  /** Each public key as text, so that a key that was withdrawn can be seen. */
  readonly members: ReadonlySet<string>
}

/** Where keys come from. `undefined` means that there are none that may be used now. */
export interface KeySource {
  get(): KeySet | undefined | Promise<KeySet | undefined>
  /** A token names a key that `seen` does not have. Answers with another set, or undefined when there is none. */
  getNewer(seen: KeySet): KeySet | undefined | Promise<KeySet | undefined>
  close(): void
}

export interface KeyReport {
  loaded(keys: number): void
  /** What was there before goes on serving, as long as it may. */
  kept(why: string): void
}

export interface RemoteKeyOptions {
  readonly fetchText: (url: string, limits: { bytes: number; ms: number }) => Promise<string>
  readonly now: () => number
  readonly report: KeyReport
  /** Keys older than this are fetched anew while they go on serving. */
  readonly refreshAfterMs?: number
  /** Keys that could not be fetched anew serve for so long. */
  readonly staleForMs?: number
  /** Shortest time between two fetches because of an unknown key. */
  readonly coolDownMs?: number
  /** Shortest time to the next attempt after a failed one. */
  readonly retryAfterMs?: number
}

/**
 * Keys from the issuer's JWKS URI. One fetch at a time; a flood of tokens with invented key ids costs one fetch for
 * each cool-down; while the issuer is down the last keys serve for a bounded time.
 */
export class RemoteKeySource implements KeySource {
  readonly #url: string
  readonly #options: Required<RemoteKeyOptions>
  #set: KeySet | undefined
  #fetchedAtMs = Number.NEGATIVE_INFINITY
  #triedAtMs = Number.NEGATIVE_INFINITY
  #failed = false
  #underWay: Promise<KeySet | undefined> | undefined
  #closed = false

  constructor(url: string, options: RemoteKeyOptions) {
    this.#url = url
    this.#options = {
      refreshAfterMs: 300_000,
      staleForMs: 3_600_000,
      coolDownMs: 30_000,
      retryAfterMs: 5000,
      ...options,
    }
  }

  get(): KeySet | undefined | Promise<KeySet | undefined> {
    const nowMs = this.#options.now()
    const ageMs = nowMs - this.#fetchedAtMs
    if (ageMs < this.#options.refreshAfterMs) return this.#set
    const mayTry = !this.#failed || nowMs - this.#triedAtMs >= this.#options.retryAfterMs
    if (ageMs < this.#options.staleForMs) {
      if (mayTry) void this.#fetch()
      return this.#set
    }
    if (mayTry) return this.#fetch()
    return this.#underWay
  }

  getNewer(seen: KeySet): KeySet | undefined | Promise<KeySet | undefined> {
    if (this.#set !== seen) return this.#set
    if (this.#underWay === undefined && this.#options.now() - this.#triedAtMs < this.#options.coolDownMs)
      return undefined
    return this.#fetch().then(set => (set === seen ? undefined : set))
  }

  close(): void {
    this.#closed = true
  }

  #fetch(): Promise<KeySet | undefined> {
    this.#underWay ??= this.#fetchOnce().finally(() => {
      this.#underWay = undefined
    })
    return this.#underWay
  }

  /** Never rejects: whatever goes wrong is reported, and what is still usable is answered. */
  async #fetchOnce(): Promise<KeySet | undefined> {
    const { fetchText, now, report, staleForMs } = this.#options
    this.#triedAtMs = now()
    let parsed: Result<KeySet, string>
    try {
      parsed = parseKeySet(await fetchText(this.#url, LIMITS))
    } catch (error) {
      parsed = err((error as Error).message)
    }
    if (this.#closed) return this.#set
    this.#failed = !parsed.ok
    if (parsed.ok) {
      // The same keys stay the same value, so that "is there a newer set" has an answer.
      if (this.#set === undefined || !isSame(this.#set.members, parsed.value.members)) this.#set = parsed.value
      this.#fetchedAtMs = now()
      report.loaded(parsed.value.members.size)
    } else {
      report.kept(parsed.error)
      if (now() - this.#fetchedAtMs >= staleForMs) return undefined
    }
    return this.#set
  }
}

/** Keys from a file, which is followed as the kubelet or anybody else replaces it. */
export class FileKeySource implements KeySource {
  readonly path: string
  readonly #report: KeyReport
  #set: KeySet | undefined
  #watch: Promise<FileWatch> | undefined

  constructor(path: string, report: KeyReport) {
    this.path = path
    this.#report = report
  }

  get(): KeySet | undefined | Promise<KeySet | undefined> {
    if (this.#set !== undefined) return this.#set
    return this.#follow().then(() => this.#set)
  }

  getNewer(seen: KeySet): KeySet | undefined {
    return this.#set === seen ? undefined : this.#set
  }

  /** Reads the file now; a file that cannot be used leaves the keys as they are. */
  async reload(): Promise<void> {
    await (await this.#follow()).look()
  }

  close(): void {
    void this.#watch?.then(watch => watch.stop())
  }

  #follow(): Promise<FileWatch> {
    this.#watch ??= watchFiles({
      paths: [this.path],
      maxBytes: LIMITS.bytes,
      onChange: files => this.#take(files),
    })
    return this.#watch
  }

  #take(files: FilesRead): void {
    const content = files.contents.get(this.path)
    if (content === undefined) return this.#report.kept(files.problems[0]?.message ?? 'cannot be read')
    const parsed = parseKeySet(content.toString('utf8'))
    if (!parsed.ok) return this.#report.kept(parsed.error)
    if (this.#set === undefined || !isSame(this.#set.members, parsed.value.members)) this.#set = parsed.value
    this.#report.loaded(parsed.value.members.size)
  }
}

/**
 * Reads a JWK Set. Symmetric keys and keys with private parts have no place in one that is published and are left out.
 *
 * @source RFC 7517 §5
 */
export function parseKeySet(text: string): Result<KeySet, string> {
  if (text.length > LIMITS.bytes) return err(`larger than ${LIMITS.bytes} bytes`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return err('not JSON')
  }
  const keys = (value as Partial<JSONWebKeySet> | null)?.keys
  if (!Array.isArray(keys)) return err('not a JWK Set: no "keys"')
  if (keys.length > MOST_KEYS) return err(`more than ${MOST_KEYS} keys`)
  const usable = keys.filter(isPublic)
  if (usable.length === 0) return err('no public key in it')
  let find: JWTVerifyGetKey | undefined
  return ok({
    async find(header, token) {
      find ??= (await import('jose')).createLocalJWKSet({ keys: usable })
      return find(header, token)
    },
    members: new Set(
      usable.map(key => JSON.stringify([key.kid, key.kty, key.crv, key.n, key.e, key.x, key.y, key.alg])),
    ),
  })
}

const LIMITS = { bytes: 262_144, ms: 5000 }
const MOST_KEYS = 100

function isPublic(key: JWK | null): key is JWK {
  if (typeof key !== 'object' || key === null) return false
  return (key.kty === 'RSA' || key.kty === 'EC' || key.kty === 'OKP') && key.d === undefined && key.k === undefined
}

function isSame(left: ReadonlySet<string>, right: ReadonlySet<string>): boolean {
  return left.size === right.size && [...left].every(member => right.has(member))
}

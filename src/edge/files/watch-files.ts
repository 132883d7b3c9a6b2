import { basename } from 'node:path'
import { type Directory, directoriesOf } from './directories.ts'
import { type OpenDirectory, openDirectory } from './directory-watch.ts'
import { type FilesRead, readGeneration } from './read-generation.ts'

/** Why files were looked at: an event, the slow poll, a retry that the follower asked for, or somebody's wish. */
export type LookCause = 'start' | 'event' | 'poll' | 'retry' | 'asked'

export interface WatchFilesOptions {
  /** Files that belong together; they are read as one generation. They need not exist. */
  readonly paths: readonly string[]
  /**
   * Called with what the files hold: at the start, whenever that has changed, and on a retry or when asked. Calls never
   * overlap, and must not wait for `look()`. `'retry'` asks to be called again soon even if nothing changes (50 ms, then ever later up to 5 s).
   */
  readonly onChange: (files: FilesRead, cause: LookCause) => FollowUp | Promise<FollowUp>
  /** The poll has found a change that no event announced. */
  readonly onMissed?: (changed: readonly string[]) => void
  /** A directory cannot be watched (ENOSPC, EMFILE): only the poll looks there until it can. */
  readonly onWatchFailed?: (path: string, error: Error) => void
  /** Quiet time after an event before the files are read, ms. */
  readonly debounceMs?: number
  /** How often the files are read whatever the events say, ms. */
  readonly pollMs?: number
  readonly maxBytes?: number
  /** For tests: watches that never fire, or fail. */
  readonly openDirectory?: OpenDirectory
}

export type FollowUp = 'retry' | 'settled' | void

export interface FileWatch {
  /** Reads the files now and hands them to `onChange`, changed or not. */
  look(): Promise<void>
  /** Directories that are watched now. */
  watched(): string[]
  stop(): Promise<void>
}

/**
 * Follows files as they are replaced: by the kubelet's link swap, by rename, in place, or by removing the directory and
 * making it anew. Resolves after the first call of `onChange`.
 *
 * Events only say "look again": every directory on the way is watched, and when something happens there to what the way
 * goes through (a log beside a file may grow), the files are read after a short quiet and compared by content. A poll does the same at long intervals, because watches get lost (limits, network file systems,
 * overflowing queues) and nobody notices.
 */
export async function watchFiles(options: WatchFilesOptions): Promise<FileWatch> {
  const watch = new Watch(options)
  await watch.start()
  return watch
}

interface Watched {
  readonly path: string
  entries: ReadonlySet<string>
  close(): void
}

const GONE = new Set(['ENOENT', 'ENOTDIR'])
const RETRY_FIRST_MS = 50
const RETRY_LONGEST_MS = 5000

class Watch implements FileWatch {
  readonly #options: WatchFilesOptions
  readonly #debounceMs: number
  readonly #directories = new Map<string, Watched>()
  readonly #unwatchable = new Set<string>()
  #delivered: FilesRead | undefined
  #queue: Promise<void> = Promise.resolve()
  #debounce: NodeJS.Timeout | undefined
  #firstEventAt = 0
  #retry: NodeJS.Timeout | undefined
  #retryMs = RETRY_FIRST_MS
  #poll: NodeJS.Timeout | undefined
  #isStopped = false
  #isFollowing = false

  constructor(options: WatchFilesOptions) {
    this.#options = options
    this.#debounceMs = options.debounceMs ?? 100
  }

  async start(): Promise<void> {
    await this.#enqueue('start')
    this.#poll = setInterval(() => void this.#enqueue('poll'), this.#options.pollMs ?? 30_000).unref()
  }

  look(): Promise<void> {
    return this.#enqueue('asked')
  }

  watched(): string[] {
    return [...this.#directories.values()].map(({ path }) => path)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    clearInterval(this.#poll)
    clearTimeout(this.#debounce)
    clearTimeout(this.#retry)
    await this.#queue
    for (const { close } of this.#directories.values()) close()
    this.#directories.clear()
  }

  /** One look after the other: what is delivered later was read later. */
  #enqueue(cause: LookCause): Promise<void> {
    const look = this.#queue.then(() => (this.#isStopped ? undefined : this.#look(cause)))
    this.#queue = look.catch(() => undefined)
    return look
  }

  async #look(cause: LookCause): Promise<void> {
    // First the watches, then the content: what changes in between is an event.
    await this.#followDirectories(cause)
    const files = await readGeneration(this.#options.paths, this.#readOptions())
    const before = this.#delivered
    const isChanged = files.digest !== before?.digest
    if (!isChanged && (cause === 'event' || cause === 'poll')) return
    if (isChanged && cause === 'poll' && this.#debounce === undefined && before !== undefined) {
      this.#options.onMissed?.(changedPaths(this.#options.paths, before, files))
    }
    this.#delivered = files
    if (isChanged || cause === 'asked') this.#retryMs = RETRY_FIRST_MS
    const followUp = await this.#options.onChange(files, cause)
    clearTimeout(this.#retry)
    if (followUp !== 'retry' || this.#isStopped) return
    this.#retry = setTimeout(() => void this.#enqueue('retry'), this.#retryMs).unref()
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_LONGEST_MS)
  }

  #readOptions() {
    const { maxBytes } = this.#options
    return maxBytes === undefined ? {} : { maxBytes }
  }

  #onEvent(identity: string, name: string | undefined): void {
    if (this.#isStopped) return
    const at = this.#directories.get(identity)
    // Its own name stands for the directory itself. While the way is being followed nobody knows which names it has.
    const isKnown = at !== undefined && name !== undefined && !this.#isFollowing
    if (isKnown && !at.entries.has(name) && name !== basename(at.path)) return
    const now = performance.now()
    if (this.#debounce === undefined) this.#firstEventAt = now
    clearTimeout(this.#debounce)
    // Events that never end must not put the reading off for ever.
    const waited = now - this.#firstEventAt
    const waitMs = Math.max(0, Math.min(this.#debounceMs, this.#debounceMs * 4 - waited))
    this.#debounce = setTimeout(() => {
      this.#debounce = undefined
      void this.#enqueue('event')
    }, waitMs).unref()
  }

  async #followDirectories(cause: LookCause): Promise<void> {
    const wanted = new Map<string, Directory>()
    this.#isFollowing = true
    for (const path of this.#options.paths) {
      for (const directory of await directoriesOf(path)) {
        const { identity, entries } = directory
        const before = wanted.get(identity)?.entries
        wanted.set(
          identity,
          before === undefined ? directory : { ...directory, entries: new Set([...before, ...entries]) },
        )
      }
    }
    this.#isFollowing = false
    if (this.#isStopped) return
    // Old ones go first: a directory that was made anew has the name of the one that is gone.
    for (const [identity, { close }] of this.#directories) {
      if (wanted.has(identity)) continue
      this.#directories.delete(identity)
      close()
    }
    // What could not be watched is tried again with each poll, not with each event.
    if (cause === 'poll' || cause === 'asked') this.#unwatchable.clear()
    for (const directory of wanted.values()) {
      const watched = this.#directories.get(directory.identity)
      if (watched !== undefined) watched.entries = directory.entries
      else if (!this.#unwatchable.has(directory.identity)) this.#open(directory)
    }
  }

  #open(directory: Directory): void {
    const { identity, path, entries } = directory
    const fail = (error: Error): void => {
      this.#directories.get(identity)?.close()
      this.#directories.delete(identity)
      // It has just gone: what is there instead is to be looked for, and nothing is wrong.
      if (GONE.has((error as NodeJS.ErrnoException).code ?? '')) return this.#onEvent(identity, undefined)
      this.#unwatchable.add(identity)
      this.#options.onWatchFailed?.(path, error)
    }
    try {
      const openOne = this.#options.openDirectory ?? openDirectory
      const close = openOne(directory, name => this.#onEvent(identity, name), fail)
      this.#directories.set(identity, { path, entries, close })
    } catch (error) {
      fail(error as Error)
    }
  }
}

function changedPaths(paths: readonly string[], before: FilesRead, after: FilesRead): string[] {
  return paths.filter(path => {
    const [old, now] = [before.contents.get(path), after.contents.get(path)]
    return old === undefined || now === undefined ? old !== now : !old.equals(now)
  })
}

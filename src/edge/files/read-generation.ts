import { createHash } from 'node:crypto'
import { open, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** What several files held at one moment. */
export interface FilesRead {
  /** By path as it was asked for. */
  readonly contents: ReadonlyMap<string, Buffer>
  /** Files that could not be read. */
  readonly problems: readonly FileProblem[]
  /** SHA-256 of contents and problems: equal readings have equal digests. */
  readonly digest: string
}

export interface FileProblem {
  readonly path: string
  readonly code: 'file_missing' | 'file_unreadable' | 'files_unsettled'
  /** Completes a sentence that begins with the file: `cannot be read (EACCES)`. */
  readonly message: string
}

export interface ReadOptions {
  /** Longest file, in bytes; 16 MiB when absent. */
  maxBytes?: number
  /** Times to begin anew when files change while they are read; 10 when absent. */
  attempts?: number
}

/**
 * Reads files that belong together so that all of them are of one generation.
 *
 * The kubelet replaces all files of a volume at once by swapping the `..data` link, but whoever opens them by name one
 * after the other can get the old certificate and the new key. So every path is resolved first, the files are read
 * where that leads, and everything is resolved and looked at once more: if nothing has moved, they were all there
 * together. Generations have names that never come back, so nothing can have moved there and back.
 */
export async function readGeneration(paths: readonly string[], options: ReadOptions = {}): Promise<FilesRead> {
  const attempts = options.attempts ?? 10
  for (let attempt = 1; ; attempt++) {
    const before = await Promise.all(paths.map(resolveFile))
    const readings = await Promise.all(before.map(at => readWhole(at, options.maxBytes ?? 16 * 1024 * 1024)))
    const after = await Promise.all(paths.map(resolveFile))
    const isSettled = readings.every((reading, index) => reading.isSettled && before[index] === after[index])
    if (isSettled) return collect(paths, readings)
    if (attempt >= attempts) return unsettled(paths)
    await sleep(2 ** Math.min(attempt, 6))
  }
}

/** Where a path leads now, or an error code with a leading `!`. */
async function resolveFile(path: string): Promise<string> {
  try {
    return await realpath(path)
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') return `!${codeOf(error)}`
  }
  try {
    // The kubelet links a key that is new in a volume only after the swap; behind `..data` it is there already.
    return await realpath(join(dirname(path), '..data', basename(path)))
  } catch {
    return '!ENOENT'
  }
}

interface Reading {
  readonly isSettled: boolean
  readonly content: Buffer | undefined
  readonly code: string | undefined
}

async function readWhole(at: string, maxBytes: number): Promise<Reading> {
  if (at.startsWith('!')) return failed(at.slice(1))
  try {
    const file = await open(at, 'r')
    try {
      const before = await file.stat({ bigint: true })
      if (!before.isFile()) return failed(before.isDirectory() ? 'EISDIR' : 'not a regular file')
      if (before.size > BigInt(maxBytes)) return failed(`larger than ${maxBytes} bytes`)
      const content = await file.readFile()
      const after = await file.stat({ bigint: true })
      // Written in place while we read: what we have may be half old, half new.
      const isSettled =
        before.mtimeNs === after.mtimeNs && before.size === after.size && BigInt(content.length) === after.size
      return { isSettled, content, code: undefined }
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = codeOf(error)
    // It was there when it was resolved: the generation has just been removed under our hands.
    return code === 'ENOENT' ? { isSettled: false, content: undefined, code } : failed(code)
  }
}

function failed(code: string): Reading {
  return { isSettled: true, content: undefined, code }
}

function collect(paths: readonly string[], readings: readonly Reading[]): FilesRead {
  const contents = new Map<string, Buffer>()
  const problems: FileProblem[] = []
  const hash = createHash('sha256')
  for (const [index, path] of paths.entries()) {
    const { content, code } = readings[index] ?? failed('ENOENT')
    if (content !== undefined) {
      contents.set(path, content)
      hash.update(`${path}\0${content.length}\0`).update(content)
    } else {
      problems.push(problemOf(path, code ?? ''))
      hash.update(`${path}\0!${code}\0`)
    }
  }
  return { contents, problems, digest: hash.digest('hex') }
}

function problemOf(path: string, code: string): FileProblem {
  if (code === 'ENOENT' || code === 'ENOTDIR') return { path, code: 'file_missing', message: 'does not exist' }
  return { path, code: 'file_unreadable', message: `cannot be read (${code})` }
}

function unsettled(paths: readonly string[]): FilesRead {
  const message = 'changed again and again while it was read'
  const problems = paths.map(path => ({ path, code: 'files_unsettled' as const, message }))
  return { contents: new Map(), problems, digest: 'unsettled' }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error)
}

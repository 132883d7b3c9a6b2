import { randomInt } from 'node:crypto'
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Points at which a test can look at a volume half way through its update. */
export interface KubeletPauses {
  /** The new data is complete, the old data is still what is visible. */
  beforeSwap?: () => Promise<void> | void
  /** The new data is visible; new keys have no link yet, and the old data still exists. */
  afterSwap?: () => Promise<void> | void
  /** Longest random pause between any two steps, ms. */
  jitterMs?: number
}

/**
 * A Secret, ConfigMap or projected volume as the kubelet keeps it (its AtomicWriter, in its order of steps): the data in
 * a directory with a time in its name, `..data` pointing to that, and a link for each key pointing through `..data`.
 */
export class KubeletVolume {
  readonly dir: string

  constructor(dir: string) {
    this.dir = dir
  }

  /** Path of a key as a container sees it. */
  path(key: string): string {
    return join(this.dir, key)
  }

  /** Makes the volume hold exactly these keys. Nothing at all is touched when it already does. */
  async publish(keys: Record<string, string | Buffer>, pauses: KubeletPauses = {}): Promise<void> {
    const pause = () => (pauses.jitterMs ? sleep(Math.random() * pauses.jitterMs) : undefined)
    await mkdir(this.dir, { recursive: true })
    const data = join(this.dir, '..data')
    const old = await readlink(data).catch(() => undefined)
    const gone = old === undefined ? [] : (await readdir(join(this.dir, old))).filter(key => !(key in keys))
    if (old !== undefined && gone.length === 0 && (await this.#holds(old, keys))) return

    const next = await this.#makeDataDirectory()
    for (const key of shuffled(Object.keys(keys))) {
      await pause()
      await writeFile(join(this.dir, next, key), keys[key] ?? '', { mode: 0o644 })
    }
    await pauses.beforeSwap?.()
    await pause()
    await symlink(next, join(this.dir, '..data_tmp'))
    await rename(join(this.dir, '..data_tmp'), data)
    await pauses.afterSwap?.()
    for (const key of Object.keys(keys)) {
      await pause()
      const isLinked = await lstat(this.path(key)).then(
        () => true,
        () => false,
      )
      if (!isLinked) await symlink(join('..data', key), this.path(key))
    }
    for (const key of gone) await unlink(this.path(key))
    await pause()
    if (old !== undefined) await rm(join(this.dir, old), { recursive: true })
  }

  async #holds(data: string, keys: Record<string, string | Buffer>): Promise<boolean> {
    for (const [key, value] of Object.entries(keys)) {
      const held = await readFile(join(this.dir, data, key)).catch(() => undefined)
      if (held === undefined || !held.equals(Buffer.from(value))) return false
    }
    return true
  }

  async #makeDataDirectory(): Promise<string> {
    const time = new Date().toISOString().slice(0, 19).replaceAll(/[-T:]/g, '_')
    for (;;) {
      const name = `..${time}.${randomInt(1_000_000_000, 4_000_000_000)}`
      try {
        await mkdir(join(this.dir, name), { mode: 0o700 })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
        throw error
      }
      await chmod(join(this.dir, name), 0o755)
      return name
    }
  }
}

function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map(item => ({ item, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ item }) => item)
}

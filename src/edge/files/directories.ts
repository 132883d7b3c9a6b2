import { lstat, readlink, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, parse, resolve, sep } from 'node:path'

/** A directory that exists. Its identity changes when it is removed and made again under the same name. */
export interface Directory {
  readonly path: string
  readonly identity: string
  /** What the way goes through here: names of a file, of links, of what is missing. Others do not matter. */
  readonly entries: ReadonlySet<string>
}

/**
 * The directories in which a change can change what a path leads to: that of the file, and that of every symbolic link
 * on the way (a Secret: `tls.crt → ..data/tls.crt`, `..data → ..2026_01_01…`; CSI drivers and links of links add more).
 * While a part of the path is missing, the directory in which it would appear.
 *
 * Never files: a watch on a file follows its inode, which the first rotation removes.
 */
export async function directoriesOf(path: string): Promise<Directory[]> {
  const found: Found = new Map()
  await walk(resolve(path), found, { links: 40 })
  return [...found.values()]
}

type Found = Map<string, Directory & { readonly entries: Set<string> }>

async function walk(path: string, found: Found, left: { links: number }): Promise<void> {
  const { root } = parse(path)
  const parts = path.slice(root.length).split(sep)
  let at = root
  for (const [index, part] of parts.entries()) {
    const next = join(at, part)
    const kind = await kindOf(next)
    if (kind === 'missing') return add(at, part, found)
    if (kind === 'link') {
      await add(at, part, found)
      if (--left.links < 0) return
      const target = await readlink(next).catch(() => undefined)
      if (target === undefined) return
      const rest = parts.slice(index + 1)
      return walk(resolve(isAbsolute(target) ? target : join(at, target), ...rest), found, left)
    }
    at = next
  }
  await add(dirname(path), basename(path), found)
}

async function kindOf(path: string): Promise<'link' | 'other' | 'missing'> {
  try {
    return (await lstat(path)).isSymbolicLink() ? 'link' : 'other'
  } catch {
    return 'missing'
  }
}

async function add(path: string, entry: string, found: Found): Promise<void> {
  const known = found.get(path)
  if (known !== undefined) return void known.entries.add(entry)
  try {
    const { dev, ino, birthtimeNs } = await stat(path, { bigint: true })
    found.set(path, { path, identity: `${path}\0${dev}:${ino}:${birthtimeNs}`, entries: new Set([entry]) })
  } catch {
    // Gone between two looks: the next event or poll finds what has become of it.
  }
}

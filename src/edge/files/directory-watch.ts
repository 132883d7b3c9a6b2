import { type FSWatcher, watch } from 'node:fs'
import type { Directory } from './directories.ts'

/** Something has happened in a directory, to the entry of that name; to the directory itself when it has its own name. */
export type DirectoryEvent = (name: string | undefined) => void

/**
 * Opens a watch on one directory; the returned function ends it. Whatever happens in the directory is an `event`; `fail`
 * means that no more will come.
 */
export type OpenDirectory = (directory: Directory, event: DirectoryEvent, fail: (error: Error) => void) => () => void

interface Shared {
  identity: string
  watcher: FSWatcher
  readonly users: Set<{ event: DirectoryEvent; fail: (error: Error) => void }>
}

/** By path: two who ask for one directory hear of the same events. */
const open = new Map<string, Shared>()

/**
 * Watches a directory, one watch for however many ask for it. Not its files: what counts here is that something has
 * happened to a name. Throws what `fs.watch` throws: ENOSPC, EMFILE, or ENOENT when it is just going.
 *
 * Why not chokidar: docs/decisions/0008-watching-directories.md.
 */
export const openDirectory: OpenDirectory = (directory, event, fail) => {
  const { path, identity } = directory
  const shared = open.get(path) ?? opened(path, identity)
  // The directory was removed and made anew; the old watch sits on what is gone, for the other users too.
  if (shared.identity !== identity) replace(shared, path, identity)
  const user = { event, fail }
  shared.users.add(user)
  // Nobody knows what has happened before: between looking for the directory and having the watch, or joining it.
  queueMicrotask(() => event(undefined))
  return () => {
    if (!shared.users.delete(user) || shared.users.size > 0) return
    if (open.get(path) === shared) open.delete(path)
    shared.watcher.close()
  }
}

function opened(path: string, identity: string): Shared {
  const users: Shared['users'] = new Set()
  const shared = { identity, watcher: openWatcher(path, users), users }
  open.set(path, shared)
  return shared
}

function replace(shared: Shared, path: string, identity: string): void {
  shared.watcher.close()
  try {
    shared.watcher = openWatcher(path, shared.users)
    shared.identity = identity
    // What the old watch had not told yet is lost with it.
    queueMicrotask(() => tell(shared.users, undefined))
  } catch (error) {
    open.delete(path)
    for (const user of shared.users) user.fail(error as Error)
    throw error
  }
}

function openWatcher(path: string, users: Shared['users']): FSWatcher {
  const watcher = watch(path, (_, name) => tell(users, name ?? undefined))
  watcher.on('error', error => {
    for (const user of users) user.fail(error)
  })
  return watcher
}

function tell(users: Shared['users'], name: string | undefined): void {
  for (const user of users) user.event(name)
}

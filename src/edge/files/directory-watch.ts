import { type FSWatcher, watch } from 'chokidar'
import type { Directory } from './directories.ts'

/**
 * Opens a watch on one directory; the returned function ends it. Whatever happens in the directory is an `event`; `fail`
 * means that no more will come.
 */
export type OpenDirectory = (directory: Directory, event: () => void, fail: (error: Error) => void) => () => void

interface Shared {
  identity: string
  watcher: FSWatcher
  readonly users: Set<{ event: () => void; fail: (error: Error) => void }>
}

/** By path: chokidar shares one inotify watch among all who name the same path, so there is no having two anyway. */
const open = new Map<string, Shared>()

/**
 * Watches a directory, one watch for however many ask for it. Not its files: chokidar would put a watch on each, and
 * what counts here is that something has happened at all.
 */
export const openDirectory: OpenDirectory = (directory, event, fail) => {
  const user = { event, fail }
  let shared = open.get(directory.path)
  if (shared === undefined) {
    const users: Shared['users'] = new Set()
    shared = { identity: directory.identity, watcher: openWatcher(directory.path, users), users }
    open.set(directory.path, shared)
  } else if (shared.identity !== directory.identity) {
    // The directory was removed and made anew; the old watch sits on what is gone, for the other users too.
    void shared.watcher.close()
    shared.watcher = openWatcher(directory.path, shared.users)
    shared.identity = directory.identity
  } else {
    // Whoever joins late cannot know what has happened before.
    queueMicrotask(event)
  }
  shared.users.add(user)
  const { users } = shared
  return () => {
    if (!users.delete(user) || users.size > 0) return
    const { watcher } = open.get(directory.path) ?? {}
    open.delete(directory.path)
    void watcher?.close()
  }
}

function openWatcher(path: string, users: Shared['users']): FSWatcher {
  const event = (): void => {
    for (const user of users) user.event()
  }
  const watcher = watch(path, {
    depth: 0,
    ignoreInitial: true,
    followSymlinks: false,
    atomic: false,
    ignored: inside => inside !== path,
  })
  // chokidar's own events say what has changed by its reading of the directory, at most once a second; raw ones come at
  // once, and the swap of a link to a directory is among them.
  watcher.on('raw', event)
  // Whatever happened between asking for the watch and having it.
  watcher.on('ready', event)
  watcher.on('error', error => {
    for (const user of users) user.fail(error as Error)
  })
  return watcher
}

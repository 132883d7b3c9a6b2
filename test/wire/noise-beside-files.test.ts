import { appendFile, mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type DirectoryEvent, type OpenDirectory, openDirectory } from '../../src/edge/files/directory-watch.ts'
import { watchFiles } from '../../src/edge/files/watch-files.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'

/** Follows files with a watch that says what a test wants it to say; `read` has what was delivered. */
async function followed(paths: readonly string[]) {
  const read: string[] = []
  const events = new Map<string, DirectoryEvent>()
  const openDirectory: OpenDirectory = (directory, event) => {
    events.set(directory.path, event)
    return () => events.delete(directory.path)
  }
  const watch = await watchFiles({
    paths,
    debounceMs: 10,
    pollMs: 600_000,
    openDirectory,
    onChange: ({ contents }) => void read.push([...contents.values()].map(String).join(' ')),
  })
  onTestFinished(() => watch.stop())
  return { read, events }
}

/** Longer than an event takes to lead to a reading. */
const settle = () => sleep(100)

describe('in the directory of a file', () => {
  test.each([
    ['the file', 'tls.crt'],
    ['the directory itself', 'tls'],
    ['nobody knows what', undefined],
  ])('an event of %s has it read again', async (_, name) => {
    const { read, events, file, dir } = await oneFile()
    await writeFile(file, 'two')
    events.get(dir)?.(name)
    await eventually(() => read.at(-1) === 'two')
  })

  test('an event of another file does not', async () => {
    const { read, events, file, dir } = await oneFile()
    await writeFile(file, 'two')
    events.get(dir)?.('audit.log')
    await settle()
    expect(read).toEqual(['one'])
  })
})

test('in a volume of the kubelet the links on the way count, and the folders that come and go do not', async () => {
  const volume = new KubeletVolume(join(temporaryFolder(), 'tls'))
  await volume.publish({ 'tls.crt': 'one', 'ca.crt': 'other' })
  const { read, events } = await followed([volume.path('tls.crt')])
  await volume.publish({ 'tls.crt': 'two', 'ca.crt': 'other' })
  const event = events.get(volume.dir) as DirectoryEvent
  for (const name of ['..2026_11_21_00_00_00.1', '..data_tmp', 'ca.crt']) event(name)
  await settle()
  expect(read).toEqual(['one'])
  event('..data')
  await eventually(() => read.at(-1) === 'two')
})

test('the kernel says the names: of a log beside the file, of the file, of the directory when it goes', async () => {
  const dir = join(temporaryFolder(), 'tls')
  await mkdir(dir)
  const names: (string | undefined)[] = []
  const close = openDirectory({ path: dir, identity: 'any', entries: new Set() }, name => names.push(name), fail)
  onTestFinished(close)
  // It begins with one that stands for whatever has happened before there was a watch.
  await eventually(() => names.length > 0)
  expect(names.splice(0)).toEqual([undefined])
  for (const [act, name] of [
    [() => appendFile(join(dir, 'audit.log'), 'a line\n'), 'audit.log'],
    [() => writeFile(join(dir, 'tls.crt'), 'one'), 'tls.crt'],
    [() => rename(dir, `${dir}-old`), 'tls'],
  ] as const) {
    await act()
    await eventually(() => names.length > 0)
    await settle()
    expect(new Set(names.splice(0))).toEqual(new Set([name]))
  }
})

function fail(error: Error): void {
  throw error
}

async function oneFile() {
  const dir = join(temporaryFolder(), 'tls')
  await mkdir(dir)
  const file = join(dir, 'tls.crt')
  await writeFile(file, 'one')
  return { dir, file, ...(await followed([file])) }
}

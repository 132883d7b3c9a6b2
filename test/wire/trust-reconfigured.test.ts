import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { temporaryFolder } from '../support/pki.ts'
import { followTrust, tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })

test('a reload that is asked for reads at once, and says what came of it each time', async () => {
  const { dir } = await files()
  const { source, told } = await followTrust(tlsConfig({ dir }), { watch: { debounceMs: 60_000, pollMs: 600_000 } })
  expect(await source.reload()).toMatchObject({ result: 'unchanged', generation: 1, cause: 'asked' })

  await writeFile(join(dir, 'tls.key'), 'garbage')
  for (let time = 1; time <= 2; time++) {
    const outcome = await source.reload()
    expect(outcome).toMatchObject({ result: 'kept', generation: 1, problems: [{ code: 'key_missing' }] })
  }
  const next = leaf()
  await write(dir, next)
  // What was not good is tried again by itself, too, and on a slow day that comes first: `loaded`, or `unchanged` since.
  const repaired = await source.reload()
  expect(repaired).toMatchObject({ generation: 2 })
  expect(repaired.result).not.toBe('kept')
  expect(source.live.current().value?.leaf.serial).toBe(next.serial)
  expect(told).toEqual(['loaded 1', 'kept 1: key_missing', 'loaded 2'])
})

test('other files are followed from then on, and the old ones no more', async () => {
  const [one, two] = [await files(), await files()]
  const { source, told } = await followTrust(tlsConfig({ dir: one.dir }))
  expect(await source.reconfigure(tlsConfig({ dir: two.dir }))).toMatchObject({ result: 'loaded', generation: 2 })
  expect(source.live.current().value?.leaf.serial).toBe(two.serial)

  await write(one.dir, leaf())
  const next = leaf()
  await write(two.dir, next)
  await eventually(() => source.live.current().value?.leaf.serial === next.serial)
  expect(told.filter(line => line.startsWith('loaded'))).toEqual(['loaded 1', 'loaded 2', 'loaded 3'])
})

test('the same files by other options are taken into use anew; files that are not good change nothing', async () => {
  const { dir } = await files()
  const { source } = await followTrust(tlsConfig({ dir }))
  const olderTls = await source.reconfigure(tlsConfig({ dir }, { minVersion: 'TLSv1.2' }))
  expect(olderTls).toMatchObject({ result: 'loaded', generation: 2 })
  const nowhere = await source.reconfigure(tlsConfig({ dir: join(dir, 'nowhere') }))
  expect(nowhere).toMatchObject({ result: 'kept', generation: 2 })
  expect(source.status()).toMatchObject({ generation: 2, isServing: true })
})

test('a bundle in use that has expired serves no longer', async () => {
  const dir = temporaryFolder()
  await write(dir, mintLeaf(ca, { cn: 'a', dns: ['a'], notAfter: new Date(Date.now() + 60_000) }))
  let nowMs = Date.now()
  const { source } = await followTrust(tlsConfig({ dir }), { nowMs: () => nowMs })
  expect(source.status().isServing).toBe(true)
  nowMs += 61_000
  expect(source.status().isServing).toBe(false)
})

function leaf() {
  return mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
}

async function files(): Promise<{ dir: string; serial: string }> {
  const dir = temporaryFolder()
  const first = leaf()
  await write(dir, first)
  return { dir, serial: first.serial }
}

async function write(dir: string, { chain, key }: { chain: string; key: string }): Promise<void> {
  await writeFile(join(dir, 'ca.crt'), ca.cert)
  await writeFile(join(dir, 'tls.crt'), chain)
  await writeFile(join(dir, 'tls.key'), key)
}

import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'
import { followTrust, tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })

test('the directory is removed and made anew, three times', async () => {
  const dir = join(temporaryFolder(), 'tls')
  await write(dir)
  const { source, missed } = await followTrust(tlsConfig({ dir }))
  for (let round = 1; round <= 3; round++) {
    await rm(dir, { recursive: true })
    await eventually(() => source.status().problems.some(({ code }) => code === 'file_missing'))
    expect(source.live.current().generation).toBe(round)
    expect(source.status().isServing).toBe(true)
    const serial = await write(dir)
    await eventually(() => source.live.current().value?.leaf.serial === serial)
  }
  expect(missed).toEqual([])
})

test('the directory is replaced by another one of its name, faster than anybody looks', async () => {
  const folder = temporaryFolder()
  const dir = join(folder, 'tls')
  await write(dir)
  const { source, missed } = await followTrust(tlsConfig({ dir }))
  for (let round = 1; round <= 3; round++) {
    const serial = await write(join(folder, 'next'))
    await rename(dir, join(folder, `old-${round}`))
    await rename(join(folder, 'next'), dir)
    await eventually(() => source.live.current().value?.leaf.serial === serial)
  }
  expect(missed).toEqual([])
})

test('two followers of one directory both survive its replacement', async () => {
  const folder = temporaryFolder()
  const dir = join(folder, 'tls')
  await write(dir)
  const [one, two] = [await followTrust(tlsConfig({ dir })), await followTrust(tlsConfig({ dir }))]
  for (let round = 1; round <= 2; round++) {
    await rm(dir, { recursive: true })
    const serial = await write(dir)
    for (const { source } of [one, two]) {
      await eventually(() => source.live.current().value?.leaf.serial === serial)
    }
  }
})

test('without files it starts, and takes them into use when they appear, whatever was missing', async () => {
  const folder = temporaryFolder()
  const dir = join(folder, 'not', 'yet', 'there')
  const { source, told } = await followTrust(tlsConfig({ dir }))
  expect(told).toEqual(['kept 0: file_missing file_missing file_missing'])
  expect(source.status()).toMatchObject({ generation: 0, isServing: false, notAfterMs: undefined })
  const serial = await write(dir)
  await eventually(() => source.live.current().value?.leaf.serial === serial)
  expect(source.status()).toMatchObject({ generation: 1, isServing: true, problems: [] })
})

test('a link of a link: the volume of a CSI driver behind a link, swapped at each level in turn', async () => {
  const folder = temporaryFolder()
  const volume = new KubeletVolume(join(folder, 'csi', 'volume-1'))
  const second = new KubeletVolume(join(folder, 'csi', 'volume-2'))
  await volume.publish(keys().files)
  await symlink('csi/volume-1', join(folder, 'mount'))
  await mkdir(join(folder, 'tls'))
  for (const key of ['tls.crt', 'tls.key', 'ca.crt'])
    await symlink(join(folder, 'mount', key), join(folder, 'tls', key))
  const { source, missed } = await followTrust(tlsConfig({ dir: join(folder, 'tls') }))
  const isInUse = (serial: string) => eventually(() => source.live.current().value?.leaf.serial === serial)

  for (let round = 1; round <= 2; round++) {
    const innermost = keys()
    await volume.publish(innermost.files)
    await isInUse(innermost.serial)
  }
  const other = keys()
  await second.publish(other.files)
  await symlink('csi/volume-2', join(folder, 'mount.next'))
  await rename(join(folder, 'mount.next'), join(folder, 'mount'))
  await isInUse(other.serial)

  const again = keys()
  await second.publish(again.files)
  await isInUse(again.serial)
  expect(missed).toEqual([])
})

test('one file for certificate and key, replaced by rename, key first and certificate first', async () => {
  const dir = temporaryFolder()
  await writeFile(join(dir, 'ca.crt'), ca.cert)
  const bundle = join(dir, 'bundle.pem')
  const one = mintLeaf(ca, { cn: 'a', dns: ['a'] })
  await writeFile(bundle, one.key + one.chain)
  const { source } = await followTrust(tlsConfig({ dir }, { cert: bundle, key: undefined }))
  expect(source.live.current().value?.leaf.serial).toBe(one.serial)
  const two = mintLeaf(ca, { cn: 'a', dns: ['a'] })
  await writeFile(`${bundle}.next`, two.chain + two.key)
  await rename(`${bundle}.next`, bundle)
  await eventually(() => source.live.current().value?.leaf.serial === two.serial)
})

function keys() {
  const leaf = mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
  return { serial: leaf.serial, files: { 'tls.crt': leaf.chain, 'tls.key': leaf.key, 'ca.crt': ca.cert } }
}

async function write(dir: string): Promise<string> {
  const { serial, files } = keys()
  await mkdir(dir, { recursive: true })
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text)
  return serial
}

import { readdir, readFile, readlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type CertificateAuthority, mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'
import { followTrust, tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })

test.each([1, 2, 3])('rotation %i is taken into use, and nothing in between was told', async count => {
  const { leaf, volume, followed } = await start()
  const serials = [leaf.serial]
  for (let rotation = 1; rotation <= count; rotation++) {
    const next = renewed()
    serials.push(next.serial)
    await volume.publish({ ...next.keys, 'ca.crt': ca.cert }, { jitterMs: 5 })
    await eventually(() => followed.source.live.current().generation === rotation + 1)
    expect(followed.source.live.current().value?.leaf.serial).toBe(next.serial)
  }
  expect(followed.told).toEqual(serials.map((_, index) => `loaded ${index + 1}`))
  expect(followed.missed).toEqual([])
})

test('a rotation with long pauses between the steps of the kubelet is one rotation', async () => {
  const { volume, followed } = await start()
  await volume.publish(
    { ...renewed().keys, 'ca.crt': ca.cert },
    { beforeSwap: () => sleep(200), afterSwap: () => sleep(200), jitterMs: 30 },
  )
  await eventually(() => followed.source.live.current().generation === 2)
  await sleep(200)
  expect(followed.told).toEqual(['loaded 1', 'loaded 2'])
})

test('an update that changes nothing is not a rotation', async () => {
  const { leaf, volume, followed } = await start()
  await volume.publish({ ...leaf.keys, 'ca.crt': ca.cert })
  await volume.publish({ ...leaf.keys, 'ca.crt': ca.cert, 'unrelated.txt': 'x' })
  await sleep(200)
  expect(followed.told).toEqual(['loaded 1'])
  expect(await followed.source.reload()).toMatchObject({ result: 'unchanged', generation: 1 })
})

test('leaf and CA in two volumes rotate one after the other: the new CA first, the old one away last', async () => {
  const dir = temporaryFolder()
  const [leafVolume, caVolume] = [new KubeletVolume(`${dir}/tls`), new KubeletVolume(`${dir}/ca`)]
  await leafVolume.publish(renewed().keys)
  await caVolume.publish({ 'ca.crt': ca.cert })
  const { source, told } = await followTrust(tlsConfig({ dir: leafVolume.dir, caDir: caVolume.dir }))
  const next = mintCa({ name: 'next CA' })

  await caVolume.publish({ 'ca.crt': ca.cert + next.cert })
  await eventually(() => source.live.current().generation === 2)
  await leafVolume.publish(renewed(next).keys)
  await eventually(() => source.live.current().generation === 3)
  await caVolume.publish({ 'ca.crt': next.cert })
  await eventually(() => source.live.current().generation === 4)

  expect(source.live.current().value?.authorities.map(({ facts }) => facts.subject.text)).toEqual(['CN=next CA'])
  expect(told).toEqual(['loaded 1', 'loaded 2', 'loaded 3', 'loaded 4'])
})

test('a key that is new in the volume is read as soon as the data is swapped, before it has a link', async () => {
  const dir = temporaryFolder()
  const volume = new KubeletVolume(`${dir}/tls`)
  const leaf = renewed()
  await volume.publish(leaf.keys)
  const { source, told } = await followTrust(tlsConfig({ dir: volume.dir }))
  expect(told).toEqual(['kept 0: file_missing'])
  await volume.publish(
    { ...leaf.keys, 'ca.crt': ca.cert },
    {
      afterSwap: async () => {
        await eventually(() => source.live.current().generation === 1)
        expect(await readdir(volume.dir)).not.toContain('ca.crt')
      },
    },
  )
  expect(source.status().isServing).toBe(true)
})

test('twenty rotations leave as many watches as the first', async () => {
  const { volume, followed } = await start()
  const before = await inotifyWatches()
  expect(before).toBeGreaterThan(0)
  for (let rotation = 1; rotation <= 20; rotation++) {
    await volume.publish({ ...renewed().keys, 'ca.crt': ca.cert })
    await eventually(() => followed.source.live.current().generation === rotation + 1)
  }
  await eventually(async () => (await inotifyWatches()) <= before)
  expect(followed.missed).toEqual([])
})

async function start() {
  const volume = new KubeletVolume(`${temporaryFolder()}/tls`)
  const leaf = renewed()
  await volume.publish({ ...leaf.keys, 'ca.crt': ca.cert })
  const followed = await followTrust(tlsConfig({ dir: volume.dir }))
  expect(followed.told).toEqual(['loaded 1'])
  return { leaf, volume, followed }
}

function renewed(issuer: CertificateAuthority = ca) {
  const leaf = mintLeaf(issuer, { cn: 'mcp-server', dns: ['localhost'] })
  return { serial: leaf.serial, keys: { 'tls.crt': leaf.chain, 'tls.key': leaf.key } }
}

/** The inotify watches of this process. */
async function inotifyWatches(): Promise<number> {
  let count = 0
  for (const fd of await readdir('/proc/self/fd')) {
    const target = await readlink(`/proc/self/fd/${fd}`).catch(() => '')
    if (!target.includes('inotify')) continue
    const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8').catch(() => '')
    count += info.split('\n').filter(line => line.startsWith('inotify ')).length
  }
  return count
}

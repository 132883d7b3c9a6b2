import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type OpenDirectory, openDirectory } from '../../src/edge/files/directory-watch.ts'
import { mintCa, mintLeaf } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'
import { followTrust, tlsConfig } from '../support/trust.ts'

const ca = mintCa({ name: 'test CA' })

test('with watches that never fire the poll finds the change, and says what was missed', async () => {
  const volume = await newVolume()
  const deaf: OpenDirectory = () => () => {}
  const { source, told, missed } = await followTrust(tlsConfig({ dir: volume.dir }), {
    watch: { pollMs: 100, openDirectory: deaf },
  })
  const next = keys()
  await volume.publish(next.files)
  await eventually(() => source.live.current().value?.leaf.serial === next.serial)
  expect(told).toEqual(['loaded 1', 'loaded 2'])
  expect(missed).toEqual([volume.path('tls.crt'), volume.path('tls.key')])
})

test('with no watch left in the kernel the poll follows the files, and watches are taken when there are some again', async () => {
  const volume = await newVolume()
  let isExhausted = true
  const failed: string[] = []
  const sparse: OpenDirectory = (directory, event, fail) => {
    if (isExhausted)
      throw Object.assign(new Error('System limit for number of file watchers reached'), { code: 'ENOSPC' })
    return openDirectory(directory, event, fail)
  }
  const loaded: number[] = []
  const missed: string[][] = []
  const { source } = await followTrust(tlsConfig({ dir: volume.dir }), {
    watch: { debounceMs: 20, pollMs: 100, openDirectory: sparse },
    events: {
      outcome: outcome => void loaded.push(outcome.generation),
      missed: changed => void missed.push([...changed]),
      watchFailed: (_path, error) => void failed.push((error as NodeJS.ErrnoException).code ?? ''),
    },
  })
  expect(new Set(failed)).toEqual(new Set(['ENOSPC']))
  await volume.publish(keys().files)
  await eventually(() => source.live.current().generation === 2)
  expect(missed).toHaveLength(1)

  isExhausted = false
  const before = failed.length
  await volume.publish(keys().files)
  await eventually(() => source.live.current().generation === 3)
  await eventually(() => source.status().problems.length === 0)
  await volume.publish(keys().files)
  await eventually(() => source.live.current().generation === 4)
  expect(failed.length - before).toBeLessThanOrEqual(2)
  expect(loaded).toEqual([1, 2, 3, 4])
})

test('a process without file descriptors keeps what it has, and goes on when there are some again', async () => {
  const volume = await newVolume()
  const script = join(temporaryFolder(), 'starve.ts')
  await writeFile(
    script,
    `import { closeSync, openSync } from 'node:fs'
     import { TrustSource } from ${JSON.stringify(join(import.meta.dirname, '../../src/edge/trust-source.ts'))}
     const say = text => process.stdout.write(text + '\\n')
     const source = new TrustSource({
       tls: ${JSON.stringify(tlsConfig({ dir: volume.dir }))},
       events: { outcome: o => say(o.result + ' ' + o.generation + ' ' + (o.problems ?? []).map(p => p.message).join()) },
     })
     await source.start()
     const taken = []
     process.stdin.on('data', text => {
       if (String(text).includes('starve')) {
         try { for (;;) taken.push(openSync('/dev/null')) } catch (error) { say('starving ' + error.code) }
       } else {
         for (const fd of taken.splice(0)) closeSync(fd)
       }
     })
    `,
  )
  const child = spawn('bash', ['-c', 'ulimit -n 64 && exec "$0" "$1"', process.execPath, script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill())
  let output = ''
  child.stdout.on('data', chunk => (output += chunk.toString()))
  await eventually(() => output.includes('loaded 1'))

  child.stdin.write('starve\n')
  await eventually(() => output.includes('starving EMFILE'))
  const next = keys()
  await volume.publish(next.files)
  await eventually(() => output.includes('kept 1 cannot be read (EMFILE)'))
  child.stdin.write('release\n')
  await eventually(() => output.includes('loaded 2'), 10_000)
  expect(child.exitCode).toBeNull()
})

async function newVolume(): Promise<KubeletVolume> {
  const volume = new KubeletVolume(join(temporaryFolder(), 'tls'))
  await volume.publish(keys().files)
  return volume
}

function keys() {
  const leaf = mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'] })
  return { serial: leaf.serial, files: { 'tls.crt': leaf.chain, 'tls.key': leaf.key, 'ca.crt': ca.cert } }
}

import { writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { describe, expect, onTestFinished, test } from 'vitest'
import { secureContextOptions } from '../../src/core/trust/tls-options.ts'
import { mintCa, mintCrl, mintIntermediate, mintLeaf, mintSelfSigned } from '../../src/edge/pki.ts'
import { eventually } from '../support/eventually.ts'
import { KubeletVolume } from '../support/kubelet.ts'
import { temporaryFolder } from '../support/pki.ts'
import { followTrust, tlsConfig } from '../support/trust.ts'

const DAY = 86_400_000
const now = Date.now()
const ca = mintCa({ name: 'test CA' })
const otherCa = mintCa({ name: 'another CA' })
const oldCa = mintCa({ name: 'old CA', notBefore: new Date(now - 9 * DAY), notAfter: new Date(now - DAY) })
const names = { cn: 'mcp-server', dns: ['localhost'] }
const first = mintLeaf(ca, names)
const second = mintLeaf(ca, names)
const expired = mintLeaf(ca, { ...names, notBefore: new Date(now - 9 * DAY), notAfter: new Date(now - DAY) })
const early = mintLeaf(ca, { ...names, notBefore: new Date(now + DAY) })
const clientOnly = mintLeaf(ca, { ...names, usages: ['clientAuth'] })
const selfSigned = mintSelfSigned(names)
const temporary = mintLeaf(mintCa({ name: 'cert-manager.local' }), names)
const intermediate = mintIntermediate(ca, { name: 'an intermediate CA' })
const chained = mintLeaf(intermediate, names)
const crl = mintCrl(ca, { revoked: [] })
const expiredCrl = mintCrl(ca, { revoked: [], thisUpdate: new Date(now - 2 * DAY), nextUpdate: new Date(now - DAY) })
const forgedCrl = mintCrl({ ...otherCa, subject: ca.subject }, { revoked: [] })

const good = { 'tls.crt': first.chain, 'tls.key': first.key, 'ca.crt': ca.cert, 'ca.crl': crl }
const pair = ({ chain, key }: { chain: string; key: string }) => ({ 'tls.crt': chain, 'tls.key': key })
const half = (text: string) => text.slice(0, text.length / 2)

describe('bad files change nothing, and it is said why', () => {
  test.each<{ name: string; keys: Partial<typeof good>; want: string }>([
    { name: 'the key of another certificate', keys: { 'tls.key': second.key }, want: 'tls.key key_mismatch' },
    { name: 'the certificate of another key', keys: { 'tls.crt': second.chain }, want: 'tls.key key_mismatch' },
    { name: 'half a certificate', keys: { 'tls.crt': half(second.chain) }, want: 'tls.cert pem_truncated' },
    { name: 'half a key', keys: { 'tls.key': half(first.key) }, want: 'tls.key pem_truncated' },
    { name: 'an empty certificate', keys: { 'tls.crt': '' }, want: 'tls.cert file_empty' },
    { name: 'an empty key', keys: { 'tls.key': '\n' }, want: 'tls.key file_empty' },
    { name: 'garbage as certificate', keys: { 'tls.crt': '\0\xff garbage' }, want: 'tls.cert certificate_missing' },
    {
      name: 'garbage in a PEM block',
      keys: { 'tls.crt': '-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n' },
      want: 'tls.cert pem_garbage',
    },
    {
      name: 'a PEM block that is no certificate',
      keys: { 'tls.crt': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' },
      want: 'tls.cert certificate_malformed',
    },
    { name: 'garbage as key', keys: { 'tls.key': 'garbage' }, want: 'tls.key key_missing' },
    { name: 'two keys', keys: { 'tls.key': first.key + second.key }, want: 'tls.key key_ambiguous' },
    { name: 'an expired certificate', keys: pair(expired), want: 'tls.cert certificate_expired' },
    { name: 'a certificate from tomorrow', keys: pair(early), want: 'tls.cert certificate_not_yet_valid' },
    { name: 'a certificate for clients only', keys: pair(clientOnly), want: 'tls.cert certificate_purpose' },
    { name: 'a self-signed certificate', keys: pair(selfSigned), want: 'tls.cert certificate_self_signed' },
    { name: "cert-manager's temporary one", keys: pair(temporary), want: 'tls.cert certificate_temporary' },
    {
      name: 'a chain in which a link does not fit',
      keys: { 'tls.crt': second.cert + intermediate.cert, 'tls.key': second.key },
      want: 'tls.cert chain_broken',
    },
    { name: 'an emptied CA', keys: { 'ca.crt': '' }, want: 'tls.clientCa file_empty' },
    { name: 'a CA file of comments', keys: { 'ca.crt': '# nothing here\n' }, want: 'tls.clientCa ca_missing' },
    { name: 'half a CA', keys: { 'ca.crt': ca.cert + half(otherCa.cert) }, want: 'tls.clientCa pem_truncated' },
    { name: 'a leaf as CA', keys: { 'ca.crt': ca.cert + first.cert }, want: 'tls.clientCa ca_not_authority' },
    { name: 'a CA that has no list', keys: { 'ca.crt': ca.cert + otherCa.cert }, want: 'tls.crl crl_missing' },
    { name: 'expired CAs only', keys: { 'ca.crt': oldCa.cert }, want: 'tls.clientCa ca_expired' },
    { name: 'garbage as list', keys: { 'ca.crl': 'garbage' }, want: 'tls.crl crl_malformed' },
    { name: 'an empty list file', keys: { 'ca.crl': '' }, want: 'tls.crl file_empty' },
    { name: 'half a list', keys: { 'ca.crl': half(crl) }, want: 'tls.crl pem_truncated' },
    { name: 'an expired list', keys: { 'ca.crl': expiredCrl }, want: 'tls.crl crl_expired' },
    { name: 'a list signed by somebody else', keys: { 'ca.crl': forgedCrl }, want: 'tls.crl crl_signature' },
  ])('$name', async ({ keys, want }) => {
    const volume = new KubeletVolume(`${temporaryFolder()}/tls`)
    await volume.publish(good)
    const { source, told } = await followTrust(tlsConfig({ dir: volume.dir }, { crl: volume.path('ca.crl') }))
    const inUse = source.live.current().value

    await volume.publish({ ...good, ...keys })
    await eventually(() => source.status().problems.length > 0 && told.length > 1)
    const problem = source.status().problems.find(({ setting, code }) => `${setting} ${code}` === want)
    expect(problem, JSON.stringify(source.status().problems)).toBeDefined()
    expect(source.live.current()).toEqual({ generation: 1, value: inUse })
    expect(source.status().isServing).toBe(true)

    await volume.publish({ ...good, ...pair(chained) })
    await eventually(() => source.live.current().generation === 2)
    expect(source.status().problems).toEqual([])
    expect(told.filter(line => line.startsWith('kept'))).toHaveLength(1)
    expect(told.at(-1)).toBe('loaded 2')
  })
})

test('files that are written in place, one after the other, are taken into use when the last one is there', async () => {
  const dir = temporaryFolder()
  await writeFile(join(dir, 'ca.crt'), ca.cert)
  await writeFile(join(dir, 'tls.key'), first.key)
  await writeFile(join(dir, 'tls.crt'), first.chain)
  const { source, told } = await followTrust(tlsConfig({ dir }))

  await writeFile(join(dir, 'tls.key'), second.key)
  await eventually(() => told.includes('kept 1: key_mismatch'))
  expect(source.live.current().value?.leaf.serial).toBe(first.serial)
  await writeFile(join(dir, 'tls.crt'), '')
  await eventually(() => told.includes('kept 1: file_empty'))
  await writeFile(join(dir, 'tls.crt'), second.chain)
  await eventually(() => source.live.current().value?.leaf.serial === second.serial)
})

test('a certificate that is not valid yet is taken into use when its time comes, without a change of the file', async () => {
  const dir = temporaryFolder()
  await writeFile(join(dir, 'ca.crt'), ca.cert)
  await writeFile(join(dir, 'tls.key'), early.key)
  await writeFile(join(dir, 'tls.crt'), early.chain)
  let nowMs = now
  const { source, told } = await followTrust(tlsConfig({ dir }), { nowMs: () => nowMs })
  expect(told).toEqual(['kept 0: certificate_not_yet_valid'])
  nowMs = now + 2 * DAY
  await eventually(() => source.live.current().generation === 1)
})

test('with an emptied CA the peers of the CA before, and nobody else, get in', async () => {
  const volume = new KubeletVolume(`${temporaryFolder()}/tls`)
  await volume.publish({ ...pair(first), 'ca.crt': ca.cert })
  const tls = tlsConfig({ dir: volume.dir })
  const { source, told } = await followTrust(tls)
  const options = () => {
    const bundle = source.live.current().value
    if (bundle === undefined) throw new Error('no bundle')
    return secureContextOptions(bundle, tls)
  }
  const server = createServer({ ...options(), requestCert: true, rejectUnauthorized: false }, socket => {
    socket.on('error', () => {})
    socket.end(String(socket.authorized || socket.authorizationError))
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  source.live.follow(() => server.setSecureContext(options()))

  await volume.publish({ ...pair(first), 'ca.crt': '' })
  await eventually(() => told.includes('kept 1: file_empty'))
  const { port } = server.address() as AddressInfo
  expect(await ask(port, mintLeaf(ca, { cn: 'kong' }))).toBe('true')
  expect(await ask(port, mintLeaf(otherCa, { cn: 'kong' }))).toBe('UNABLE_TO_VERIFY_LEAF_SIGNATURE')
})

function ask(port: number, identity: { chain: string; key: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      port,
      host: '127.0.0.1',
      servername: 'localhost',
      ca: ca.cert,
      cert: identity.chain,
      key: identity.key,
    }
    const socket: TLSSocket = connect(options)
    let answer = ''
    socket.on('data', chunk => (answer += chunk.toString()))
    socket.on('end', () => resolve(answer))
    socket.on('error', reject)
  })
}

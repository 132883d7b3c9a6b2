import { spawnSync } from 'node:child_process'
import { hash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { compactVerify, importSPKI } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hashOf, inCri, logOf, type SigningKey, signingKey } from '../support/audit-log.ts'
import { cli } from '../support/cli.ts'

const cwd = mkdtempSync(join(tmpdir(), 'audit-verify-'))
let key: SigningKey
let log: string[]
let next: string[]
afterAll(() => rmSync(cwd, { recursive: true }))
beforeAll(async () => {
  key = await signingKey()
  log = await logOf('first', 40, key.signer)
  next = await logOf('next', 10, key.signer, 1_795_100_000_000)
  write('key.pub', [key.publicKey.export({ type: 'spki', format: 'pem' }).toString()])
})

function write(name: string, lines: readonly string[]): void {
  const text = lines.map(line => `${line}\n`).join('')
  writeFileSync(join(cwd, name), name.endsWith('.gz') ? gzipSync(text) : text)
}
const verify = (...argv: string[]) => cli(['audit', 'verify', ...argv], { cwd })

test('an untouched file passes, and its end is told for whoever wants to note it', async () => {
  write('whole.log', log)
  const { code, stdout } = await verify('whole.log', '--key', 'key.pub')
  expect(code).toBe(0)
  expect(stdout).toContain(
    `chain first: lines 1 to ${log.length}, closed, signed up to ${log.length - 1}, last hash ${hashOf(log.at(-1) as string)}`,
  )
  expect(stdout).toMatch(/^intact: 4\d lines in 1 chain$/m)
})

test('files that rotation has renamed and compressed are one log, in whatever order a shell names them', async () => {
  write('0.log', [...inCri(log.slice(30)), ...inCri(next)])
  write('0.log.20261121-010203', inCri(log.slice(20, 30), 300))
  write('0.log.20261121-000000.gz', inCri(log.slice(0, 20)))
  const { code, stdout } = await verify('0.log', '0.log.20261121-010203', '0.log.20261121-000000.gz')
  expect(stdout).toContain('intact')
  expect(stdout).toContain('give the public key with --key')
  expect(code).toBe(0)
})

test('a file without audit lines does not keep the others from being put in order', async () => {
  write('late.log', log.slice(20))
  write('empty.log', [])
  write('early.log', log.slice(0, 20))
  const { code, stdout } = await verify('late.log', 'empty.log', 'early.log')
  expect(stdout).toContain(`intact: ${log.length} lines in 1 chain`)
  expect(code).toBe(0)
})

test('a pipe, as a shell makes one of what another program writes', async () => {
  write('piped.log', log)
  const program = `'${process.execPath}' src/main.ts audit verify <(cat '${join(cwd, 'piped.log')}')`
  const { status, stdout, stderr } = spawnSync('bash', ['-c', program], { encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(stdout).toContain(`intact: ${log.length} lines in 1 chain`)
  expect(status).toBe(0)
})

test('what is wrong is told with its kind, file and line, and the exit code is 1', async () => {
  write('edited.log', log.with(4, (log[4] as string).replace('jane', 'john')))
  const { code, stdout } = await verify('edited.log')
  expect(stdout).toMatch(/^edited +edited\.log:5 +line 5 of the chain was changed/m)
  expect(stdout).toMatch(/^1 problem: /m)
  expect(code).toBe(1)
})

test('a file that ends within a line', async () => {
  writeFileSync(join(cwd, 'killed.log'), `${log.slice(0, 5).join('\n')}\n${log[5]?.slice(0, 100)}`)
  const { code, stdout } = await verify('killed.log')
  expect(stdout).toMatch(/^cut +killed\.log:6 +the file ends in the middle of a line, 100 bytes/m)
  expect(stdout).toMatch(/^truncated +killed\.log:5 /m)
  expect(code).toBe(1)
})

test('a chain that still runs, without its head', async () => {
  write('open.log', log.slice(10, 30))
  expect((await verify('open.log')).code).toBe(1)
  expect((await verify('open.log', '--open', '--from', hashOf(log[9] as string))).code).toBe(0)
})

test.each([
  { argv: ['nothing.log'], code: 1, message: 'mcp-sidecar: cannot read nothing.log: ENOENT' },
  { argv: ['whole.log', '--from', 'abc'], code: 2, message: '64 hexadecimal digits' },
  { argv: ['whole.log', '--key', 'whole.log'], code: 2, message: 'whole.log holds no Ed25519 key in PEM' },
  { argv: ['whole.log', '--last-seq', '-1'], code: 2, message: 'a whole number from 1' },
  { argv: [], code: 2, message: 'file' },
])('unusable arguments: $argv', async ({ argv, code, message }) => {
  write('whole.log', log)
  const run = await verify(...argv)
  expect(run.code).toBe(code)
  expect(run.stderr).toContain(message)
})

test('the hash can be recomputed as the documentation says, and the signature with any JOSE library', async () => {
  const line = log[3] as string
  expect(hash('sha256', line.replace(/,"hash":"[0-9a-f]{64}"}}$/, ''))).toBe(hashOf(line))
  const checkpoint = JSON.parse(log.find(candidate => candidate.includes('"audit.checkpoint"')) as string).checkpoint
  const publicKey = await importSPKI(key.publicKey.export({ type: 'spki', format: 'pem' }).toString(), 'EdDSA')
  const { payload } = await compactVerify(checkpoint.signature, publicKey)
  expect(JSON.parse(Buffer.from(payload).toString())).toEqual({
    chain: 'first',
    seq: checkpoint.seq,
    hash: hashOf(log[checkpoint.seq - 1] as string),
  })
  expect(JSON.parse(log[0] as string).started.signingKey).toBe(key.signer.keyId)
})

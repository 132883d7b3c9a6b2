import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cli } from '../support/cli.ts'
import { temporaryFolder } from '../support/pki.ts'

test('pki writes a CA, a server, two gateways and a stranger, and says what each is for', async () => {
  const cwd = temporaryFolder()
  const { code, stdout, stderr } = await cli(['pki', '--out', 'certs', '--dns', 'mcp.test', '--ip', '10.1.2.3'], {
    cwd,
  })
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout).toContain('certs/ca.crt')
  expect(stdout).toContain('certs/gateway/tls.crt  spiffe://example.org/ns/gateway/sa/kong')
  expect(stdout).toContain('certs/stranger/tls.crt')
  expect(statSync(join(cwd, 'certs/server/tls.key')).mode & 0o777).toBe(0o600)
  const { subjectAltName } = new X509Certificate(readFileSync(join(cwd, 'certs/server/tls.crt')))
  expect(subjectAltName).toContain('DNS:mcp.test')
  expect(subjectAltName).toContain('IP Address:10.1.2.3')
})

test('pki does not replace a CA unless it is told to', async () => {
  const cwd = temporaryFolder()
  await cli(['pki', '--out', 'certs'], { cwd })
  const before = readFileSync(join(cwd, 'certs/ca.crt'), 'utf8')
  const again = await cli(['pki', '--out', 'certs'], { cwd })
  expect(again).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'mcp-sidecar: certs already holds a CA; take another directory, or --force to replace it\n',
  })
  expect(readFileSync(join(cwd, 'certs/ca.crt'), 'utf8')).toBe(before)
  expect(await cli(['pki', '--out', 'certs', '--force'], { cwd })).toMatchObject({ code: 0 })
  expect(readFileSync(join(cwd, 'certs/ca.crt'), 'utf8')).not.toBe(before)
})

test.each([
  { argv: ['pki'], says: '--out' },
  { argv: ['pki', '--out', 'x', '--days', '0'], says: '1 to 3650' },
  { argv: ['pki', '--out', 'x', '--ip', 'localhost'], says: 'not an IP address' },
  { argv: ['pki', '--out', 'x', '--key-type', 'dsa'], says: 'ec-p256' },
])('arguments that cannot be used: $argv', async ({ argv, says }) => {
  const { code, stderr } = await cli(argv, { cwd: temporaryFolder() })
  expect(code).toBe(2)
  expect(stderr).toContain(says)
})

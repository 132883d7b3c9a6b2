import { execFileSync } from 'node:child_process'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { mintCa, mintCrl, mintDevPki, mintIntermediate, mintLeaf } from '../../src/edge/pki.ts'
import type { KeyType } from '../../src/edge/x509-keys.ts'
import { temporaryFolder } from '../support/pki.ts'
import { isInstalled } from '../support/programs.ts'

const KEY_TYPES: KeyType[] = ['ec-p256', 'ec-p384', 'rsa-2048', 'ed25519']

describe.skipIf(!isInstalled('openssl'))('openssl, at its strictest, accepts what is minted', () => {
  test.each(KEY_TYPES)('%s', keyType => {
    const dir = temporaryFolder()
    const root = mintCa({ name: 'root', keyType })
    const intermediate = mintIntermediate(root, { name: 'intermediate', keyType, pathLength: 0 })
    const leaf = mintLeaf(intermediate, {
      cn: 'leaf',
      keyType,
      uris: ['spiffe://td/a'],
      dns: ['localhost'],
      ips: ['127.0.0.1', '::1', 'fe80::1:2'],
      notAfter: new Date('2051-01-01'),
    })
    const nameless = mintLeaf(intermediate, { keyType, uris: ['spiffe://td/b'] })
    const lists = mintCrl(root, { revoked: [] }) + mintCrl(intermediate, { revoked: [nameless.serial] })
    const file = (name: string, text: string) => {
      writeFileSync(join(dir, name), text)
      return join(dir, name)
    }
    const verify = (cert: string) => [
      ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', file('root', root.cert)],
      ...['-untrusted', file('intermediate', intermediate.chain), '-CRLfile', file('crl', lists), cert],
    ]

    const leafFile = file('leaf', leaf.cert)
    const namelessFile = file('nameless', nameless.cert)
    expect(openssl(verify(leafFile))).toBe(`${leafFile}: OK\n`)
    expect(openssl(verify(namelessFile))).toContain('certificate revoked')
    expect(leaf.x509.subjectAltName).toBe(
      'URI:spiffe://td/a, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:FE80:0:0:0:0:0:1:2',
    )
    expect(leaf.chain).toBe(leaf.cert + intermediate.cert)
  })
})

test.skipIf(!isInstalled('openssl'))(
  'a development PKI has a server, two gateways, and a stranger that the CA does not vouch for',
  async () => {
    const pki = await mintDevPki(temporaryFolder())
    const verdicts = pki.identities.map(({ name, cert }) => [
      name,
      openssl(['verify', '-x509_strict', '-CAfile', pki.ca.cert, cert]).includes(': OK'),
    ])
    expect(verdicts).toEqual([
      ['server', true],
      ['gateway', true],
      ['second-gateway', true],
      ['stranger', false],
    ])
    const keys = [pki.ca.key, ...pki.identities.map(({ key }) => key)]
    expect(keys.map(key => statSync(key).mode & 0o777)).toEqual(keys.map(() => 0o600))
  },
)

test('a development PKI is not written over another one', async () => {
  const pki = await mintDevPki(temporaryFolder())
  await expect(mintDevPki(pki.dir)).rejects.toThrow('EEXIST')
  await expect(mintDevPki(pki.dir, { overwrite: true })).resolves.toMatchObject({ dir: pki.dir })
})

function openssl(args: string[]): string {
  try {
    return execFileSync('openssl', args, { encoding: 'utf8', stdio: 'pipe' })
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}

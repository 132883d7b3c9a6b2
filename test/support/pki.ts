import { mkdtempSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type CertificateAuthority,
  type Identity,
  type LeafOptions,
  mintCa,
  mintIntermediate,
  mintLeaf,
  mintSelfSigned,
} from '../../src/edge/pki.ts'

/** A peer or server of the tests: PEM texts for Node's `tls`, and the same as files for everything that wants paths. */
export interface TestIdentity extends Identity {
  readonly certFile: string
  readonly keyFile: string
  /** What `tls.connect`, `https.request` and undici's `connect` take. */
  readonly tls: { readonly cert: string; readonly key: string }
}

export interface TestPki {
  readonly dir: string
  readonly ca: CertificateAuthority
  readonly caFile: string
  readonly intermediate: CertificateAuthority
  /** A CA that nobody here trusts. */
  readonly otherCa: CertificateAuthority
  readonly otherCaFile: string
  /** The sidecar: localhost, 127.0.0.1, ::1, mcp-server and its Service forms. */
  readonly server: TestIdentity
  /** `spiffe://example.org/ns/gateway/sa/kong` */
  readonly gateway: TestIdentity
  /** `spiffe://example.org/ns/gateway/sa/envoy`, same CA. */
  readonly secondGateway: TestIdentity
  /** `spiffe://example.org/ns/gateway/sa/kong`, behind an intermediate that it sends along. */
  readonly chained: TestIdentity
  /** The gateway's names from the other CA. */
  readonly stranger: TestIdentity
  readonly selfSigned: TestIdentity
  /** Of our CA, but over since yesterday, and valid from tomorrow on. */
  readonly expired: TestIdentity
  readonly early: TestIdentity
  /** Of our CA, but for servers only. */
  readonly serverOnly: TestIdentity
  /** Mints one more peer of our CA (or of `issuer`) and writes its files. */
  mint(name: string, options: LeafOptions, issuer?: CertificateAuthority): Promise<TestIdentity>
}

let made: Promise<TestPki> | undefined

/** The PKI of this test process: minted once, in a temporary folder that goes away with the process. */
export function testPki(): Promise<TestPki> {
  made ??= makePki()
  return made
}

export const GATEWAY_URI = 'spiffe://example.org/ns/gateway/sa/kong'
const SECOND_GATEWAY_URI = 'spiffe://example.org/ns/gateway/sa/envoy'

/** A temporary folder that is removed when the process ends. */
export function temporaryFolder(prefix = 'mcp-sidecar-test-'): string {
  const dir = mkdtempSync(join(tmpdir(), prefix))
  if (folders.length === 0) process.once('exit', removeFolders)
  folders.push(dir)
  return dir
}

const folders: string[] = []

function removeFolders(): void {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true })
}

async function makePki(): Promise<TestPki> {
  const dir = temporaryFolder('mcp-sidecar-pki-')
  const ca = mintCa({ name: 'test CA' })
  const intermediate = mintIntermediate(ca, { name: 'test intermediate CA', pathLength: 0 })
  const otherCa = mintCa({ name: 'test CA of somebody else' })
  const day = 86_400_000
  const now = Date.now()
  const gateway: LeafOptions = { cn: 'kong', uris: [GATEWAY_URI], dns: ['kong.gateway.svc'], usages: ['clientAuth'] }

  const write = async (name: string, identity: Identity): Promise<TestIdentity> => {
    const certFile = join(dir, name, 'tls.crt')
    const keyFile = join(dir, name, 'tls.key')
    await mkdir(join(dir, name), { recursive: true })
    await writeFile(certFile, identity.chain)
    await writeFile(keyFile, identity.key, { mode: 0o600 })
    return { ...identity, certFile, keyFile, tls: { cert: identity.chain, key: identity.key } }
  }
  const mint = (name: string, options: LeafOptions, issuer = ca) => write(name, mintLeaf(issuer, options))

  const caFile = join(dir, 'ca.crt')
  const otherCaFile = join(dir, 'other-ca.crt')
  await writeFile(caFile, ca.cert)
  await writeFile(otherCaFile, otherCa.cert)
  return {
    dir,
    ca,
    caFile,
    intermediate,
    otherCa,
    otherCaFile,
    server: await mint('server', {
      cn: 'mcp-server',
      uris: ['spiffe://example.org/ns/default/sa/mcp-server'],
      dns: ['localhost', 'mcp-server', 'mcp-server.default.svc', 'mcp-server.default.svc.cluster.local'],
      ips: ['127.0.0.1', '::1'],
      usages: ['serverAuth'],
    }),
    gateway: await mint('gateway', gateway),
    secondGateway: await mint('second-gateway', {
      cn: 'envoy',
      uris: [SECOND_GATEWAY_URI],
      dns: ['envoy.gateway.svc'],
      usages: ['clientAuth'],
    }),
    chained: await mint('chained', gateway, intermediate),
    stranger: await mint('stranger', gateway, otherCa),
    selfSigned: await write('self-signed', mintSelfSigned(gateway)),
    expired: await mint('expired', { ...gateway, notBefore: new Date(now - 9 * day), notAfter: new Date(now - day) }),
    early: await mint('early', { ...gateway, notBefore: new Date(now + day), notAfter: new Date(now + 9 * day) }),
    serverOnly: await mint('server-only', { ...gateway, usages: ['serverAuth'] }),
    mint,
  }
}

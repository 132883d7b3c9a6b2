import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { podAddresses, probeExposure } from '../../src/edge/exposure.ts'
import { mintDevPki } from '../../src/edge/pki.ts'
import { cli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { startTestSidecar } from '../support/sidecar.ts'

let folder: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'check-'))
  await mintDevPki(join(folder, 'pki'))
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

const SOUND = `tls: { cert: pki/server/tls.crt, key: pki/server/tls.key, clientCa: pki/ca.crt }
peers: [{ name: gateway, match: { uri: "spiffe://example.org/ns/gateway/sa/kong" } }]
policy: { rules: [{ id: readers, effect: allow, tools: ["search_*"] }] }
`

async function check(text: string, ...flags: string[]) {
  const file = join(folder, 'sidecar.yaml')
  writeFileSync(file, text)
  const { code, stdout, stderr } = await cli(['check', '--config', file, ...flags])
  return { code, stdout, told: stderr.trim().replaceAll(`${folder}/`, '').split('\n') }
}

test('what is sound is described', async () => {
  const { code, stdout } = await check(SOUND)
  expect(code).toBe(0)
  expect(stdout).toContain('has 1 peer and 0 quotas before http://127.0.0.1:3000\n')
  expect(stdout).toContain('policy enforce, 1 rule, otherwise deny\n')
  expect(stdout).toMatch(/serves as CN=mcp-server .*localhost/)
  expect(stdout).toMatch(/no problems, \d warnings?\n$/)
})

test.each([
  {
    name: 'a certificate that is not there',
    text: SOUND.replace('server/tls.crt', 'server/none.crt'),
    want: 'mcp-sidecar: sidecar.yaml:1:14: tls.cert: pki/server/none.crt: does not exist',
  },
  {
    name: "another certificate's key",
    text: SOUND.replace('server/tls.key', 'gateway/tls.key'),
    want: 'mcp-sidecar: sidecar.yaml:1:39: tls.key: ',
  },
  {
    name: 'a pattern that does not compile',
    text: SOUND.replace('tools: ["search_*"]', 'tools: ["search_*"], args: { q: { pattern: "(" } }'),
    want: 'mcp-sidecar: sidecar.yaml:3:92: policy.rules[0].args.q.pattern: ',
  },
  {
    name: 'a signing key that is a certificate',
    text: `${SOUND}audit: { signingKey: pki/ca.crt }\n`,
    want: 'mcp-sidecar: sidecar.yaml:4:22: audit.signingKey: pki/ca.crt holds no Ed25519 private key in PEM',
  },
  {
    name: 'a key set that is none',
    text: `${SOUND}identity: { jwt: { issuer: "https://idp", audience: a, jwks: pki/ca.crt } }\n`,
    want: 'mcp-sidecar: sidecar.yaml:4:62: identity.jwt.jwks: pki/ca.crt holds no JSON Web Key Set',
  },
])('$name has its line', async ({ text, want }) => {
  const { code, told } = await check(text)
  expect(code).toBe(1)
  expect(told.filter(line => line.startsWith(want))).toHaveLength(1)
})

test('policy and certificates are told together', async () => {
  const text = SOUND.replace('server/tls.crt', 'none.crt')
    .replace('ca.crt', 'none.ca')
    .replace('["search_*"]', '["a"], args: { q: { pattern: "(" } }')
  const { code, stdout, told } = await check(text)
  expect(code).toBe(1)
  expect(stdout).toMatch(/^3 problems, /)
  expect(told.filter(line => !line.includes(' warning: ')).map(line => line.split(' ')[2])).toEqual([
    'policy.rules[0].args.q.pattern:',
    'tls.cert:',
    'tls.clientCa:',
  ])
})

/** The paths of all problems, warnings left out. */
const pathsOf = (told: readonly string[]): string[] =>
  told.filter(line => !line.includes(' warning: ')).map(line => line.split(' ')[2]?.replace(/:$/, '') ?? '')

test('a fault in one section hides nothing of another', async () => {
  const { code, stdout, told } =
    await check(`tls: { cert: pki/none.crt, key: pki/server/tls.key, clientCa: pki/none.ca }
peers: [{ name: gateway, match: { uri: "spiffe://example.org/ns/gateway/sa/kong" } }]
policy:
  default: dny
  rules:
    - { id: readers, effect: allow, tools: ["a"], args: { q: { pattern: "(" } } }
    - { id: readers, effect: alow }
    - { id: writers, effect: allow, tools: ["b"], args: { q: { min: 3, max: 2 } } }
quotas: [{ name: q, key: user, windows: [{ limit: 0, per: 1m }] }]
audit: { signingKey: pki/ca.crt, digestKey: pki/none.key }
identity: { jwt: { issuer: "https://idp", audience: a, jwks: pki/ca.crt } }
limits: { bdy: 1MiB }
nonsense: 1
`)
  expect(code).toBe(1)
  expect(pathsOf(told)).toEqual([
    'policy.default',
    'policy.rules[1].id',
    'policy.rules[1].effect',
    'quotas[0].windows[0].limit',
    'limits.bdy',
    'nonsense',
    'policy.rules[0].args.q.pattern',
    'policy.rules[2].args.q.max',
    'tls.cert',
    'tls.clientCa',
    'audit.signingKey',
    'audit.digestKey',
    'identity.jwt.jwks',
  ])
  expect(told).toContainEqual(expect.stringMatching(/sidecar\.yaml:6:73: policy\.rules\[0\]\.args\.q\.pattern: /))
  expect(stdout).toMatch(/^13 problems, \d+ warnings?\n$/)
})

test('what a section names is not looked at when the section itself is wrong', async () => {
  const text = SOUND.replace('server/tls.crt', 'none.crt').replace('tls: {', 'tls: { minVersion: TLSv1.1,')
  const { stdout, told } = await check(`${text}audit: { signingKey: "\${UNSET_KEY}" }\n`)
  expect(pathsOf(told)).toEqual(['tls.minVersion', 'audit.signingKey'])
  expect(stdout).toBe('2 problems, 0 warnings\n')
})

test.each([
  ['a text that is no YAML', 'tls: {', 'sidecar.yaml:1:7: not valid YAML'],
  ['a text that is no map', '- tls', 'sidecar.yaml:1:1: expected a map of settings'],
])('%s is one problem', async (_, text, want) => {
  const { code, stdout, told } = await check(text)
  expect([code, told.length, stdout]).toEqual([1, 1, '1 problem, 0 warnings\n'])
  expect(told[0]).toContain(want)
})

test('a policy file that cannot be read hides nothing of the certificates', async () => {
  const text = SOUND.replace(/policy: .*/, 'policy: { file: none.yaml }').replace('server/tls.crt', 'none.crt')
  const { told } = await check(text)
  expect(pathsOf(told)).toEqual(['policy.file', 'tls.cert'])
})

test('what is legal and yet hardly meant is a warning', async () => {
  cpSync(join(folder, 'pki/ca.crt'), join(folder, 'pki/server/ca.crt'))
  const { code, told } = await check(SOUND.replace('pki/ca.crt', 'pki/server/ca.crt'))
  expect(code).toBe(0)
  expect(told.join('\n')).toContain(
    'warning: sidecar.yaml:1:69: tls.clientCa: pki/server/ca.crt: comes from the same directory',
  )
})

describe('the upstream in the pod', () => {
  const [address] = podAddresses()

  test.skipIf(address === undefined)('is open when it listens on every address', async () => {
    const server = createServer().listen(0, '0.0.0.0')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const target = { kind: 'tcp', host: '127.0.0.1', port } as const
    const reached = await probeExposure(target, podAddresses(), 1000)
    expect(reached.length).toBeGreaterThan(0)
    const { code, told } = await check(`${SOUND}upstream: { url: "http://127.0.0.1:${port}" }\n`, '--pod')
    expect(code).toBe(1)
    expect(told.join('\n')).toMatch(/upstream\.url: port \d+ is open on /)
    server.close()
  })

  test.skipIf(address === undefined).each([
    ['0.0.0.0', {}, 1],
    ['0.0.0.0', { POD_IPS: '' }, 1],
    ['127.0.0.1', {}, 0],
    ['127.0.0.1', { POD_IPS: '127.0.0.1' }, 1],
  ])('on %s is told of by the running sidecar too, with %j', async (host, env, exposed) => {
    const server = createServer().listen(0, host)
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const running = await startTestSidecar(`http://127.0.0.1:${port}`, () => {}, { env })
    const told = await eventually(async () => {
      const text = await (await fetch(`${running.admin}/metrics`)).text()
      return /^mcp_sidecar_upstream_exposed (\d)$/m.exec(text)?.[1]
    })
    expect(told).toBe(String(exposed))
    expect(/goes around the sidecar/.test(running.log.join(''))).toBe(exposed === 1)
    await running.stop()
    server.close()
  })

  test('is closed when it listens on loopback', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    expect(await probeExposure({ kind: 'tcp', host: '127.0.0.1', port }, podAddresses(), 1000)).toEqual([])
    expect(await probeExposure({ kind: 'tcp', host: '127.0.0.1', port }, ['127.0.0.1'], 1000)).toEqual([
      { address: '127.0.0.1', port },
    ])
    server.close()
  })

  test('cannot be open on a unix socket', async () => {
    expect(await probeExposure({ kind: 'unix', path: '/x.sock' }, ['127.0.0.1'], 1000)).toEqual([])
  })
})

describe('--tools', () => {
  const POLICY = `${SOUND.replace('tools: ["search_*"]', 'tools: ["search_*", read_file], args: { path: { prefix: /data } }')}`
  const tool = (name: string, ...args: string[]) => ({
    name,
    inputSchema: { type: 'object', properties: Object.fromEntries(args.map(arg => [arg, { type: 'string' }])) },
  })
  async function checkWith(recorded: unknown, ...more: string[]) {
    writeFileSync(join(folder, 'tools.json'), typeof recorded === 'string' ? recorded : JSON.stringify(recorded))
    return check(POLICY, '--tools', join(folder, 'tools.json'), ...more)
  }

  test.each([
    ['a result', (tools: unknown[]) => ({ tools })],
    ['a whole answer', (tools: unknown[]) => ({ jsonrpc: '2.0', id: 1, result: { tools } })],
  ])('%s without the tool and the argument that a rule names is told', async (_, wrap) => {
    const { code, told } = await checkWith(wrap([tool('search_web', 'query')]))
    expect(code).toBe(0)
    expect(told.filter(line => line.includes('policy.rules[0]'))).toEqual([
      'mcp-sidecar: warning: sidecar.yaml:3:69: policy.rules[0].tools[1]: the recorded list has no tool named read_file',
      'mcp-sidecar: warning: sidecar.yaml:3:95: policy.rules[0].args.path: no tool of this rule has such an argument in its schema',
    ])
  })

  test('a server that has all of it is no reason to warn', async () => {
    const { told } = await checkWith({ tools: [tool('search_web', 'path'), tool('read_file', 'path')] })
    expect(told.filter(line => line.includes('policy.rules[0]'))).toEqual([])
  })

  test.each([
    ['tools: []', 'tools.json: is not JSON; save the answer to tools/list as the server sends it'],
    ['{}', 'tools.json: holds no list of tools; save the answer to tools/list as the server sends it'],
  ])('%s is refused in words', async (text, want) => {
    const { code, told } = await checkWith(text)
    expect([code, told]).toEqual([1, [`mcp-sidecar: ${want}`]])
  })

  test('a file that is not there is refused', async () => {
    const { code, told } = await check(POLICY, '--tools', join(folder, 'none.json'))
    expect([code, told]).toEqual([1, ['mcp-sidecar: none.json: the file cannot be read (ENOENT)']])
  })
})

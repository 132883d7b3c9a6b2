import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { describeConfig } from '../../src/config/describe.ts'
import { formatProblem, loadConfig, loadPolicy } from '../../src/config/load.ts'

const HEAD = 'peers: [{ name: g, match: { cn: kong } }]\n'
const LEAST = `${HEAD}policy: {}\n`

function load(text: string, env: Record<string, string> = {}, files: Record<string, string> = {}) {
  return loadConfig(text, {
    path: '/etc/sidecar.yaml',
    env,
    readFile: path => {
      const found = files[path]
      if (found === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
      return found
    },
  })
}

function config(text: string, env: Record<string, string> = {}) {
  const loaded = load(text, env)
  if (!loaded.ok) throw new Error(loaded.error.map(formatProblem).join('\n'))
  return loaded.value.config
}

function problems(text: string, env: Record<string, string> = {}, files: Record<string, string> = {}): string[] {
  const loaded = load(text, env, files)
  return loaded.ok ? [] : loaded.error.map(problem => formatProblem(problem).replaceAll('/etc/', ''))
}

describe("the contract's example", () => {
  const example = readFileSync('test/fixtures/config/contract.yaml', 'utf8')

  test('loads as it stands', () => {
    const loaded = config(example)
    expect(loaded.upstream.target).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 3000 })
    expect(loaded.peers[0]?.mayAssert.scopes).toEqual(['mcp.read', 'mcp.write'])
    expect(loaded.quotas[0]).toEqual({
      name: 'per-user',
      key: ['user'],
      match: { methods: ['tools/call'] },
      windows: [
        { limit: 120, perMs: 60_000 },
        { limit: 2000, perMs: 3_600_000 },
      ],
      cost: [{ tool: 'export_*', weight: 10 }],
      concurrent: undefined,
    })
  })

  test('its values are the defaults, but for the five sections that are examples', () => {
    const shown = config(example)
    const least = config(LEAST)
    expect({
      ...shown,
      peers: least.peers,
      quotas: least.quotas,
      policy: { ...shown.policy, rules: [] },
      identity: { ...shown.identity, jwt: undefined, resource: undefined },
    }).toEqual(least)
  })
})

describe('defaults', () => {
  test('the least configuration is a peer and a policy that allows nothing', () => {
    const least = config(LEAST)
    expect(least.policy).toEqual({
      mode: 'enforce',
      default: 'deny',
      denyStyle: 'explain',
      refusals: 'in-band',
      rules: [],
    })
    expect(least.peers[0]?.mayAssert).toEqual({
      users: [],
      orgs: [],
      scopes: [],
      roles: [],
      emails: [],
      forwardedFor: false,
    })
  })

  test.each([
    { name: 'the default pair belongs together', tls: '{}', key: '/var/run/mcp-sidecar/tls/tls.key' },
    { name: 'another certificate without a key holds its key', tls: '{ cert: /a/both.pem }', key: undefined },
    { name: 'a relative key is beside the configuration', tls: '{ cert: a.crt, key: a.key }', key: '/etc/a.key' },
  ])('$name', ({ tls, key }) => {
    expect(config(`${LEAST}tls: ${tls}\n`).tls.key).toBe(key)
  })
})

describe('units and forms', () => {
  test.each([
    ['drain: { grace: 250ms }', { graceMs: 250 }],
    ['drain: { grace: 1.5s }', { graceMs: 1500 }],
    ['drain: { grace: 2m }', { graceMs: 120_000 }],
    ['drain: { grace: 1h }', { graceMs: 3_600_000 }],
  ])('%s', (text, want) => {
    expect(config(`${LEAST}${text}\n`).drain).toMatchObject(want)
  })

  test.each([
    ['limits: { body: 512KiB }', 524_288],
    ['limits: { body: 1.5MiB }', 1_572_864],
    ['limits: { body: 2000B }', 2000],
    ['limits: { body: 1GiB }', 1_073_741_824],
  ])('%s', (text, want) => {
    expect(config(`${LEAST}${text}\n`).limits.bodyBytes).toBe(want)
  })

  test.each([
    ['http://127.0.0.1:3000', { kind: 'tcp', host: '127.0.0.1', port: 3000 }],
    ['http://localhost', { kind: 'tcp', host: 'localhost', port: 80 }],
    ['http://[::1]:81/', { kind: 'tcp', host: '::1', port: 81 }],
    ['unix:/run/mcp/server.sock', { kind: 'unix', path: '/run/mcp/server.sock' }],
  ])('upstream %s', (url, want) => {
    expect(config(`${LEAST}upstream: { url: "${url}" }\n`).upstream.target).toEqual(want)
  })

  test('a fingerprint is compared without colons and case', () => {
    const pretty = 'AB:'.repeat(31) + 'CD'
    const { peers } = config(`peers: [{ name: g, match: { fingerprint256: "${pretty}" } }]\npolicy: {}`)
    expect(peers[0]?.match.fingerprint256).toBe(`${'ab'.repeat(31)}cd`)
  })

  test('JSON is YAML', () => {
    const json = JSON.stringify({ peers: [{ name: 'g', match: { cn: 'kong' } }], policy: {} }, null, '\t')
    expect(config(json).peers[0]?.name).toBe('g')
  })

  test('an anchor is what it names', () => {
    const text = `${LEAST}quotas: [{ name: a, key: user, windows: &w [{ limit: 1, per: 1s }] }, { name: b, key: org, windows: *w }]`
    expect(config(text).quotas[1]?.windows).toEqual([{ limit: 1, perMs: 1000 }])
  })

  test('operations can be turned off', () => {
    expect(config(`${LEAST}admin: { operations: off }`).admin.operationsSocket).toBeUndefined()
  })
})

describe('the environment', () => {
  test('stands in values of every kind', () => {
    const text = `${LEAST}identity: { required: "\${REQ}" }
quotas: [{ name: q, key: "\${KEY}", windows: [{ limit: "\${N}", per: "\${N}s" }] }]
limits: { batch: "\${BATCH:-3}" }
quotaStore: { kind: "\${KIND:-memory}" }
`
    const loaded = config(text, { REQ: 'false', KEY: 'org', N: '60' })
    expect(loaded.identity.required).toBe(false)
    expect(loaded.quotas[0]).toMatchObject({ key: ['org'], windows: [{ limit: 60, perMs: 60_000 }] })
    expect(loaded.limits.batch).toBe(3)
  })

  test('text that looks like a number stays text where text is wanted', () => {
    const loaded = config('peers: [{ name: g, match: { cn: "${CN}" } }]\npolicy: {}', { CN: '007' })
    expect(loaded.peers[0]?.match.cn).toBe('007')
  })

  test('an empty variable counts as unset only where there is a default', () => {
    expect(config(`${LEAST}limits: { batch: "\${B:-7}" }`, { B: '' }).limits.batch).toBe(7)
    expect(problems(`${LEAST}upstream: { url: "\${U}" }`, { U: '' })).toHaveLength(1)
  })

  test('cannot change the structure', () => {
    const evil = 'x }] \npolicy: { default: allow }\n#'
    expect(problems(`peers: [{ name: "\${N}", match: { cn: a } }]\npolicy: {}`, { N: evil })).toEqual([
      `sidecar.yaml:1:17: peers[0].name: expected the peer's name: letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 64, not "\${N}"`,
    ])
  })

  test('$${ is a ${ that is meant as it is', () => {
    const rule = `policy: { rules: [{ id: a, effect: deny, args: { x: { equals: "$\${HOME}" } } }] }`
    expect(config(`${HEAD}${rule}`).policy.rules[0]?.args?.['x']?.equals).toBe('${HOME}')
  })

  test('no message shows what was put in', () => {
    const secret = 'hunter2-hunter2'
    const text = `${LEAST}upstream: { url: "http://\${S}:1" }
quotaStore: { kind: redis, url: "\${S}" }
drain: { grace: "\${S}" }
audit: { args: "\${S}" }
limits: { body: "\${S}", batch: "\${S}" }
listen: { address: "\${S}" }
`
    const told = problems(text, { S: secret })
    expect(told).toHaveLength(7)
    expect(told.join('\n')).not.toContain(secret)
    expect(told.join('\n')).toContain('not "${S}"')
  })

  test('problems of others are cleaned of it too', () => {
    const loaded = load(`${HEAD}policy: { rules: [{ id: a, effect: deny, tools: ["\${S}"] }] }`, {
      S: 'hunter2-hunter2',
    })
    if (!loaded.ok) throw new Error('must load')
    const problem = loaded.value.problemAt('policy.rules[0].tools[0]', 'hunter2-hunter2 is no tool')
    expect(problem).toMatchObject({ line: 2, column: 50, message: '${S} is no tool' })
  })

  test('the configuration in force is told with ${NAME}, defaults, and without passwords', async () => {
    const text = `${LEAST}quotaStore: { kind: redis, url: "rediss://app:\${PASSWORD}@redis:6379" }\nlimits: { body: "\${BODY}" }\n`
    const loaded = load(text, { PASSWORD: 'hunter2-hunter2', BODY: '1MiB' })
    if (!loaded.ok) throw new Error('must load')
    const shown = await describeConfig(loaded.value)
    expect(shown['quotaStore']).toEqual({
      kind: 'redis',
      url: 'rediss://***@redis:6379',
      onFailure: 'local',
      deadline: '100ms',
    })
    expect(shown['limits']).toMatchObject({ body: '${BODY}', depth: 64, streamAge: '1h' })
    expect(JSON.stringify(shown)).not.toContain('hunter2')
  })
})

describe('the policy in a file of its own', () => {
  const text = `${HEAD}policy: { file: policy.yaml }\n`

  test('is found beside the configuration and followed with it', () => {
    const loaded = load(text, {}, { '/etc/policy.yaml': 'default: allow\n' })
    if (!loaded.ok) throw new Error('must load')
    expect(loaded.value.config.policy.default).toBe('allow')
    expect(loaded.value.files).toEqual(['/etc/sidecar.yaml', '/etc/policy.yaml'])
    expect(loaded.value.written['policy']).toEqual({ default: 'allow' })
  })

  test.each([
    {
      name: 'has lines of its own',
      file: 'rules:\n  - id: a\n    effect: allow\n    tool: [x]\n',
      want: ['policy.yaml:4:5: policy.rules[0].tool: unknown key; did you mean tools?'],
    },
    { name: 'may not be empty', file: '', want: ['policy.yaml:1:1: policy: the file is empty'] },
    { name: 'must be a map', file: '- a\n', want: ['policy.yaml:1:1: policy: expected a map'] },
  ])('$name', ({ file, want }) => {
    expect(problems(text, {}, { '/etc/policy.yaml': file })).toEqual(want)
  })

  test('must be there', () => {
    expect(problems(text)).toEqual(['sidecar.yaml:2:17: policy.file: the file cannot be read (ENOENT)'])
  })

  test('must not stand beside inline rules', () => {
    const both = `${HEAD}policy: { file: policy.yaml, default: allow }\n`
    expect(problems(both, {}, { '/etc/policy.yaml': 'default: deny' })[0]).toContain('2:11: policy.file: unknown key')
  })

  test('is read alone for the policy tools', () => {
    const alone = loadPolicy('rules: [{ id: a, effect: permit }]', { path: '/etc/policy.yaml', env: {} })
    expect(alone.ok ? [] : alone.error.map(formatProblem)).toEqual([
      '/etc/policy.yaml:1:26: policy.rules[0].effect: expected allow or deny, not "permit"',
    ])
  })
})

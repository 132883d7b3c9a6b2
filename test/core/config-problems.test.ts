import { expect, test } from 'vitest'
import { formatProblem, loadConfig } from '../../src/config/load.ts'

const PEERS = 'peers: [{ name: g, match: { cn: kong } }]'
const POLICY = 'policy: {}'

/** Each mistake stands alone in an otherwise sound configuration, from line 3 on. */
function problemsOf(text: string, whole = `${PEERS}\n${POLICY}\n${text}\n`): string[] {
  const loaded = loadConfig(whole, { path: '/c.yaml', env: {} })
  return loaded.ok ? [] : loaded.error.map(problem => formatProblem(problem).replace('/c.yaml:', ''))
}

test.each([
  ['unknown key at the top', 'lisen: {}', '3:1: lisen: unknown key; did you mean listen?'],
  ['unknown key below', 'tls:\n  cart: a', '4:3: tls.cart: unknown key; did you mean cert?'],
  ['unknown key, nothing near', 'drain: { xyz: 1 }', '3:10: drain.xyz: unknown key; known here: lameDuck, grace'],
  [
    'unknown key of the chosen store',
    'quotaStore: { kind: memory, url: "redis://x" }',
    '3:29: quotaStore.url: unknown key; known here: kind, share',
  ],
  ['a key twice', 'drain: { grace: 1s, grace: 2s }', '3:21: drain.grace: the key is there twice'],
  [
    'a duration without unit',
    'drain: { grace: 5 }',
    '3:17: drain.grace: expected a duration with its unit, such as 250ms, 2s, 5m or 1h, not "5"',
  ],
  [
    'a duration of an unknown unit',
    'drain: { grace: 5w }',
    '3:17: drain.grace: expected a duration with its unit, such as 250ms, 2s, 5m or 1h, not "5w"',
  ],
  [
    'a duration beyond what a timer holds',
    'limits: { streamAge: 30d }',
    '3:22: limits.streamAge: expected a duration from 1s to 24d, not "30d"',
  ],
  [
    'a size in the wrong unit',
    'limits: { body: 4MB }',
    '3:17: limits.body: expected a size with its unit, such as 512B, 15KiB or 4MiB, not "4MB"',
  ],
  [
    'a size out of bounds',
    'limits: { body: 2GiB }',
    '3:17: limits.body: expected a size from 1KiB to 1GiB, not "2GiB"',
  ],
  [
    'an audit line that has no room for a name',
    'audit: { maxLine: 1KiB }',
    '3:19: audit.maxLine: expected a size from 2KiB to 1MiB, not "1KiB"',
  ],
  [
    'a number that is none',
    'limits: { depth: many }',
    '3:18: limits.depth: expected a whole number from 1 to 512, not "many"',
  ],
  [
    'a number with a fraction',
    'limits: { depth: 1.5 }',
    '3:18: limits.depth: expected a whole number from 1 to 512, not "1.5"',
  ],
  ['infinity', 'limits: { depth: .inf }', '3:18: limits.depth: expected a finite number'],
  ['a truth value that is none', 'audit: { chain: yes }', '3:17: audit.chain: expected true or false, not "yes"'],
  [
    'a word that is not offered',
    'quotaHeaders: sometimes',
    '3:15: quotaHeaders: expected always, refused or never, not "sometimes"',
  ],
  ['an empty list', 'tls: { groups: [] }', '3:16: tls.groups: an empty list is not allowed; leave the key out'],
  ['no list', 'tls: { groups: X25519 }', '3:16: tls.groups: expected a list, not "X25519"'],
  ['no map', 'tls: x', '3:6: tls: expected a map, not "x"'],
  ['nothing at all', 'tls:', '3:5: tls: expected a map, not nothing'],
  ['a list entry twice', 'tls: { groups: [X25519, X25519] }', '3:25: tls.groups[1]: listed twice'],
  [
    'an address without port',
    'listen: { address: localhost }',
    '3:20: listen.address: expected an address and port such as "0.0.0.0:8443" or "[::1]:8443", not "localhost"',
  ],
  [
    'an address with an impossible port',
    'listen: { address: "a:65536" }',
    '3:20: listen.address: expected an address and port such as "0.0.0.0:8443" or "[::1]:8443", not "a:65536"',
  ],
  [
    'one port for two',
    'admin: { address: "0.0.0.0:8443" }',
    '3:19: admin.address: listen and admin need ports of their own',
  ],
  [
    'an operations port',
    'admin: { operations: "127.0.0.1:1" }',
    '3:22: admin.operations: expected unix:/path/of.sock (at most 107 bytes) or "off", not "127.0.0.1:1"',
  ],
  [
    'an origin with a path',
    'listen: { origins: ["https://a/b"] }',
    '3:21: listen.origins[0]: expected an origin such as https://app.example.org, not "https://a/b"',
  ],
  [
    'a host with a port',
    'listen: { hosts: ["a.example:443"] }',
    '3:19: listen.hosts[0]: expected a host name without scheme and port, not "a.example:443"',
  ],
  [
    'an upstream elsewhere',
    'upstream: { url: "http://10.0.0.1:80" }',
    '3:18: upstream.url: the upstream must be on loopback (127.0.0.1, localhost, [::1]) or a unix socket, unless unsafeRemote: true',
  ],
  [
    'an upstream that only looks like loopback',
    'upstream: { url: "http://127.0.0.1.example.org:80" }',
    '3:18: upstream.url: the upstream must be on loopback (127.0.0.1, localhost, [::1]) or a unix socket, unless unsafeRemote: true',
  ],
  [
    'an upstream over TLS',
    'upstream: { url: "https://127.0.0.1" }',
    '3:18: upstream.url: expected http://127.0.0.1:PORT, http://localhost:PORT, http://[::1]:PORT or unix:/path/of.sock, not "https://127.0.0.1"',
  ],
  [
    'a path with dots',
    'upstream: { paths: [/a/../b] }',
    '3:21: upstream.paths[0]: expected a path such as /mcp, or /** for everything, not "/a/../b"',
  ],
  [
    'a list without its certificate file',
    'tls: { crlCoverage: full }',
    '3:21: tls.crlCoverage: has no effect without tls.crl',
  ],
  ['no jwt though needed', 'identity: { source: both }', '3:1: identity.jwt: needed because identity.source is both'],
  [
    'an issuer in the clear',
    'identity: { jwt: { issuer: "http://idp.example.org", audience: a, jwks: k } }',
    '3:28: identity.jwt.issuer: must be https:// (http:// on loopback only)',
  ],
  [
    'an unsigned algorithm',
    'identity: { jwt: { issuer: "https://a", audience: a, jwks: k, algorithms: [none] } }',
    '3:76: identity.jwt.algorithms[0]: expected RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA or Ed25519, not "none"',
  ],
  [
    'two fields in one header',
    'identity: { forward: { org: X_User-id } }',
    '3:29: identity.forward.org: the same header as identity.forward.user',
  ],
  [
    'two fields in headers that a backend may take for one',
    'identity: { forward: { org: "x~user~id" } }',
    '3:29: identity.forward.org: the same header as identity.forward.user',
  ],
  [
    'messages deeper than any reader takes them',
    'limits: { depth: 513 }',
    '3:18: limits.depth: expected a whole number from 1 to 512, not "513"',
  ],
  [
    'the user in a header with a meaning of its own',
    'identity: { forward: { user: Host } }',
    '3:30: identity.forward.user: this header has a meaning of its own and cannot carry the user',
  ],
  [
    'a quota of nothing',
    'quotas: [{ name: q, key: user }]',
    '3:10: quotas[0]: a quota needs windows, concurrent, or both',
  ],
  [
    'a quota name twice',
    'quotas: [{ name: q, key: user, concurrent: 1 }, { name: q, key: org, concurrent: 1 }]',
    '3:57: quotas[1].name: another quota has this name',
  ],
  [
    'a cost that never fits',
    'quotas: [{ name: q, key: user, windows: [{ limit: 5, per: 1s }], cost: { "big_*": 6 } }]',
    '3:83: quotas[0].cost["big_*"]: such a call would never fit into the tightest window',
  ],
  [
    'two windows of one length',
    'quotas: [{ name: q, key: user, windows: [{ limit: 5, per: 60s }, { limit: 9, per: 1m }] }]',
    '3:83: quotas[0].windows[1].per: another window of this quota has the same length',
  ],
  [
    'a share of two kinds',
    'quotaStore: { kind: memory, share: { replicas: 2, dns: a } }',
    '3:36: quotaStore.share: expected either replicas or dns',
  ],
  ['a store that is none', 'quotaStore: { kind: etcd }', '3:21: quotaStore.kind: expected memory or redis, not "etcd"'],
  [
    'an unset variable',
    'drain: { grace: "${NOT_SET}" }',
    '3:17: drain.grace: the environment variable NOT_SET is not set',
  ],
  [
    'a reference that is none',
    'drain: { grace: "${a-b}" }',
    '3:17: drain.grace: expected ${NAME} or ${NAME:-default}; write $${ for a ${ that is meant as it is',
  ],
  [
    'a reference without end',
    'drain: { grace: "${A" }',
    '3:17: drain.grace: expected ${NAME} or ${NAME:-default}; write $${ for a ${ that is meant as it is',
  ],
  [
    'a reference in a key',
    'drain: { "${A}": 1s }',
    '3:10: drain["${A}"]: ${…} is replaced in values only, not in keys',
  ],
  [
    'a control character',
    'listen: { hosts: ["a\\u0007"] }',
    '3:19: listen.hosts[0]: expected a host name without scheme and port, not "a\\u0007"',
  ],
  ['a key that is a map', 'drain: { { a: b }: c }', '3:10: drain: a key must be a word or text'],
  ['__proto__', 'drain: { __proto__: { grace: 1s } }', '3:10: drain: a key must be a word or text'],
  [
    'a tag of another language',
    'drain: !!python/object {}',
    '3:8: not valid YAML: Unresolved tag: tag:yaml.org,2002:python/object',
  ],
  ['a merge key', 'drain: { <<: { grace: 1s } }', '3:10: drain["<<"]: unknown key; known here: lameDuck, grace'],
  [
    'an alias to nothing',
    'drain: *x',
    '3:8: drain: an alias must name an anchor that stands before it and not around it',
  ],
  ['two documents', '---\n{}', '3:1: only one YAML document is allowed in a file'],
])('%s', (_, text, want) => {
  expect(problemsOf(text).join('\n')).toBe(want)
})

test.each(['Mcp-User', 'mcp_init_host', 'Proxy', 'Proxy_Connection', 'HTTP2-Settings'])('the user in %s', name => {
  expect(problemsOf(`identity: { forward: { user: ${name} } }`).join('\n')).toBe(
    '3:30: identity.forward.user: this header has a meaning of its own and cannot carry the user',
  )
})

test.each([
  ['no peers', POLICY, '1:1: peers: at least one peer is needed: without an entry there is no service'],
  ['no peer', `peers: []\n${POLICY}`, '1:8: peers: at least one peer is needed: without an entry there is no service'],
  ['no policy', PEERS, '1:1: policy: must be given'],
  [
    'an empty match',
    `peers: [{ name: a, match: {} }]\n${POLICY}`,
    '1:27: peers[0].match: any certificate of the client CA would match; name the peer, or set unsafeAnyPeer: true',
  ],
  [
    'a match of anything',
    `peers: [{ name: a, match: { cn: "*" } }]\n${POLICY}`,
    '1:33: peers[0].match.cn: any certificate of the client CA would match; name the peer, or set unsafeAnyPeer: true',
  ],
  [
    'a match of any SPIFFE ID',
    `peers: [{ name: a, match: { uri: "spiffe://**" } }]\n${POLICY}`,
    '1:34: peers[0].match.uri: any certificate of the client CA would match; name the peer, or set unsafeAnyPeer: true',
  ],
  [
    'a match of any name',
    `peers: [{ name: a, match: { dns: "*.**" } }]\n${POLICY}`,
    '1:34: peers[0].match.dns: any certificate of the client CA would match; name the peer, or set unsafeAnyPeer: true',
  ],
  [
    'a peer twice',
    `peers: [{ name: a, match: { cn: x } }, { name: a, match: { cn: y } }]\n${POLICY}`,
    '1:48: peers[1].name: another peer has this name',
  ],
  [
    'a rule twice',
    `${PEERS}\npolicy: { rules: [{ id: a, effect: deny }, { id: a, effect: allow }] }`,
    '2:50: policy.rules[1].id: another rule has this id',
  ],
  [
    'a rule that is the default',
    `${PEERS}\npolicy: { rules: [{ id: default, effect: deny }] }`,
    '2:25: policy.rules[0].id: this id stands for calls that no rule decides; choose another',
  ],
  [
    'a rule without tools in its list',
    `${PEERS}\npolicy: { rules: [{ id: a, effect: deny, tools: [] }] }`,
    '2:49: policy.rules[0].tools: an empty list is not allowed; leave the key out',
  ],
  ['a rule without effect', `${PEERS}\npolicy: { rules: [{ id: a }] }`, '2:19: policy.rules[0].effect: must be given'],
  [
    'an unknown constraint',
    `${PEERS}\npolicy: { rules: [{ id: a, effect: deny, args: { x: { maximum: 1 } } }] }`,
    '2:55: policy.rules[0].args.x.maximum: unknown key; known here: required, equals, enum, min, max, minLength, maxLength, prefix, hosts, pattern',
  ],
  [
    'a number where text is wanted',
    `${PEERS}\npolicy: { rules: [{ id: a, effect: deny, when: { users: [42] } }] }`,
    '2:58: policy.rules[0].when.users[0]: expected a pattern; a number or a word such as true or null needs quotes to be text, not "42"',
  ],
  ['an empty file', '', '1:1: the file is empty'],
  ['only comments', '# nothing\n', '1:1: the file is empty'],
  ['a list', '- a', '1:1: expected a map of settings'],
  [
    'a broken bracket',
    `${PEERS}\npolicy: {`,
    '2:10: not valid YAML: Flow map in block collection must be sufficiently indented and end with a }',
  ],
  [
    'a reference without quotes',
    `drain: { grace: \${G} }\n${PEERS}`,
    '1:18: not valid YAML: Unexpected flow-map-start at node end; inside { } and [ ] write "${NAME}" in quotes',
  ],
])('%s', (_, whole, want) => {
  expect(problemsOf('', whole).join('\n')).toBe(want)
})

test('every problem is told at once, from top to bottom', () => {
  const told = problemsOf(
    '',
    `listen: { adress: x }
upstream: { url: "http://8.8.8.8" }
tls: { groups: [none] }
peers: []
policy: { rules: [{ id: a, effect: maybe, tools: [] }] }
drain: { grace: "\${UNSET}", lameDuck: 3 }
`,
  )
  expect(told.map(line => line.split(' ')[1])).toEqual([
    'listen.adress:',
    'upstream.url:',
    'tls.groups[0]:',
    'peers:',
    'policy.rules[0].effect:',
    'policy.rules[0].tools:',
    'drain.grace:',
    'drain.lameDuck:',
  ])
})

test('any certificate is a peer only in writing', () => {
  expect(problemsOf('', `unsafeAnyPeer: true\n${POLICY}`)).toEqual([])
  expect(problemsOf('', `unsafeAnyPeer: true\npeers: [{ name: all, match: {} }]\n${POLICY}`)).toEqual([])
})

test('an upstream elsewhere only in writing', () => {
  expect(problemsOf('upstream: { url: "http://10.0.0.1:80", unsafeRemote: true }')).toEqual([])
})

test.each([
  [
    'aliases that multiply',
    `a: &a [x,x,x,x,x,x,x,x,x,x]\n${[...'bcdefgh'].map((n, i) => `${n}: &${n} [${Array(10).fill(`*${'abcdefgh'[i]}`).join(',')}]`).join('\n')}`,
  ],
  ['an alias inside itself', 'a: &a [*a]'],
  ['a hundred thousand brackets', `a: ${'['.repeat(100_000)}`],
  ['a hundred thousand braces', `${'{a: '.repeat(100_000)}`],
  ['a hundred thousand dashes', `${'- '.repeat(100_000)}`],
  ['indentation without end', Array.from({ length: 3000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
  ['a file of 2 MiB', `a: ${'x'.repeat(2 ** 21)}`],
  ['a hundred thousand keys', Array.from({ length: 60_000 }, (_, i) => `k${i}: 1`).join('\n')],
])('%s: is a problem, not a crash', (_, text) => {
  expect(problemsOf('', text).length).toBeGreaterThan(0)
})

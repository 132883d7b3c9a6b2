import * as z from 'zod'
import type { Config } from './config.ts'
import { policySchema } from './policy-schema.ts'
import {
  boolean,
  duration,
  filePath,
  integer,
  label,
  list,
  listOrNone,
  oneOf,
  oneOrList,
  pattern,
  size,
  socketAddress,
  text,
  textThat,
} from './scalars.ts'
import { readTarget } from './target.ts'

/**
 * The configuration as it is written, its defaults, and how it becomes a `Config`. Every key that may be written is
 * here with one sentence for whoever writes it; the JSON Schema, docs/configuration.md and the editors' hints are made
 * of it. What concerns several keys at once is judged by `cross-checks.ts`.
 */

const headerName = () => textThat('the name of a header', name => /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(name))
const claimName = () => text('the name of a claim', 128)
const toolDurations = () =>
  z
    .record(pattern(), duration('1ms'))
    .transform(entries => Object.entries(entries).map(([tool, firstByteMs]) => ({ tool, firstByteMs })))

const listen = z.strictObject({
  address: socketAddress()
    .prefault('0.0.0.0:8443')
    .describe('Where mutual TLS is served; ALPN offers h2 and http/1.1.'),
  hosts: listOrNone(textThat('a host name without scheme and port', isHostName))
    .default([])
    .describe(
      'Accepted Host values besides the names in the server certificate, their service short forms, IP addresses and the host of identity.resource.',
    ),
  origins: listOrNone(textThat('an origin such as https://app.example.org', isOrigin))
    .default([])
    .describe('Accepted Origin values. A request without Origin is always accepted.'),
})

const upstream = z
  .strictObject({
    url: textThat(
      'http://127.0.0.1:PORT, http://localhost:PORT, http://[::1]:PORT or unix:/path/of.sock',
      url => readTarget(url) !== undefined,
    )
      .prefault('http://127.0.0.1:3000')
      .describe('The MCP server in this pod: http://127.0.0.1:3000 or unix:/run/mcp/server.sock.'),
    unsafeRemote: boolean()
      .prefault(false)
      .describe('Allows an upstream that is not on loopback. The checked bytes then cross a network in the clear.'),
    paths: list(textThat('a path such as /mcp, or /** for everything', isPathPattern), 100)
      .prefault(['/mcp', '/sse', '/messages'])
      .describe('The paths that are proxied at all; "/**" for everything.'),
    host: oneOf(['rewrite', 'preserve'])
      .prefault('rewrite')
      .describe(
        "rewrite: Host is the upstream's authority and the original goes into X-Forwarded-Host. preserve: Host stays as it came.",
      ),
    timeouts: z
      .strictObject({
        connect: duration('1ms', '10m')
          .prefault('2s')
          .describe('Longest time until the upstream has taken a connection.'),
        firstByte: duration('1ms')
          .prefault('5m')
          .describe("Longest time until the first byte of the upstream's answer."),
        streamIdle: duration('1ms')
          .prefault('15m')
          .describe(
            'Longest silence of an answer that has begun; comments of an event stream count as a sign of life.',
          ),
        tools: toolDurations()
          .prefault({})
          .describe('firstByte by tool pattern, the first match counts: { "export_*": 30m }.'),
      })
      .prefault({})
      .describe('How long the upstream may take.'),
    breaker: z
      .strictObject({
        errorPercent: integer(1, 100).prefault(50).describe('Share of failed calls that opens the circuit breaker.'),
        minimum: integer(1, 1_000_000).prefault(20).describe('Calls within the window below which it never opens.'),
        window: duration('1s', '1h').prefault('10s').describe('How far back calls are counted.'),
        openFor: duration('100ms', '1h')
          .prefault('30s')
          .describe('How long calls are held back before one is tried again.'),
      })
      .prefault({})
      .describe('When a failing upstream is left alone for a while.'),
  })
  .transform(({ timeouts, breaker, ...rest }) => ({
    ...rest,
    target: readTarget(rest.url) ?? z.NEVER,
    timeouts: {
      connectMs: timeouts.connect,
      firstByteMs: timeouts.firstByte,
      streamIdleMs: timeouts.streamIdle,
      tools: timeouts.tools,
    },
    breaker: {
      errorPercent: breaker.errorPercent,
      minimum: breaker.minimum,
      windowMs: breaker.window,
      openForMs: breaker.openFor,
    },
  }))

const admin = z
  .strictObject({
    address: socketAddress().prefault('0.0.0.0:9090').describe('Plain HTTP for probes and metrics, GET only.'),
    operations: textThat('unix:/path/of.sock (at most 107 bytes) or "off"', isOperations)
      .prefault('unix:/run/mcp-sidecar/ops.sock')
      .describe('Unix socket (mode 0600) for drain, reload and explain; "off" turns it off.'),
  })
  .transform(({ address, operations }) => ({
    address,
    operationsSocket: operations === 'off' ? undefined : operations.slice('unix:'.length),
  }))

const TLS_GROUPS = [
  'X25519MLKEM768',
  'SecP256r1MLKEM768',
  'SecP384r1MLKEM1024',
  'X25519',
  'X448',
  'P-256',
  'P-384',
  'P-521',
] as const

const tls = z
  .strictObject({
    cert: filePath()
      .prefault('/var/run/mcp-sidecar/tls/tls.crt')
      .describe('PEM file with the server certificate and its intermediates, leaf first.'),
    key: filePath()
      .optional()
      .describe(
        'PEM file with the private key. Absent: /var/run/mcp-sidecar/tls/tls.key beside the default cert, otherwise the key is in cert as well.',
      ),
    clientCa: filePath()
      .prefault('/var/run/mcp-sidecar/ca/ca.crt')
      .describe('PEM file with the CA certificates that client certificates must chain to.'),
    crl: filePath().exactOptional().describe('PEM file with one or several revocation lists of the client CA.'),
    crlCoverage: oneOf(['full', 'partial'])
      .prefault('full')
      .describe('full: every CA in a chain must have a current list. partial: only those that have one are checked.'),
    minVersion: oneOf(['TLSv1.3', 'TLSv1.2'])
      .prefault('TLSv1.3')
      .describe('Lowest TLS version. TLSv1.2 is served with ECDHE and AEAD ciphers only.'),
    groups: list(oneOf(TLS_GROUPS), 8)
      .prefault(['X25519MLKEM768', 'X25519', 'P-256'])
      .describe('Key exchange groups in order of preference.'),
    maxConnectionAge: duration('1s')
      .optional()
      .describe('Age at which a connection is asked to end and to be made anew.'),
  })
  .transform(({ key, crl, maxConnectionAge, ...rest }) => ({
    ...rest,
    // The default pair belongs together; a certificate of another name without a key is one combined file.
    key: key ?? (rest.cert === '/var/run/mcp-sidecar/tls/tls.crt' ? '/var/run/mcp-sidecar/tls/tls.key' : undefined),
    crl,
    maxConnectionAgeMs: maxConnectionAge,
  }))

const fingerprint = () =>
  textThat('a SHA-256 fingerprint: 64 hex digits, with or without colons', value =>
    /^([0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})$/.test(value),
  ).transform(value => value.replaceAll(':', '').toLowerCase())

const assertion = (what: string) => list(pattern()).default([]).describe(what)

const peers = z.array(
  z.strictObject({
    name: label("the peer's name").describe('What this peer is called in policy, audit lines and quotas.'),
    match: z
      .strictObject({
        uri: pattern().exactOptional().describe('URI in the subject alternative names, for example a SPIFFE ID.'),
        dns: pattern().exactOptional().describe('DNS name in the subject alternative names.'),
        cn: pattern().exactOptional().describe('Common name of the subject.'),
        fingerprint256: fingerprint().exactOptional().describe('SHA-256 of the certificate, hex.'),
      })
      .describe('Every condition given must hold. "*" stays within a segment, "**" crosses.'),
    mayAssert: z
      .strictObject({
        users: assertion('User ids.'),
        orgs: assertion('Organisations.'),
        scopes: assertion('Scopes; a ceiling, scopes beyond it are cut.'),
        roles: assertion('Roles.'),
        emails: assertion('E-mail addresses.'),
        forwardedFor: boolean().prefault(false).describe("Whether this peer's X-Forwarded-For is continued."),
      })
      .prefault({})
      .describe('What this certificate may claim about a user; a list that is absent means nothing of that kind.'),
  }),
  { error: issue => (issue.input === undefined ? undefined : 'expected a list') },
)

const jwt = z
  .strictObject({
    issuer: textThat('an https:// URL', isHttpUrl).describe('Required value of iss.'),
    audience: oneOrList(text('an audience')).describe('Accepted values of aud, one or a list.'),
    jwks: text('an https:// URL or a file name', 4096).describe(
      'Where the keys of the issuer are: an https:// URL, or a file.',
    ),
    algorithms: list(
      oneOf(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']),
    )
      .prefault(['RS256', 'ES256', 'PS256', 'EdDSA'])
      .describe('Accepted signature algorithms.'),
    requiredScopes: list(text('a scope', 256)).default([]).describe('Scopes without which no token is accepted.'),
    claims: z
      .strictObject({
        user: oneOrList(claimName())
          .prefault(['oid', 'sub'])
          .describe('Claims that hold the user id, the first present counts.'),
        email: oneOrList(claimName()).prefault(['email']).describe('Claims that hold the e-mail address.'),
        org: oneOrList(claimName()).prefault(['tid']).describe('Claims that hold the organisation.'),
        scopes: oneOrList(claimName()).prefault(['scp', 'scope']).describe('Claims that hold the scopes.'),
        roles: oneOrList(claimName()).prefault(['roles']).describe('Claims that hold the roles.'),
      })
      .prefault({})
      .describe('Which claims the user is read from.'),
    certificateBound: boolean()
      .prefault(false)
      .describe("Requires cnf.x5t#S256 to be the peer's certificate (RFC 8705)."),
    clockSkew: duration('0s', '10m').prefault('30s').describe('How far clocks may differ when exp and nbf are judged.'),
  })
  .transform(({ clockSkew, ...rest }) => ({ ...rest, clockSkewMs: clockSkew }))

const identity = z
  .strictObject({
    source: oneOf(['headers', 'jwt', 'both'])
      .prefault('headers')
      .describe("Where the user comes from. both: the user in the headers must be the token's."),
    required: boolean().prefault(true).describe('Whether a call without a user is refused.'),
    forward: z
      .strictObject({
        user: headerName().prefault('X-User-ID').describe('Header with the user id.'),
        email: headerName().prefault('X-User-Email').describe('Header with the e-mail address.'),
        org: headerName().prefault('X-Org-ID').describe('Header with the organisation.'),
        scopes: headerName().prefault('X-User-Scopes').describe('Header with the scopes, separated by spaces.'),
        roles: headerName().prefault('X-User-Roles').describe('Header with the roles, separated by spaces.'),
      })
      .prefault({})
      .describe('Names of the headers in which the user arrives and is handed to the upstream.'),
    clientCert: list(oneOf(['xfcc', 'rfc9440', 'xfcc-cert']))
      .prefault(['xfcc'])
      .describe(
        "How the upstream learns of the peer's certificate: xfcc (Hash, Subject, URI, DNS), rfc9440 (Client-Cert), xfcc-cert.",
      ),
    pass: listOrNone(oneOf(['Authorization', 'Cookie', 'Proxy-Authorization', 'DPoP']))
      .default([])
      .describe('Credentials that reach the upstream; those not listed are removed.'),
    jwt: jwt.optional().describe('How tokens are verified; needed when source is jwt or both.'),
    resource: textThat('an https:// URL without query and fragment', isResource)
      .optional()
      .describe('Canonical URL of this MCP server; turns on RFC 9728 metadata and names it in WWW-Authenticate.'),
  })
  .transform(value => ({ ...value, jwt: value.jwt, resource: value.resource }))

const quotaMatch = z
  .strictObject({
    methods: list(pattern()).exactOptional().describe('Method patterns.'),
    tools: list(pattern()).exactOptional().describe('Tool patterns.'),
  })
  .prefault({})
  .describe('Which calls draw from it; absent means every call that acts on something.')

const quotas = list(
  z
    .strictObject({
      name: label("the quota's name").describe('What it is called in answers, audit lines and metrics.'),
      key: oneOrList(oneOf(['user', 'org', 'peer', 'tool', 'session']), 5).describe(
        'Whose calls are counted together: user, org, peer, tool, session, or a list of them.',
      ),
      match: quotaMatch,
      windows: list(
        z.strictObject({
          limit: integer(1, 1_000_000_000).describe('Units that are admitted in any interval of that length.'),
          per: duration('1s', '31d').describe('Length of the window.'),
        }),
        8,
      )
        .default([])
        .describe('Sliding windows; all of them must admit a call.'),
      cost: z
        .record(pattern(), integer(0, 1_000_000))
        .prefault({})
        .describe('Units that a call draws by tool pattern, the first match counts: { "export_*": 10 }. Otherwise 1.'),
      concurrent: integer(1, 1_000_000).optional().describe('Calls under way at the same time.'),
    })
    .transform(({ windows, cost, concurrent, ...rest }) => ({
      ...rest,
      windows: windows.map(({ limit, per }) => ({ limit, perMs: per })),
      cost: Object.entries(cost).map(([tool, weight]) => ({ tool, weight })),
      concurrent,
    })),
)

const share = z
  .strictObject({
    replicas: integer(1, 10_000).optional().describe('Number of replicas among which every limit is divided.'),
    dns: textThat('a DNS name', isHostName)
      .optional()
      .describe('Headless service whose addresses are counted instead.'),
  })
  .transform(({ replicas, dns }, context) => {
    if (replicas !== undefined && dns === undefined) return { kind: 'replicas' as const, replicas }
    if (dns !== undefined && replicas === undefined) return { kind: 'dns' as const, name: dns }
    context.addIssue('expected either replicas or dns')
    return z.NEVER
  })

const quotaStore = z.discriminatedUnion(
  'kind',
  [
    z
      .strictObject({
        kind: z.literal('memory').describe('Counts in the memory of this process.'),
        share: share.optional().describe('How replicas divide the limits; absent: each counts for itself.'),
      })
      .transform(({ kind, share }) => ({ kind, share })),
    z
      .strictObject({
        kind: z.literal('redis').describe('Counts in a Redis that all replicas share.'),
        url: textThat('a redis:// or rediss:// URL', isRedisUrl).describe(
          'redis://… or rediss://…, with user and password.',
        ),
        onFailure: oneOf(['local', 'deny'])
          .prefault('local')
          .describe('When Redis is away: local counts in memory, deny refuses.'),
        deadline: duration('1ms', '10s').prefault('100ms').describe('Longest wait for an answer of Redis.'),
      })
      .transform(({ deadline, ...rest }) => ({ ...rest, deadlineMs: deadline })),
  ],
  { error: issue => (issue.code === 'invalid_union' ? 'expected memory or redis' : undefined) },
)

const audit = z
  .strictObject({
    redact: z
      .strictObject({
        keys: list(text('a word'))
          .prefault(['token', 'password', 'secret', 'api key', 'authorization', 'cookie', 'credential', 'private key'])
          .describe('Names, in any spelling, whose values are never written.'),
        patterns: list(oneOf(['bearer', 'jwt', 'email', 'card', 'cloud-key', 'private-key', 'url-userinfo']))
          .prefault(['bearer', 'jwt', 'email', 'card', 'cloud-key', 'private-key', 'url-userinfo'])
          .describe('Kinds of secret that are recognised by their look, wherever they are.'),
      })
      .prefault({})
      .describe('What never gets into an audit line.'),
    args: oneOf(['redacted', 'digest', 'none'])
      .prefault('redacted')
      .describe('How arguments are recorded: redacted, as a keyed digest only, or not at all.'),
    allow: z
      .record(pattern(), list(text('the name of an argument', 256)))
      .prefault({})
      .describe('Arguments that are written as they are, by tool pattern: { get_user: [id] }.'),
    maxLine: size('1KiB', '1MiB')
      .prefault('15KiB')
      .describe('Longest audit line; container runtimes split longer ones at 16 KiB.'),
    chain: boolean().prefault(true).describe('Whether each line carries the hash of the one before.'),
    signingKey: filePath().optional().describe('PEM file with an Ed25519 key; checkpoints are signed with it.'),
    digestKey: filePath().optional().describe('File with the key of argument digests.'),
    checkpointEvery: integer(1, 10_000_000).prefault(1000).describe('Lines between two checkpoints.'),
    onBlocked: oneOf(['block', 'drop'])
      .prefault('block')
      .describe(
        'When nobody takes the lines: block refuses calls, drop serves them, counts the lines lost and records that in the chain.',
      ),
  })
  .transform(({ allow, maxLine, signingKey, digestKey, ...rest }) => ({
    ...rest,
    allow: Object.entries(allow).map(([tool, args]) => ({ tool, args })),
    maxLineBytes: maxLine,
    signingKey,
    digestKey,
  }))

const limits = z
  .strictObject({
    body: size('1KiB', '1GiB').prefault('4MiB').describe('Largest request body.'),
    headers: size('1KiB', '1MiB').prefault('32KiB').describe('Largest request head.'),
    depth: integer(1, 1000).prefault(64).describe('Deepest nesting of a message.'),
    batch: integer(0, 1000).prefault(0).describe('Messages in a batch of the legacy era; 0 refuses batches.'),
    event: size('1KiB', '1GiB').prefault('4MiB').describe('Largest event of a stream that has to be read.'),
    connections: integer(1, 1_000_000).prefault(1000).describe('Connections at the same time.'),
    handshakes: integer(1, 100_000).prefault(100).describe('TLS handshakes under way at the same time.'),
    streamsPerUser: integer(1, 100_000).prefault(32).describe('Event streams that one caller may hold open.'),
    streamAge: duration('1s').prefault('1h').describe('Age at which an event stream is ended, to be resumed.'),
  })
  .transform(value => ({
    bodyBytes: value.body,
    headerBytes: value.headers,
    depth: value.depth,
    batch: value.batch,
    eventBytes: value.event,
    connections: value.connections,
    handshakes: value.handshakes,
    streamsPerUser: value.streamsPerUser,
    streamAgeMs: value.streamAge,
  }))

const drain = z
  .strictObject({
    lameDuck: duration('0s', '1h')
      .prefault('5s')
      .describe('How long calls are still taken after SIGTERM while readiness already says no.'),
    grace: duration('0s', '1h').prefault('25s').describe('How long calls under way may still take after that.'),
  })
  .transform(({ lameDuck, grace }) => ({ lameDuckMs: lameDuck, graceMs: grace }))

export const configSchema = z.strictObject({
  listen: listen.prefault({}).describe('The listener that the gateway connects to.'),
  upstream: upstream.prefault({}).describe('The MCP server behind this sidecar.'),
  admin: admin.prefault({}).describe('Probes, metrics and operations.'),
  tls: tls.prefault({}).describe('Certificates and TLS parameters. Files are followed as they change.'),
  peers: peers.default([]).describe('The certificates that may connect; without an entry there is no service.'),
  unsafeAnyPeer: boolean()
    .prefault(false)
    .describe('Accepts in writing that an entry, or no entry at all, makes any certificate of the client CA a peer.'),
  identity: identity.prefault({}).describe('Who the user behind a call is.'),
  policy: policySchema.describe('Which calls are allowed: rules, or { file: policy.yaml }.'),
  quotas: quotas.default([]).describe('How much may be called; every quota that matches must admit.'),
  quotaStore: quotaStore.prefault({ kind: 'memory' }).describe('Where calls are counted.'),
  quotaHeaders: oneOf(['always', 'refused', 'never'])
    .prefault('always')
    .describe('On which answers RateLimit and RateLimit-Policy are sent.'),
  audit: audit.prefault({}).describe('What is recorded of each call.'),
  limits: limits.prefault({}).describe('Bounds on what a caller may use up.'),
  drain: drain.prefault({}).describe('How the sidecar ends.'),
}) satisfies z.ZodType<Config>

function isHostName(value: string): boolean {
  return /^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?$/.test(value) || /^\[?[0-9A-Fa-f:]{2,45}\]?$/.test(value)
}

function isOrigin(value: string): boolean {
  return /^[a-z][a-z0-9+.-]{0,30}:\/\/[^\s/?#@]{1,255}$/i.test(value)
}

/** A path as the request side accepts it: no empty or dot segments, no parameters, nothing encoded. */
function isPathPattern(value: string): boolean {
  if (!/^\/[A-Za-z0-9\-._~!$&'()+,=:@/*]*$/.test(value) || value.includes('//')) return false
  return value.split('/').every(segment => segment !== '.' && segment !== '..')
}

function isOperations(value: string): boolean {
  return value === 'off' || (/^unix:\/./.test(value) && Buffer.byteLength(value) - 5 <= 107)
}

function isHttpUrl(value: string): boolean {
  return /^https?:\/\//.test(value) && URL.canParse(value)
}

function isResource(value: string): boolean {
  return isHttpUrl(value) && !value.includes('#') && !value.includes('?') && !new URL(value).username
}

function isRedisUrl(value: string): boolean {
  return /^rediss?:\/\/./.test(value) && URL.canParse(value)
}

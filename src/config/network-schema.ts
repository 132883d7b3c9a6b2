import * as z from 'zod'
import { DEEPEST } from '../core/mcp/strict-json.ts'
import {
  boolean,
  duration,
  filePath,
  integer,
  isHostName,
  list,
  listOrNone,
  oneOf,
  pattern,
  size,
  socketAddress,
  textThat,
} from './scalars.ts'
import { readTarget } from './target.ts'

/** Where the sidecar listens, whom it forwards to, and how much of either. */
const toolDurations = () =>
  z
    .record(pattern(), duration('1ms'))
    .transform(entries => Object.entries(entries).map(([tool, firstByteMs]) => ({ tool, firstByteMs })))

export const listen = z.strictObject({
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

export const upstream = z
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
        errorPercent: integer(1, 100)
          .prefault(50)
          .describe(
            'Share of failed calls that opens the circuit breaker: HTTP 5xx, broken off, too late, JSON-RPC -32603 (in a row for one caller: once).',
          ),
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

export const admin = z
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

export const tls = z
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

export const limits = z
  .strictObject({
    body: size('1KiB', '1GiB')
      .prefault('4MiB')
      .describe(
        'Largest request body. Those over 8 KiB share an eighth of the memory, those over 64 KiB three quarters of that; what finds no room is refused.',
      ),
    headers: size('1KiB', '1MiB').prefault('32KiB').describe('Largest request head.'),
    depth: integer(1, DEEPEST).prefault(64).describe('Deepest nesting of a message.'),
    batch: integer(0, 1000).prefault(0).describe('Messages in a batch of the legacy era; 0 refuses batches.'),
    event: size('1KiB', '1GiB').prefault('4MiB').describe('Largest event of a stream that has to be read.'),
    connections: integer(1, 1_000_000)
      .prefault(1000)
      .describe('Connections at the same time; twice as many event streams may be open in all.'),
    handshakes: integer(1, 100_000)
      .prefault(100)
      .describe(
        'TLS handshakes under way at the same time. From one address twice as many may begin in a second, four times as many at once; one that fails counts as ten. Those of addresses with four connections that have not asked for anything yet begin 8 ms apart, or less where this is above 100.',
      ),
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

export const drain = z
  .strictObject({
    lameDuck: duration('0s', '1h')
      .prefault('5s')
      .describe('How long calls are still taken after SIGTERM while readiness already says no.'),
    grace: duration('0s', '1h').prefault('25s').describe('How long calls under way may still take after that.'),
  })
  .transform(({ lameDuck, grace }) => ({ lameDuckMs: lameDuck, graceMs: grace }))

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

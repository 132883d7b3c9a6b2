import type { AuditConfig } from '../../src/config/config.ts'
import { Chain } from '../../src/core/audit/chain.ts'
import type { ConnectionFacts, Exchange } from '../../src/core/audit/exchange.ts'
import { createRecorder, type Origin, type Recorder } from '../../src/core/audit/record.ts'
import type { ClientCertificate } from '../../src/core/identity/caller.ts'
import type { JsonObject } from '../../src/core/json.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { compileQuotas } from '../../src/core/quota/compile.ts'
import { demandsFor } from '../../src/core/quota/demand.ts'
import { caller, callTool, quota } from './quotas.ts'

/** The defaults of the contract. */
export const auditDefaults: AuditConfig = {
  redact: {
    keys: ['token', 'password', 'secret', 'api key', 'authorization', 'cookie', 'credential', 'private key'],
    patterns: ['bearer', 'jwt', 'email', 'card', 'cloud-key', 'private-key', 'url-userinfo'],
  },
  args: 'redacted',
  allow: [],
  maxLineBytes: 15 * 1024,
  chain: true,
  signingKey: undefined,
  digestKey: undefined,
  checkpointEvery: 1000,
  onBlocked: 'block',
}

const origin: Origin = {
  version: '0.1.0',
  pod: { name: 'weather-7d9f', namespace: 'tools', node: 'node-1' },
  policy: 'p0123456789',
  digestKey: Buffer.alloc(32, 7),
}

export function recorderWith(config: Partial<AuditConfig> = {}, from: Partial<Origin> = {}): Recorder {
  return createRecorder({ ...auditDefaults, ...config }, { ...origin, ...from })
}

export const certificate: ClientCertificate = {
  subject: 'CN=gateway,O=Acme',
  issuer: 'CN=Acme CA',
  serial: '0a1b2c',
  fingerprint256: 'ab'.repeat(32),
  commonName: 'gateway',
  uris: ['spiffe://example.org/ns/gateway/sa/kong'],
  dnsNames: [],
  ips: [],
  notBeforeMs: 0,
  notAfterMs: 4e12,
  der: Buffer.alloc(0),
  chain: [],
}

export const connection: ConnectionFacts = {
  remoteAddress: '10.1.2.3',
  certificate,
  tls: 'TLSv1.3 X25519 TLS_AES_256_GCM_SHA384',
  httpVersion: '2',
}

export function toolCall(tool: string, args: JsonObject = {}, more: Partial<Message> = {}): Message {
  return {
    kind: 'request',
    era: 'modern',
    version: '2026-07-28',
    method: 'tools/call',
    id: 7,
    objects: [{ kind: 'tool', name: tool, normalized: tool }],
    args,
    params: { name: tool, arguments: args },
    taskIds: [],
    traceparent: undefined,
    clientInfo: { name: 'agent', version: '1.0' },
    isError: false,
    ...more,
  }
}

const PER_USER = quota('per-user', { windows: [{ limit: 120, perMs: 60_000 }] })
const DRAWN = demandsFor(compileQuotas([PER_USER]), caller('jane'), undefined, [callTool()])

/** A call of `search` by jane of acme that policy let through and that went well. */
export function exchangeWith(more: Partial<Exchange> = {}): Exchange {
  return {
    requestId: 'req-1',
    startedAtMs: Date.UTC(2026, 10, 21, 12, 0, 0, 5),
    startedMono: 1000,
    httpMethod: 'POST',
    route: '/mcp',
    connection,
    forwardedFor: '192.0.2.7',
    userAgent: 'agent/1.0',
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    peer: { name: 'gateway', matched: 'uri:spiffe://example.org/ns/gateway/sa/kong', certificate },
    user: {
      id: 'jane',
      org: 'acme',
      email: 'jane@acme.example',
      scopes: ['mcp.read'],
      roles: ['developer'],
      source: 'headers',
      scopesCut: [],
      expiresAtMs: undefined,
    },
    messages: [toolCall('search', { query: 'certificates', limit: 20 })],
    session: undefined,
    verdict: { effect: 'allow', rule: 'readers', mode: 'enforce', missingScopes: [], denied: undefined },
    quota: { name: 'per-user', limit: 120, windowMs: 60_000, remaining: 100, resetMs: 12_345 },
    drawn: DRAWN,
    refusal: undefined,
    outcome: 'success',
    status: 200,
    rpcError: undefined,
    error: undefined,
    bytesIn: 312,
    bytesOut: 1024,
    upstreamStartedMono: 1000.5,
    upstreamEndedMono: 1003.25,
    endedMono: 1004.125,
    streamed: false,
    generation: { config: 1, trust: 2 },
    ...more,
  }
}

/** The finished line of one exchange, as it stands on stdout, parsed. */
export function lineOf(exchange: Exchange, config: Partial<AuditConfig> = {}): Record<string, never> {
  const event = exchange.refusal === undefined ? 'mcp.call' : 'mcp.refused'
  return JSON.parse(new Chain('c').seal(recorderWith(config).exchange(event, exchange, exchange.messages[0])))
}

import type { QuotaConfig } from '../../src/config/config.ts'
import type { Caller } from '../../src/core/identity/caller.ts'
import type { Message } from '../../src/core/mcp/message.ts'

export function quota(name: string, parts: Partial<QuotaConfig> = {}): QuotaConfig {
  return { name, key: ['user'], match: {}, windows: [], cost: [], concurrent: undefined, ...parts }
}

const certificate = {
  subject: 'CN=gateway',
  issuer: 'CN=ca',
  serial: '01',
  fingerprint256: '00'.repeat(32),
  commonName: 'gateway',
  uris: [],
  dnsNames: [],
  ips: [],
  notBeforeMs: 0,
  notAfterMs: 0,
  der: Buffer.alloc(0),
  chain: [],
}

/** `ana@acme`, `ana` without an org, or undefined for a caller without a user. */
export function caller(user: string | undefined, peer = 'uri:spiffe://example.org/gateway'): Caller {
  const [id = '', org] = user?.split('@') ?? []
  return {
    peer: { name: 'gateway', matched: peer, certificate },
    user:
      user === undefined
        ? undefined
        : {
            id,
            org,
            email: undefined,
            scopes: [],
            roles: [],
            source: 'headers',
            scopesCut: [],
            expiresAtMs: undefined,
          },
  }
}

export function message(method: string, tool?: string): Message {
  return {
    kind: 'request',
    era: 'modern',
    version: undefined,
    method,
    id: 1,
    objects: tool === undefined ? [] : [{ kind: 'tool', name: tool, normalized: tool }],
    args: undefined,
    params: undefined,
    taskIds: [],
    traceparent: undefined,
    clientInfo: undefined,
    isError: false,
  }
}

export const callTool = (tool = 'search'): Message => message('tools/call', tool)

import type { PolicyConfig, RuleConfig } from '../../src/config/config.ts'
import type { Caller, User } from '../../src/core/identity/caller.ts'
import type { JsonObject } from '../../src/core/json.ts'
import type { McpObject, Message } from '../../src/core/mcp/message.ts'
import { type CompiledPolicy, compilePolicy } from '../../src/core/policy/compile.ts'
import type { PatternEngine } from '../../src/core/policy/compile-arguments.ts'
import type { Verdict } from '../../src/core/policy/verdict.ts'

/** A rule with what the schema would fill in. */
export function rule(part: Partial<RuleConfig> & { id: string }): RuleConfig {
  return { effect: 'allow', shadow: false, when: {}, ...part }
}

export function policyOf(
  rules: RuleConfig[],
  rest: Partial<PolicyConfig> = {},
  engine?: PatternEngine,
): CompiledPolicy {
  const compiled = compilePolicy(
    { mode: 'enforce', default: 'deny', denyStyle: 'explain', refusals: 'in-band', ...rest, rules },
    engine,
  )
  if (!compiled.ok) throw new Error(compiled.error.map(({ path, message }) => `${path}: ${message}`).join('\n'))
  return compiled.value
}

/** `user: undefined` is a caller of whom only the peer is known. */
export function callerOf(part: Partial<User> & { peer?: string; uris?: string[]; anonymous?: boolean } = {}): Caller {
  const { peer = 'gateway', uris = ['spiffe://example.org/ns/gateway/sa/kong'], anonymous = false, ...user } = part
  return {
    peer: {
      name: peer,
      matched: `uri:${uris[0]}`,
      certificate: {
        subject: 'CN=gateway',
        issuer: 'CN=ca',
        serial: '01',
        fingerprint256: '00',
        commonName: 'gateway',
        uris,
        dnsNames: [],
        ips: [],
        notBeforeMs: 0,
        notAfterMs: 0,
        der: Buffer.alloc(0),
        chain: [],
      },
    },
    user: anonymous
      ? undefined
      : {
          id: 'alice',
          org: 'acme',
          email: undefined,
          scopes: [],
          roles: [],
          source: 'headers',
          scopesCut: [],
          expiresAtMs: undefined,
          ...user,
        },
  }
}

export function messageOf(method: string, part: Partial<Message> = {}): Message {
  return {
    kind: 'request',
    era: 'modern',
    version: '2026-07-28',
    method,
    id: 1,
    objects: [],
    args: undefined,
    params: undefined,
    taskIds: [],
    traceparent: undefined,
    clientInfo: undefined,
    isError: false,
    ...part,
  }
}

export function toolCall(name: string, args?: JsonObject): Message {
  return messageOf('tools/call', { objects: [object('tool', name)], args })
}

export function promptGet(name: string, args?: JsonObject): Message {
  return messageOf('prompts/get', { objects: [object('prompt', name)], args })
}

export function resourceRead(uri: string, method = 'resources/read'): Message {
  return messageOf(method, { objects: [object('resource', uri)] })
}

export function object(kind: McpObject['kind'], name: string): McpObject {
  return { kind, name, normalized: name }
}

/** `deny by readers`, `allow by default`, with `would deny by …` for what is only recorded. */
export function told(verdict: Verdict): string {
  const would = verdict.mode === 'shadow' && verdict.effect === 'deny' ? 'would ' : ''
  return `${would}${verdict.effect} by ${verdict.rule}`
}

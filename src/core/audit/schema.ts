import * as z from 'zod'
import type { JsonObject } from '../json.ts'

/**
 * One audit line, as collectors, dashboards and `policy replay` may rely on it. Every member that is not required is
 * there when it is known.
 */
export const auditLine = z
  .strictObject({
    timestamp: time().describe('When it happened; of a call, when it ended.'),
    kind: z.literal('audit'),
    event: z
      .enum([
        'mcp.call',
        'mcp.started',
        'mcp.refused',
        'mcp.stream.open',
        'mcp.stream.close',
        'connection.refused',
        'connection.closed',
        'trust.reloaded',
        'trust.kept',
        'config.reloaded',
        'config.kept',
        'audit.gap',
        'audit.checkpoint',
        'sidecar.started',
        'sidecar.stopped',
      ])
      .describe('What happened. A `…kept` says that something new could not be used and the old one stays.'),
    seq: count().min(1).describe('1 for the first line of a process, one more for each line.'),
    chain: z
      .strictObject({
        id: z
          .string()
          .regex(/^[A-Za-z0-9._-]{1,64}$/)
          .describe('Names the chain: new for each start of the process.'),
        prev: sha256().describe('Hash of the line before; 64 zeros in the first.'),
        hash: sha256().describe('SHA-256 of every byte of this line before `,"hash":`.'),
      })
      .optional()
      .describe('Absent with `audit.chain: false`. Always the last member.'),
    requestId: z.string().optional().describe('X-Request-ID of a listed peer, else one of our own.'),
    traceparent: z.string().optional().describe('W3C trace context, from `_meta` of the message or from the header.'),
    client: z
      .strictObject({
        address: z
          .string()
          .describe('Address of the other end of the connection; `other` when several were counted together.'),
        forwardedFor: z.string().optional(),
        userAgent: z.string().optional(),
        name: z.string().optional().describe('What the MCP client calls itself.'),
        version: z.string().optional(),
      })
      .optional(),
    peer: z
      .strictObject({
        name: z.string().optional().describe('Entry of `peers` that the certificate matches.'),
        uri: z.string().optional().describe('First URI of the subject alternative names.'),
        subject: z.string().optional(),
        issuer: z.string().optional(),
        serial: z.string().optional(),
        fingerprint256: z.string().optional().describe('SHA-256 of the certificate, hex.'),
        tls: z.string().optional().describe('Protocol version, group and cipher.'),
      })
      .optional()
      .describe('The workload at the other end of the TLS connection.'),
    user: z
      .strictObject({
        id: z.string(),
        email: z.string().optional(),
        org: z.string().optional(),
        scopes: z.array(z.string()),
        roles: z.array(z.string()),
        scopesCut: z.array(z.string()).optional().describe("Asserted beyond the peer's ceiling, and cut."),
        source: z.enum(['headers', 'jwt', 'both']),
      })
      .partial({ scopes: true, roles: true, source: true })
      .optional()
      .describe('On whose behalf: a user is (org, id), never the id alone.'),
    mcp: z
      .strictObject({
        era: z.enum(['modern', 'legacy']).optional(),
        version: z.string().optional(),
        method: z.string().optional(),
        tool: z.string().optional(),
        prompt: z.string().optional(),
        resource: z.string().optional(),
        rpcId: z.union([z.string(), z.int()]).optional(),
        session: z.string().optional().describe('A digest of the session id, never the id.'),
      })
      .optional(),
    args: z.record(z.string(), z.unknown()).optional().describe('Arguments of the call, redacted.'),
    argsDigest: z
      .string()
      .regex(/^hmac-sha256:[0-9a-f]{64}$/)
      .optional()
      .describe('Keyed digest of the canonical JSON (RFC 8785) of the arguments: equal arguments have equal digests.'),
    truncated: z.literal(true).optional().describe('Something was left out or cut to keep the line short.'),
    decision: z
      .strictObject({
        effect: z.enum(['allow', 'deny']).optional().describe('What policy said; `deny` when it did not come to that.'),
        rule: z
          .string()
          .optional()
          .describe('Rule that decided; `default` when none matched, `implicit` for what is always allowed.'),
        reason: z
          .string()
          .optional()
          .describe('Why it was refused or cut: a reason of the table of refusals, or of the TLS layer.'),
        mode: z.enum(['enforce', 'shadow']).optional().describe('`shadow`: a deny that was recorded and not enforced.'),
        policy: z.string().optional().describe('Digest of the policy that decided.'),
      })
      .optional(),
    quota: z
      .strictObject({
        name: z.string(),
        limit: z.number(),
        remaining: z.number(),
        resetMs: z.number(),
      })
      .optional()
      .describe('The tightest quota that the call drew from.'),
    outcome: z.enum(['success', 'tool_error', 'error', 'refused', 'aborted']).optional(),
    status: z.int().optional().describe('HTTP status of the answer.'),
    rpcError: z.strictObject({ code: z.int(), message: z.string() }).optional(),
    error: z.string().optional().describe('What went wrong, in words.'),
    durationMs: z.number().optional(),
    upstreamMs: z.number().optional().describe('Of these, how long the MCP server took.'),
    bytesIn: count().optional(),
    bytesOut: count().optional(),
    count: count().min(1).optional().describe('How many happened, when one line stands for several.'),
    firstAt: time().optional(),
    lastAt: time().optional(),
    started: z
      .strictObject({
        image: z.string().optional(),
        node: z.string(),
        signingKey: z.string().optional().describe('RFC 7638 thumbprint of the key that signs checkpoints.'),
        checkpointEvery: z.int().optional(),
      })
      .optional()
      .describe('Of the first line of a chain.'),
    stopped: z
      .strictObject({
        reason: z.string().optional(),
        records: count().describe('Lines before this one.'),
        calls: count(),
        refused: count(),
        dropped: count(),
      })
      .optional()
      .describe('Of the closing line of a chain: what was done.'),
    checkpoint: z
      .strictObject({
        seq: count(),
        hash: sha256(),
        signature: z.string().describe('Compact JWS (EdDSA) over {"chain","seq","hash"}.'),
      })
      .optional(),
    pod: z
      .strictObject({ name: z.string().optional(), namespace: z.string().optional(), node: z.string().optional() })
      .optional(),
    sidecar: z
      .strictObject({
        version: z.string(),
        config: count().describe('Generation of the configuration.'),
        trust: count().describe('Generation of certificate, key, CA and CRL.'),
      })
      .optional(),
  })
  .describe('One line of the audit log of mcp-sidecar.')

/** The JSON Schema (draft 2020-12) of an audit line. */
export function auditJsonSchema(): JsonObject {
  const { $schema, ...rest } = z.toJSONSchema(auditLine, { target: 'draft-2020-12', reused: 'inline' })
  return {
    $schema,
    $id: 'https://mcp-sidecar.io/schema/audit.schema.json',
    title: 'Audit line of mcp-sidecar',
    ...rest,
  } as unknown as JsonObject
}

function time() {
  return z.string().regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
}

function sha256() {
  return z.string().regex(/^[0-9a-f]{64}$/)
}

function count() {
  return z.int().min(0)
}

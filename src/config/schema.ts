import * as z from 'zod'
import { identity, peers } from './caller-schema.ts'
import type { Config } from './config.ts'
import { admin, drain, limits, listen, tls, upstream } from './network-schema.ts'
import { policySchema } from './policy-schema.ts'
import { quotaStore, quotas } from './quota-schema.ts'
import { boolean, filePath, integer, list, oneOf, pattern, size, text } from './scalars.ts'

/**
 * The configuration as it is written, its defaults, and how it becomes a `Config`. Every key that may be written is
 * here with one sentence for whoever writes it; the JSON Schema, docs/configuration.md and the editors' hints are made
 * of it. What concerns several keys at once is judged by `cross-checks.ts`.
 */

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
    maxLine: size('2KiB', '1MiB')
      .prefault('15KiB')
      .describe('Longest audit line, at least 2KiB; container runtimes split longer ones at 16 KiB.'),
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

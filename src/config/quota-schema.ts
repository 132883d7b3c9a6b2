import * as z from 'zod'
import { duration, integer, isHostName, label, list, oneOf, oneOrList, pattern, textThat } from './scalars.ts'

/** How much may be called, and where that is counted. */
const quotaMatch = z
  .strictObject({
    methods: list(pattern()).exactOptional().describe('Method patterns.'),
    tools: list(pattern()).exactOptional().describe('Tool patterns.'),
  })
  .prefault({})
  .describe('Which calls draw from it; absent means every call that acts on something.')

export const quotas = list(
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

export const quotaStore = z.discriminatedUnion(
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

function isRedisUrl(value: string): boolean {
  return /^rediss?:\/\/./.test(value) && URL.canParse(value)
}

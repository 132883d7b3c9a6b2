import type { Caller } from '../identity/caller.ts'
import type { CompiledQuota, CompiledQuotas } from './compile.ts'
import { coverageOf } from './compile.ts'
import { keyOf, pollKey, readKey } from './key.ts'
import type { BucketState } from './ledger.ts'

/** Whose quotas are asked about. Without an org: users of that name in every org. */
export interface QuotaQuestion {
  readonly user: string
  readonly org: string | undefined
  readonly tool: string | undefined
  /** The name in a peer's certificate, as `peer.matched` has it. */
  readonly peer?: string | undefined
  readonly session?: string | undefined
}

/** What one bucket of one quota holds at this moment, as `mcp-sidecar quotas explain` prints it. */
export interface QuotaExplanation {
  readonly quota: string
  /** In words: `user ana of acme, tool export`. */
  readonly bucket: string
  /** What one call costs here. */
  readonly cost: number
  readonly windows: readonly {
    readonly limit: number
    readonly perMs: number
    readonly used: number
    readonly remaining: number
    /** Ms until one more unit is free; 0 when it is free now. */
    readonly nextFreeMs: number
    /** Ms until the window is empty if nobody calls. */
    readonly resetMs: number
  }[]
  readonly concurrent: { readonly limit: number; readonly inFlight: number } | undefined
  /** The next such call would be refused because of this bucket. */
  readonly bites: boolean
  readonly note: string | undefined
}

export interface Bucket {
  readonly quota: CompiledQuota
  readonly key: string
}

/** A bound for answers to questions that leave much open. */
const MAX_BUCKETS = 200

/**
 * The buckets that a call of this user may draw from: the one that follows from the question, and those among the keys
 * in use that agree with it in everything that it says.
 */
export function bucketsOf(
  compiled: CompiledQuotas,
  question: QuotaQuestion,
  keysOf: (quota: CompiledQuota) => Iterable<string>,
): Bucket[] {
  const buckets: Bucket[] = []
  for (const quota of compiled.quotas) {
    if (!concerns(quota, question.tool)) continue
    const keys = new Set<string>()
    const isSettled = quota.key.every(part => part === 'user' || part === 'org' || (part === 'tool' && question.tool))
    if (isSettled) keys.add(keyOf(quota.key, callerOf(question), undefined, question.tool))
    for (const key of keysOf(quota)) {
      if (keys.size >= MAX_BUCKETS) break
      if (agrees(quota, key, question) || (isSettled && key === pollKey([...keys][0] ?? ''))) keys.add(key)
    }
    for (const key of keys) buckets.push({ quota, key })
  }
  return buckets
}

export function explainBucket(bucket: Bucket, state: BucketState, tool: string | undefined): QuotaExplanation {
  const { quota, key } = bucket
  const cost =
    tool === undefined
      ? Math.min(1, quota.maxCost)
      : Math.min(quota.costs.find(({ tool: glob }) => glob(tool))?.weight ?? 1, quota.maxCost)
  const windows = quota.windows.map(({ limit, perMs }, at) => {
    const { used, nextFreeMs, resetMs } = state.windows[at] ?? { used: 0, nextFreeMs: 0, resetMs: 0 }
    return { limit, perMs, used, remaining: Math.max(0, limit - used), nextFreeMs, resetMs }
  })
  const concurrent = quota.concurrent === undefined ? undefined : { limit: quota.concurrent, inFlight: state.inFlight }
  return {
    quota: quota.name,
    bucket: describe(key),
    cost: quota.windows.length === 0 ? 0 : cost,
    windows,
    concurrent,
    bites:
      windows.some(({ remaining }) => remaining < cost) ||
      (concurrent !== undefined && concurrent.inFlight >= concurrent.limit),
    note: state.isOverflow ? 'no room for more keys: this is the bucket that all new keys share' : undefined,
  }
}

function concerns(quota: CompiledQuota, tool: string | undefined): boolean {
  if (tool === undefined) return true
  if (coverageOf(quota, 'tools/call') === 'none') return false
  return quota.tools === undefined || quota.tools.some(glob => glob(tool))
}

function agrees(quota: CompiledQuota, key: string, question: QuotaQuestion): boolean {
  const read = readKey(key)
  if (read === undefined || read.parts.length !== quota.key.length) return false
  let namesUser = false
  for (const part of read.parts) {
    if (part.kind === 'user') {
      if (part.value !== question.user) return false
      if (question.org !== undefined && part.org !== question.org) return false
      namesUser = true
    } else if (part.kind === 'org') {
      if (question.org === undefined || part.value !== question.org) return false
      namesUser = true
    } else if (part.kind === 'tool') {
      if (question.tool !== undefined && part.value !== question.tool) return false
    } else if (part.kind === 'peer') {
      if (question.peer !== undefined && part.value !== question.peer) return false
    } else if (part.kind === 'session') {
      // Whose session it is cannot be seen from the key, so only a session that was named is shown.
      if (question.session === undefined || part.value !== question.session) return false
      namesUser = true
    }
  }
  // Quotas that count by tool or peer alone concern everybody.
  return namesUser || quota.key.every(part => part === 'tool' || part === 'peer')
}

function describe(key: string): string {
  const read = readKey(key)
  if (read === undefined) return 'a key too long to be kept as text'
  const words = read.parts.map(({ kind, value, org }) => {
    if (kind === 'none') return 'callers without one'
    return org === undefined ? `${kind} ${value}` : `${kind} ${value} of ${org}`
  })
  return `${words.join(', ')}${read.isPoll ? ' (task polls)' : ''}`
}

function callerOf({ user, org }: QuotaQuestion): Caller {
  const at = 0
  return {
    // A question names a user, so the peer is never read for its key.
    peer: {
      name: '',
      matched: '',
      certificate: {
        subject: '',
        issuer: '',
        serial: '',
        fingerprint256: '',
        commonName: undefined,
        uris: [],
        dnsNames: [],
        ips: [],
        notBeforeMs: at,
        notAfterMs: at,
        der: NO_BYTES,
        chain: [],
      },
    },
    user: {
      id: user,
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

const NO_BYTES = Buffer.alloc(0)

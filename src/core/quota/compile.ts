import type { QuotaConfig, QuotaKey } from '../../config/config.ts'
import { compileGlob, type Glob } from '../glob.ts'
import { policyItems, quoted } from './headers.ts'
import { MAX_LIMIT } from './window.ts'

/** All quotas of one generation, ready for use. Immutable. */
export interface CompiledQuotas {
  readonly quotas: readonly CompiledQuota[]
  /** Among how many sidecars each limit is divided. */
  readonly replicas: number
  /** What each quota meters of the methods we know; others are looked up as they come. */
  readonly coverage: ReadonlyMap<string, readonly Coverage[]>
}

export interface CompiledQuota {
  /** Place in `quotas`. */
  readonly index: number
  readonly name: string
  readonly key: readonly QuotaKey[]
  /** Quotas that agree in it across a reload are the same quota: what has been used stays used. */
  readonly identity: string
  readonly windows: readonly CompiledWindow[]
  readonly concurrent: number | undefined
  /** Undefined: every tool, and calls that name no tool. */
  readonly tools: readonly Glob[] | undefined
  /** Undefined: the default set, see `coverageOf`. */
  readonly methods: readonly Glob[] | undefined
  readonly costs: readonly { readonly tool: Glob; readonly weight: number }[]
  /** A single call never costs more than this, so that a share of a limit can still be used by a heavy call. */
  readonly maxCost: number
  /** Meters only calls that name a tool: the key or the match asks for one. */
  readonly needsTool: boolean
  /** Its items of `RateLimit-Policy`. */
  readonly policy: string
}

export interface CompiledWindow {
  /** Units for this sidecar: the configured limit, or its share of it. */
  readonly limit: number
  /** The configured limit. */
  readonly ceiling: number
  readonly perMs: number
  /** Its name in `RateLimit` and `RateLimit-Policy`, quoted. */
  readonly label: string
}

/**
 * What of a quota a method draws on: nothing, only a concurrency slot (streams), everything in the bucket of task
 * polls, or everything.
 */
export type Coverage = 'none' | 'slot' | 'poll' | 'call'

/**
 * @param quotas    The section of the configuration, validated.
 * @param replicas  Sidecars among which each limit is divided: each takes limit/replicas, rounded down, but never less
 *                  than one. Concurrency limits are divided in the same way.
 */
export function compileQuotas(quotas: readonly QuotaConfig[], replicas = 1): CompiledQuotas {
  const compiled = quotas.map((quota, index) => compileQuota(quota, index, Math.max(1, Math.floor(replicas))))
  return {
    quotas: compiled,
    replicas: Math.max(1, Math.floor(replicas)),
    coverage: new Map(KNOWN_METHODS.map(method => [method, compiled.map(quota => coverageOf(quota, method))])),
  }
}

function compileQuota(quota: QuotaConfig, index: number, replicas: number): CompiledQuota {
  const windows = quota.windows.map(({ limit, perMs }) => ({
    limit: share(limit, replicas),
    ceiling: limit,
    perMs,
    label: quoted(quota.windows.length === 1 ? quota.name : `${quota.name}-${duration(perMs)}`),
  }))
  const concurrent = quota.concurrent === undefined ? undefined : share(quota.concurrent, replicas)
  return {
    index,
    name: quota.name,
    key: quota.key,
    identity: JSON.stringify([quota.name, quota.key]),
    windows,
    concurrent,
    tools: quota.match.tools?.map(compileGlob),
    methods: quota.match.methods?.map(compileGlob),
    costs: quota.cost.map(({ tool, weight }) => ({ tool: compileGlob(tool), weight })),
    maxCost: windows.reduce((least, { limit }) => Math.min(least, limit), MAX_LIMIT),
    needsTool: quota.key.includes('tool') || quota.match.tools !== undefined,
    policy: policyItems(quota.name, windows, concurrent),
  }
}

/** What a quota meters of a method. `server/discover` is never metered: a refused probe silently demotes clients. */
export function coverageOf(quota: CompiledQuota, method: string): Coverage {
  if (method === 'server/discover' || method === '') return 'none'
  if (quota.methods !== undefined) return quota.methods.some(glob => glob(method)) ? 'call' : 'none'
  if (FREE.has(method)) return 'none'
  if (STREAMS.has(method)) return 'slot'
  return POLLS.has(method) ? 'poll' : 'call'
}

/** A problem in the section `quotas` that only shows when its parts are seen together. */
export interface QuotaProblem {
  /** As in `quotas[1].windows[0].limit`. */
  readonly path: string
  readonly message: string
}

/** What `check` says of quotas that are well-formed and still cannot do what was meant. */
export function quotaProblems(quotas: readonly QuotaConfig[]): QuotaProblem[] {
  const problems: QuotaProblem[] = []
  const names = new Map<string, number>()
  quotas.forEach((quota, index) => {
    const path = `quotas[${index}]`
    const twin = names.get(quota.name)
    if (twin !== undefined) problems.push({ path: `${path}.name`, message: `is also the name of quotas[${twin}]` })
    else names.set(quota.name, index)
    if (quota.windows.length === 0 && quota.concurrent === undefined) {
      problems.push({ path, message: 'limits nothing: give it windows, concurrent, or both' })
    }
    if (quota.key.length === 0) problems.push({ path: `${path}.key`, message: 'names nothing to count by' })
    const lengths = new Map<number, number>()
    quota.windows.forEach((window, at) => {
      const where = `${path}.windows[${at}]`
      const other = lengths.get(window.perMs)
      if (other !== undefined) problems.push({ path: `${where}.per`, message: `is as long as windows[${other}]` })
      else lengths.set(window.perMs, at)
      if (!Number.isInteger(window.limit) || window.limit < 1 || window.limit > MAX_LIMIT) {
        problems.push({ path: `${where}.limit`, message: `must be a whole number from 1 to ${MAX_LIMIT}` })
      }
      if (!Number.isInteger(window.perMs) || window.perMs < 1000 || window.perMs > MAX_WINDOW_MS) {
        problems.push({ path: `${where}.per`, message: 'must be whole milliseconds from 1s to 31 days' })
      }
      for (const { tool, weight } of quota.cost) {
        if (weight > window.limit) {
          problems.push({ path: `${path}.cost.${tool}`, message: `is more than a whole window of ${window.limit}` })
        }
      }
    })
    for (const { tool, weight } of quota.cost) {
      if (!Number.isInteger(weight) || weight < 0) {
        problems.push({ path: `${path}.cost.${tool}`, message: 'must be a whole number, 0 for free' })
      }
    }
    if (quota.match.methods?.includes('server/discover')) {
      problems.push({ path: `${path}.match.methods`, message: 'server/discover is never metered' })
    }
  })
  return problems
}

/** Windows are kept in memory only; a month is as long as that can be meant. */
const MAX_WINDOW_MS = 31 * 24 * 3_600_000

/** Handshake, housekeeping and lists: free unless a quota names them in `match.methods`. */
const FREE: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'session/end',
  'logging/setLevel',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/roots/list_changed',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'skills/list',
  'tasks/list',
])

/** What stays open: no units, but a slot of every concurrency quota. */
const STREAMS: ReadonlySet<string> = new Set(['stream/open', 'subscriptions/listen'])

/** Asking again and again is how tasks work, so it must not use up the quota for calls. */
const POLLS: ReadonlySet<string> = new Set(['tasks/get', 'tasks/result', 'tasks/cancel', 'tasks/update'])

const KNOWN_METHODS: readonly string[] = [
  '',
  'server/discover',
  ...FREE,
  ...STREAMS,
  ...POLLS,
  'tools/call',
  'prompts/get',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'resources/directory/read',
  'skills/get',
  'completion/complete',
]

function share(limit: number, replicas: number): number {
  return Math.max(1, Math.floor(limit / replicas))
}

function duration(ms: number): string {
  if (ms % 86_400_000 === 0) return `${ms / 86_400_000}d`
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000}h`
  if (ms % 60_000 === 0) return `${ms / 60_000}m`
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`
}

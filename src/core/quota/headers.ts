import type { CompiledQuotas, CompiledWindow } from './compile.ts'
import type { QuotaDecision } from './decision.ts'
import type { Demand } from './demand.ts'
import { isFirstOfQuota } from './first-of-quota.ts'
import type { QuotaReading } from './reading.ts'

/**
 * `RateLimit`, `RateLimit-Policy` and, for a refusal, `Retry-After`, as a flat list of names and values.
 * Empty for a call that no quota covers.
 *
 * `RateLimit-Policy` names every quota that covers the call, `RateLimit` the one window that is the tightest. Its `t`
 * is the time until that window is empty; for a refusal it is the time of `Retry-After`, as the draft asks.
 *
 * @param when    The setting `quotaHeaders`.
 * @source        draft-ietf-httpapi-ratelimit-headers-11 §3, §4; RFC 9651 (Lists of Strings with parameters); RFC 9110 §10.2.3.
 */
export function rateLimitHeaders(
  quotas: CompiledQuotas,
  demands: readonly Demand[],
  decision: QuotaDecision,
  when: 'always' | 'refused' | 'never',
): readonly string[] {
  if (decision.admitted) {
    if (when !== 'always' || decision.reading === undefined) return NONE
    return ['RateLimit', limitItem(quotas, decision.reading, undefined), 'RateLimit-Policy', policyOf(demands)]
  }
  const retryAfter = retryAfterSeconds(decision.refusal.retryAfterMs)
  // `never` is about the advertisement; a refused caller is still told when to come back.
  if (when === 'never' || decision.reading === undefined) return ['Retry-After', retryAfter]
  return [
    'Retry-After',
    retryAfter,
    'RateLimit',
    limitItem(quotas, decision.reading, retryAfter),
    'RateLimit-Policy',
    policyOf(demands),
  ]
}

/** Whole seconds, rounded up so that a retry at that time is not too early. */
export function retryAfterSeconds(retryAfterMs: number): string {
  return String(Math.max(1, Math.ceil(retryAfterMs / 1000)))
}

/** The items of one quota in `RateLimit-Policy`; made once when the quotas are compiled. */
export function policyItems(name: string, windows: readonly CompiledWindow[], concurrent: number | undefined): string {
  const items = windows.map(
    ({ label, limit, perMs }) => `${label};q=${limit};w=${Math.max(1, Math.ceil(perMs / 1000))}`,
  )
  if (concurrent !== undefined)
    items.push(`${quoted(concurrencyLabel(name, windows))};q=${concurrent};qu="concurrent-requests"`)
  return items.join(', ')
}

function policyOf(demands: readonly Demand[]): string {
  let value = demands[0]?.quota.policy ?? ''
  for (let i = 1; i < demands.length; i++) {
    if (isFirstOfQuota(demands, i)) value += `, ${demands[i]!.quota.policy}`
  }
  return value
}

function limitItem(quotas: CompiledQuotas, reading: QuotaReading, retryAfter: string | undefined): string {
  const label = labelOf(quotas, reading)
  const after = retryAfter ?? (reading.windowMs === 0 ? undefined : String(Math.ceil(reading.resetMs / 1000)))
  return after === undefined ? `${label};r=${reading.remaining}` : `${label};r=${reading.remaining};t=${after}`
}

function labelOf(quotas: CompiledQuotas, reading: QuotaReading): string {
  for (const quota of quotas.quotas) {
    if (quota.name !== reading.name) continue
    for (const window of quota.windows) if (window.perMs === reading.windowMs) return window.label
    return quoted(concurrencyLabel(quota.name, quota.windows))
  }
  // A call that was judged under quotas that are no longer there.
  return quoted(reading.name)
}

/** A quota that has windows and a concurrency limit needs two names: policies in one answer must differ. */
function concurrencyLabel(name: string, windows: readonly CompiledWindow[]): string {
  return windows.length === 0 ? name : `${name}-concurrent`
}

/** A String of RFC 9651: printable ASCII, with `"` and `\` escaped. */
export function quoted(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '_').replace(/["\\]/g, '\\$&')}"`
}

const NONE: readonly string[] = Object.freeze([])

import type { Refusal } from '../refusal.ts'

/** What a refusal knows beyond its reason, for the operator. */
export function refusalDetail(refusal: Refusal): string | undefined {
  if ('detail' in refusal) return refusal.detail
  switch (refusal.reason) {
    case 'peer_not_listed':
      return refusal.presented
    case 'peer_may_not_assert':
      return `${refusal.field}: ${refusal.value}`
    case 'user_header_ambiguous':
      return refusal.header
    case 'request_host_not_accepted':
      return refusal.host
    case 'request_origin_not_accepted':
      return refusal.origin
    case 'request_path_unknown':
      return refusal.path
    case 'quota_exhausted':
    case 'quota_concurrency':
      return `quota ${refusal.quota}, limit ${refusal.limit}`
    default:
      return undefined
  }
}

import type { Demand } from './demand.ts'

/** Whether no demand before this one is of the same quota: a batch may draw on one quota under several keys. */
export function isFirstOfQuota(demands: readonly Demand[], at: number): boolean {
  const { quota } = demands[at]!
  for (let i = 0; i < at; i++) if (demands[i]!.quota === quota) return false
  return true
}

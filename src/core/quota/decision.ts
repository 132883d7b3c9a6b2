import type { Refusal } from '../refusal.ts'
import type { QuotaReading } from './reading.ts'

/** What the quotas say of one call. A refused call has charged nothing anywhere and holds nothing. */
export type QuotaDecision =
  | {
      readonly admitted: true
      /** The tightest window after this call; undefined when no quota covers the call. */
      readonly reading: QuotaReading | undefined
      /** Concurrency slots to give back when the exchange closes; undefined when there are none. */
      readonly lease: QuotaLease | undefined
    }
  | {
      readonly admitted: false
      readonly refusal: Extract<Refusal, { reason: 'quota_exhausted' | 'quota_concurrency' | 'quota_store_down' }>
      /** The window that bites; undefined when the quotas could not be decided. */
      readonly reading: QuotaReading | undefined
    }

/** Slots that a call holds while it is in flight. */
export interface QuotaLease {
  /** Gives the slots back. Doing so twice is the same as once. */
  release(): void
}

/** The decision for a call that no quota covers. */
export const UNMETERED: QuotaDecision = Object.freeze({ admitted: true, reading: undefined, lease: undefined })

/** What the tightest quota says after a draw; goes into the audit line and the RateLimit headers. */
export interface QuotaReading {
  readonly name: string
  readonly limit: number
  readonly windowMs: number
  readonly remaining: number
  /** Ms until the window is empty again if nobody calls. */
  readonly resetMs: number
}

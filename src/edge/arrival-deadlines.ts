/** How long each part of a request may take, in ms. */
export interface ArrivalDeadlines {
  readonly bodyMs: number
  /** Until something that waits for the client has been taken, besides what the slowest of lines takes for it. */
  readonly readMs: number
  readonly readBytesPerMs: number
}

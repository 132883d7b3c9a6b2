import type { Exchange } from '../core/audit/exchange.ts'

/** Where a call leaves its trace: the audit line and the metrics, both made from the one `Exchange`. */
export interface Recorder {
  /** An event stream begins. `written` is called once the kernel has the line, on the same tick when it has it at once. */
  started(exchange: Exchange, written: () => void): void
  /** The exchange is over; called exactly once for each. `written` as above. */
  closed(exchange: Exchange, written: () => void): void
  /** Whether there is room for the lines of one more call; false after waiting in vain. */
  admit(): true | Promise<boolean>
}

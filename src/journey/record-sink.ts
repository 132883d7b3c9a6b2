import type { Exchange } from '../core/audit/exchange.ts'

/** Where the journey leaves what happened. One writer behind it keeps the order and knows what the kernel has. */
export interface RecordSink {
  /**
   * Asks for room for the lines of one call, before quota and forward. True: go on now. A promise: lines cannot be
   * written at the moment; it says within seconds whether there was room in time (false: refuse with `audit_blocked`).
   * Each true is given back by one `release()`, after the call's `record()`.
   */
  admit(): true | Promise<boolean>
  release(): void
  /** A line that a streamed answer begins (`mcp.started`), or that an event stream opens (`mcp.stream.open`). */
  begin(event: 'mcp.started' | 'mcp.stream.open', exchange: Exchange): void
  /**
   * The line, or the lines of a batch, of an exchange that has ended: `mcp.call`, `mcp.refused`, `mcp.stream.close`.
   *
   * @returns false for a refusal that is only counted, for a line that comes later: its answer has nothing to wait for.
   */
  record(exchange: Exchange): boolean
  /** True when the kernel has every line so far; else `then` is called once when it has, or when it never will. */
  written(then: () => void): boolean
}

import type { Exchange } from '../core/audit/exchange.ts'
import type { RecordSink } from './record-sink.ts'

/** Counts what has happened, from the same `Exchange` as the audit line. */
export interface ExchangeMeter {
  closed(exchange: Exchange): void
}

/**
 * Where a call leaves its trace. The one place where an exchange is closed: the line is written, the metrics move, and
 * the room for its lines is given back, whatever happened.
 */
export class ExchangeBook {
  readonly #sink: RecordSink
  readonly #meter: ExchangeMeter

  constructor(sink: RecordSink, meter: ExchangeMeter) {
    this.#sink = sink
    this.#meter = meter
  }

  /** Whether there is room for the lines of this call; false after waiting in vain. */
  admit(exchange: Exchange): true | Promise<boolean> {
    const admitted = this.#sink.admit()
    if (admitted === true) {
      exchange.hasRoom = true
      return true
    }
    return admitted.then(late => {
      exchange.hasRoom = late
      return late
    })
  }

  /** An event stream begins. `written` is called once the kernel has the line, on the same tick when it has it at once. */
  started(exchange: Exchange, written: () => void): void {
    this.#sink.begin(exchange.httpMethod === 'GET' ? 'mcp.stream.open' : 'mcp.started', exchange)
    if (this.#sink.written(written)) written()
  }

  /** The exchange is over; called exactly once for each. `written` as above. */
  closed(exchange: Exchange, written: () => void): void {
    const isWritten = this.#sink.record(exchange)
    this.#meter.closed(exchange)
    if (exchange.hasRoom === true) this.#sink.release()
    // Else a call that is refused because nobody takes lines would wait for somebody to take them.
    if (!isWritten || this.#sink.written(written)) written()
  }
}

import { type Fault, hasControl } from './field-lines.ts'

/** A head or a line as text, one character for each byte, and where in the chunk the next thing begins. */
export interface Taken {
  readonly text: string
  readonly next: number
}

const HEAD_END = Buffer.from('\r\n\r\n', 'latin1')
const CR = 0x0d
const LF = 0x0a
const EMPTY = Buffer.alloc(0)

/**
 * Takes heads and lines out of chunks that end anywhere. What has not ended yet is held; the space for it grows by
 * doubling, so that a head which drips byte by byte costs linear time. With what is taken it goes: a connection may live
 * for days, and would keep the space of its largest head.
 */
export class HeldBytes {
  #held: Buffer = EMPTY
  #bytes = 0

  clear(): void {
    this.#held = EMPTY
    this.#bytes = 0
  }

  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  /**
   * The head that ends in this chunk, without its empty line; undefined while it goes on.
   *
   * @param limit  Most bytes of a head, the empty line apart; one that is larger gives `tooLarge`.
   */
  takeHead(chunk: Buffer, at: number, limit: number, tooLarge: Fault): Taken | Fault | undefined {
    const before = this.#bytes
    const most = limit + HEAD_END.length
    if (before === 0) {
      const end = chunk.indexOf(HEAD_END, at)
      if (end < 0) return chunk.length - at >= most ? tooLarge : this.#hold(chunk, at, chunk.length)
      return end - at > limit ? tooLarge : { text: chunk.toString('latin1', at, end), next: end + 4 }
    }
    this.#hold(chunk, at, Math.min(chunk.length, at + most))
    const held = this.#held.subarray(0, this.#bytes)
    const end = held.indexOf(HEAD_END, Math.max(0, before - 3))
    if (end < 0) return held.length >= most ? tooLarge : undefined
    if (end > limit) return tooLarge
    this.clear()
    return { text: held.toString('latin1', 0, end), next: at + end + 4 - before }
  }

  /** The line that ends in this chunk, without CRLF; undefined while it goes on. */
  takeLine(chunk: Buffer, at: number, limit: number): Taken | Fault | undefined {
    const lf = chunk.indexOf(LF, at)
    const stop = lf < 0 ? chunk.length : lf
    if (this.#bytes + stop - at > limit) return 'chunk line too long'
    if (lf < 0) return this.#hold(chunk, at, stop)
    let line = chunk.subarray(at, lf)
    if (this.#bytes > 0) {
      this.#hold(chunk, at, lf)
      line = this.#held.subarray(0, this.#bytes)
      this.clear()
    }
    if (line.length === 0 || line[line.length - 1] !== CR) return 'line ends without CR'
    const text = line.toString('latin1', 0, line.length - 1)
    if (hasControl(text)) return 'control character in a chunk line'
    return { text, next: lf + 1 }
  }

  #hold(chunk: Buffer, from: number, to: number): undefined {
    const needed = this.#bytes + to - from
    if (this.#held.length < needed) {
      const larger = Buffer.allocUnsafeSlow(Math.max(512, needed, this.#held.length * 2))
      this.#held.copy(larger, 0, 0, this.#bytes)
      this.#held = larger
    }
    chunk.copy(this.#held, this.#bytes, from, to)
    this.#bytes = needed
  }
}

import { type Fault, isToken } from './field-lines.ts'
import { HeldBytes } from './held-bytes.ts'

const CHUNK_LINE_LIMIT = 256
const TRAILER_LIMIT = 64 * 1024

/** A size and, passed over, extensions of it (RFC 9112 §7.1.1), without the white space that senders must not make. */
const CHUNK_LINE =
  /^([0-9a-fA-F]{1,12})(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*$/
/** RFC 9110 §6.5.1. */
const FRAMING = /^(?:content-length|transfer-encoding|trailer|host):/i

const State = { length: 0, chunkSize: 1, chunkData: 2, chunkEnd: 3, trailer: 4, done: 5 } as const
type State = (typeof State)[keyof typeof State]

/** Reads a body whose end its message says, in either framing. @source RFC 9112 §6.2, §7.1 */
export class BodyReader {
  #state: State = State.done
  #left = 0
  #trailerBytes = 0
  readonly #held = new HeldBytes()

  /** @param length  Bytes as Content-Length says; −1 for chunks. */
  begin(length: number): void {
    this.#held.clear()
    this.#trailerBytes = 0
    this.#left = Math.max(0, length)
    this.#state = length < 0 ? State.chunkSize : length === 0 ? State.done : State.length
  }

  /** All of it has been read. */
  get done(): boolean {
    return this.#state === State.done
  }

  /** @returns where in the chunk the body ends or goes on, or what is wrong. Stops at the body's end, see `done`. */
  feed(chunk: Buffer, from: number, parts: { data(piece: Buffer): void }): number | Fault {
    let at = from
    while (at < chunk.length && this.#state !== State.done) {
      if (this.#state === State.length || this.#state === State.chunkData) {
        const take = Math.min(this.#left, chunk.length - at)
        this.#left -= take
        const piece = at === 0 && take === chunk.length ? chunk : chunk.subarray(at, at + take)
        at += take
        if (this.#left === 0) this.#state = this.#state === State.length ? State.done : State.chunkEnd
        parts.data(piece)
        continue
      }
      const line = this.#held.takeLine(chunk, at, this.#state === State.trailer ? TRAILER_LIMIT : CHUNK_LINE_LIMIT)
      if (line === undefined) return chunk.length
      if (typeof line === 'string') return line
      at = line.next
      const fault = this.#readLine(line.text)
      if (fault !== undefined) return fault
    }
    return at
  }

  #readLine(line: string): Fault | undefined {
    switch (this.#state) {
      case State.chunkSize: {
        const size = CHUNK_LINE.exec(line)
        if (size === null) return 'chunk size is not a hexadecimal number'
        this.#left = Number.parseInt(size[1] as string, 16)
        this.#state = this.#left === 0 ? State.trailer : State.chunkData
        return undefined
      }
      case State.chunkEnd:
        if (line !== '') return 'chunk does not end where its size says'
        this.#state = State.chunkSize
        return undefined
      default:
        // Trailers are read past and dropped: nothing may take a field from behind the body for a header.
        if (line === '') {
          this.#state = State.done
          return undefined
        }
        if (!isToken(line, 0, line.indexOf(':'))) return 'trailer line without a name'
        if (FRAMING.test(line)) return 'framing in a trailer'
        this.#trailerBytes += line.length
        return this.#trailerBytes > TRAILER_LIMIT ? 'trailers too large' : undefined
    }
  }
}

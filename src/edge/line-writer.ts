import type { Writable } from 'node:stream'

/**
 * The one writer of a stream, which knows what the kernel has. Lines are ASCII, so characters are bytes.
 *
 * Lines of one turn of the event loop are one write: under load several calls end in a turn, and the answers that wait
 * for their lines are sent right after it. On a pipe or a socket Node hands a write to the kernel at once when there is
 * room, and keeps the rest without blocking; a file or a terminal is written synchronously. *Blocked* is more than
 * 256 KiB, or anything for 250 ms, that the kernel has not taken; it ends when the kernel takes again and at most 64 KiB
 * wait.
 */
export class LineWriter {
  readonly #stream: Writable
  readonly #changed: () => void
  /** Lines of this turn, which the stream does not have yet. */
  #turn = ''
  /** Lines so far, and how many of them, from the first, the kernel has. */
  #issued = 0
  #acknowledged = 0
  /** What `#issued` was at each write whose callback is still to come. */
  readonly #marks: number[] = []
  #blocked = false
  #failure: Error | undefined
  #watch: NodeJS.Timeout | undefined
  #watchedFrom = 0
  readonly #waiting: { mark: number; goOn: () => void }[] = []
  readonly #onTurn = (): void => this.#flush()
  readonly #onAcknowledged = (error?: Error | null): void => this.#acknowledge(error)
  readonly #onWatch = (): void => this.#lookAgain()
  readonly #onError = (error: Error): void => this.#fail(error)
  readonly #onClose = (): void => this.#fail(new Error('the stream was closed'))

  /** @param changed  Called whenever `blocked` or `failure` has changed. */
  constructor(stream: Writable, changed: () => void) {
    this.#stream = stream
    this.#changed = changed
    stream.on('error', this.#onError)
    stream.on('close', this.#onClose)
  }

  get blocked(): boolean {
    return this.#blocked
  }

  /** Why no line will ever be written again; `EPIPE` when the reader is gone. */
  get failure(): Error | undefined {
    return this.#failure
  }

  get pendingBytes(): number {
    return this.#failure === undefined ? this.#stream.writableLength + this.#turn.length : 0
  }

  /** Lines that were given to `write` and that the kernel does not have. */
  get pendingLines(): number {
    return this.#issued - this.#acknowledged
  }

  write(line: string): void {
    this.#issued += 1
    if (this.#failure !== undefined) return
    if (this.#turn === '') setImmediate(this.#onTurn)
    this.#turn += line
    if (this.#turn.length >= ONE_WRITE_BYTES) this.#flush()
  }

  /** True when the kernel has every line so far; else `then` is called when it has, or when it never will. */
  written(then: () => void): boolean {
    if (this.#acknowledged === this.#issued || this.#failure !== undefined) return true
    this.#waiting.push({ mark: this.#issued, goOn: then })
    return false
  }

  /** Lets everyone who waits for the kernel go on without it. */
  releaseWaiting(): void {
    for (const { goOn } of this.#waiting.splice(0)) goOn()
  }

  /** Stops watching; the stream itself is left open, for it is not ours. */
  detach(): void {
    clearTimeout(this.#watch)
    this.#stream.off('close', this.#onClose)
    // The listener for errors stays: an error of stdout after the end must not become an exception.
  }

  #flush(): void {
    const lines = this.#turn
    if (lines === '' || this.#failure !== undefined) return
    this.#turn = ''
    this.#marks.push(this.#issued)
    this.#stream.write(lines, 'latin1', this.#onAcknowledged)
    const waiting = this.#stream.writableLength
    if (waiting === 0) return this.#advance(this.#issued)
    if (waiting > MAX_WAITING_BYTES) this.#block(true)
    if (this.#watch === undefined) this.#startWatch()
  }

  /** The kernel has this many lines: whoever has waited for one of them may go on. */
  #advance(acknowledged: number): void {
    this.#acknowledged = acknowledged
    let count = 0
    while ((this.#waiting[count]?.mark ?? Number.POSITIVE_INFINITY) <= acknowledged) count++
    // Those that go on may write lines again, and wait for them.
    for (const { goOn } of this.#waiting.splice(0, count)) goOn()
  }

  #acknowledge(error: Error | null | undefined): void {
    const mark = this.#marks.shift() ?? 0
    if (error) return this.#fail(error)
    if (mark > this.#acknowledged) this.#advance(mark)
    if (this.#blocked && this.#stream.writableLength <= RESUME_BELOW_BYTES) this.#block(false)
  }

  #startWatch(): void {
    this.#watchedFrom = this.#issued
    this.#watch = setTimeout(this.#onWatch, MAX_WAITING_MS)
    this.#watch.unref()
  }

  #lookAgain(): void {
    this.#watch = undefined
    if (this.#failure !== undefined || this.#acknowledged === this.#issued) return
    if (this.#acknowledged < this.#watchedFrom) this.#block(true)
    this.#startWatch()
  }

  #block(blocked: boolean): void {
    if (this.#blocked === blocked) return
    this.#blocked = blocked
    this.#changed()
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#turn = ''
    this.#blocked = true
    clearTimeout(this.#watch)
    this.releaseWaiting()
    this.#changed()
  }
}

export const MAX_WAITING_BYTES = 256 * 1024
/** Lines are not gathered beyond this; what a pipe holds by default. */
const ONE_WRITE_BYTES = 64 * 1024
const RESUME_BELOW_BYTES = 64 * 1024
const MAX_WAITING_MS = 250

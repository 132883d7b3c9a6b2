import type { Writable } from 'node:stream'

/**
 * The one writer of a stream, which knows what the kernel has. Lines are ASCII, so characters are bytes.
 *
 * On a pipe or a socket Node hands a line to the kernel within `write` when there is room, and keeps the rest without
 * blocking; a file or a terminal is written synchronously. *Blocked* is more than 256 KiB, or anything for 250 ms, that
 * the kernel has not taken; it ends when the kernel takes again and at most 64 KiB wait.
 */
export class LineWriter {
  readonly #stream: Writable
  readonly #changed: () => void
  /** Lines given to the stream, and how many of them, from the first, the kernel has. */
  #issued = 0
  #acknowledged = 0
  #calledBack = 0
  #blocked = false
  #failure: Error | undefined
  #watch: NodeJS.Timeout | undefined
  #watchedFrom = 0
  readonly #waiting: { mark: number; goOn: () => void }[] = []
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
    return this.#failure === undefined ? this.#stream.writableLength : 0
  }

  /** Lines that were given to `write` and that the kernel does not have. */
  get pendingLines(): number {
    return this.#issued - this.#acknowledged
  }

  write(line: string): void {
    this.#issued += 1
    if (this.#failure !== undefined) return
    this.#stream.write(line, 'latin1', this.#onAcknowledged)
    const waiting = this.#stream.writableLength
    if (waiting === 0) {
      this.#acknowledged = this.#issued
      return
    }
    if (waiting > MAX_WAITING_BYTES) this.#block(true)
    if (this.#watch === undefined) this.#startWatch()
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

  #acknowledge(error: Error | null | undefined): void {
    this.#calledBack += 1
    if (error) return this.#fail(error)
    if (this.#calledBack > this.#acknowledged) this.#acknowledged = this.#calledBack
    while (this.#waiting.length > 0 && (this.#waiting[0]?.mark ?? 0) <= this.#acknowledged)
      this.#waiting.shift()?.goOn()
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
    this.#blocked = true
    clearTimeout(this.#watch)
    this.releaseWaiting()
    this.#changed()
  }
}

export const MAX_WAITING_BYTES = 256 * 1024
const RESUME_BELOW_BYTES = 64 * 1024
const MAX_WAITING_MS = 250

import { totalmem } from 'node:os'

/**
 * How many bytes of large bodies are here at a time, of all calls together. Each costs about twice its size and is kept
 * until its call is over, since the audit line tells of its arguments: a few dozen slow calls with as much as
 * `limits.body` allows would take more memory than the container has, and the kernel would end everybody's calls.
 *
 * Small bodies need no room, so that whoever fills it keeps nobody out but others with large ones.
 */
export class BodyRoom {
  #left: number

  constructor(bytes: number) {
    this.#left = bytes
  }

  /** @returns false when there is not so much left; nothing is taken then. */
  take(bytes: number): boolean {
    if (bytes > this.#left) return false
    this.#left -= bytes
    return true
  }

  giveBack(bytes: number): void {
    this.#left += bytes
  }
}

/** Bodies of up to so many bytes need no room. */
export const SMALL_BODY = 8 * 1024

/** An eighth of the memory that there is, and never less than one body. */
export function roomForBodies(mostOfOne: number): BodyRoom {
  // Without a limit the kernel says a number beyond all memory.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY
  return new BodyRoom(Math.max(mostOfOne, Math.min(limit, totalmem()) / 8))
}

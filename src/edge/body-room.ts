import { totalmem } from 'node:os'

/**
 * How many bytes of bodies that are not small are here at a time, of all calls together. Each costs about twice its size
 * and is kept until its call is over, since the audit line tells of its arguments: a few dozen slow calls with as much as
 * `limits.body` allows would take more memory than the container has, and the kernel would end everybody's calls.
 *
 * Small bodies need no room, and a quarter is kept for those that are not large: whoever fills it with a few large ones
 * keeps out nobody but others with large ones.
 */
export class BodyRoom {
  readonly #notForLarge: number
  #left: number

  constructor(bytes: number) {
    this.#left = bytes
    this.#notForLarge = bytes / 4
  }

  /**
   * Makes room for the next bytes of a body.
   *
   * @param ofBytes  All that has come of it, with these.
   * @returns        False when there is not so much left; nothing is taken then.
   */
  take(bytes: number, ofBytes: number): boolean {
    if (bytes > this.#left - (ofBytes > LARGE_BODY ? this.#notForLarge : 0)) return false
    this.#left -= bytes
    return true
  }

  giveBack(bytes: number): void {
    this.#left += bytes
  }
}

/** Bodies of up to so many bytes need no room. */
export const SMALL_BODY = 8 * 1024
const LARGE_BODY = 64 * 1024

/** An eighth of the memory that there is, and never too little for one body. */
export function roomForBodies(mostOfOne: number): BodyRoom {
  // Without a limit the kernel says a number beyond all memory.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY
  return new BodyRoom(Math.max((mostOfOne * 4) / 3, Math.min(limit, totalmem()) / 8))
}

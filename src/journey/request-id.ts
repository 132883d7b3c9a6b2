import { randomFillSync } from 'node:crypto'

const ID_BYTES = 16
/** As many at once as make the way to the random source cheap. */
const drawn = Buffer.alloc(ID_BYTES * 256)
let at = drawn.length

/** 128 random bits in hexadecimal, as long as a trace id: one flat string, for it goes into several others. */
export function newRequestId(): string {
  if (at === drawn.length) {
    randomFillSync(drawn)
    at = 0
  }
  at += ID_BYTES
  return drawn.toString('hex', at - ID_BYTES, at)
}

/** What the chain needs of a line, read from its two fixed ends without parsing what is between them. */
export interface ChainedLine {
  readonly event: string
  readonly seq: number
  readonly id: string
  readonly prev: string
  readonly hash: string
  /** How many bytes, from the first, the hash covers. */
  readonly hashedBytes: number
}

/** Reads a line without its line feed, or says why it is no chained audit line. */
export function readChained(bytes: Buffer): ChainedLine | string {
  const head = HEAD.exec(bytes.toString('latin1', 0, 128))
  if (head === null) return 'not an audit line'
  const tail = bytes.toString('latin1', Math.max(0, bytes.length - TAIL_BYTES))
  const seqAt = tail.lastIndexOf(',"seq":')
  // From the end, everything but seq and id has a fixed length: a search by expression would cost more than the hash.
  const hashAt = tail.length - CLOSE.length - 64
  const prevAt = hashAt - BETWEEN.length - 64
  const hash = tail.slice(hashAt, hashAt + 64)
  const prev = tail.slice(prevAt, prevAt + 64)
  const front = seqAt < 0 || seqAt > prevAt ? null : SEQ_AND_ID.exec(tail.slice(seqAt, prevAt))
  const isFramed = tail.endsWith(CLOSE) && tail.startsWith(BETWEEN, prevAt + 64)
  if (front === null || !isFramed || !HASH.test(hash) || !HASH.test(prev)) {
    return 'an audit line without a whole chain member at its end: cut off, or changed'
  }
  return {
    event: head[1] as string,
    seq: Number(front[1]),
    id: front[2] as string,
    prev,
    hash,
    hashedBytes: bytes.length - HASH_MEMBER_BYTES,
  }
}

const HEAD = /^\{"timestamp":"[^"\\]{20,40}","kind":"audit","event":"([a-z.]+)"/
const SEQ_AND_ID = /^,"seq":(\d{1,16}),"chain":\{"id":"([A-Za-z0-9._-]{1,64})","prev":"$/
const HASH = /^[0-9a-f]{64}$/
const BETWEEN = '","hash":"'
const CLOSE = '"}}'
// The quote that ends `prev` is hashed as well.
const HASH_MEMBER_BYTES = BETWEEN.length - 1 + 64 + CLOSE.length
const TAIL_BYTES = 320

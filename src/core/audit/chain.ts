import { hash } from 'node:crypto'

/**
 * The hash chain through the audit lines of one process.
 *
 * A line ends with `,"seq":N,"chain":{"id":"…","prev":"…","hash":"…"}}`. What is hashed is every byte of the line before
 * `,"hash":`, so the content, the number and the hash of the line before; that one is 64 zeros for the first line, whose
 * `seq` is 1. Anyone can recompute a hash with no more than this:
 *
 *     sed -E 's/,"hash":"[0-9a-f]{64}"}}$//' line.json | tr -d '\n' | sha256sum
 *
 * Without a key this shows accidents and edits; a forger who rewrites everything after his edit is shown only by a
 * signed checkpoint or by a `seq` or hash that was noted elsewhere (`mcp_sidecar_audit_last_seq`).
 */
export class Chain {
  readonly id: string
  readonly #opening: string
  #seq = 0
  #last = GENESIS

  /** @param id  Names the chain: random, `[A-Za-z0-9._-]{1,64}`, new for each start of the process. */
  constructor(id: string) {
    this.id = id
    this.#opening = `,"chain":{"id":"${id}","prev":"`
  }

  /** Sequence number of the last line; 0 before the first. */
  get seq(): number {
    return this.#seq
  }

  /** Hash of the last line, lower-case hex. */
  get last(): string {
    return this.#last
  }

  /**
   * Makes a draft the next line of the chain.
   *
   * @param draft  A JSON object in ASCII without its closing brace.
   * @returns      The finished line, line feed included, at most `SEAL_BYTES` longer than the draft.
   */
  seal(draft: string): string {
    this.#seq += 1
    const content = `${draft},"seq":${this.#seq}${this.#opening}${this.#last}"`
    this.#last = hash('sha256', content, 'hex')
    return `${content},"hash":"${this.#last}"}}\n`
  }
}

/** Numbers lines without chaining them, for `audit.chain: false`. */
export class Counter {
  #seq = 0
  get seq(): number {
    return this.#seq
  }

  seal(draft: string): string {
    this.#seq += 1
    return `${draft},"seq":${this.#seq}}\n`
  }
}

export const GENESIS = '0'.repeat(64)

/** What sealing adds to a draft at most: seq, a chain id of 64 characters, two hashes, their names, the line feed. */
export const SEAL_BYTES = 280

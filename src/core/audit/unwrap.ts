/**
 * Takes off what container runtimes put around a line of stdout: the prefix of CRI (containerd, CRI-O), the JSON of
 * Docker's json-file driver, and the splitting of long lines that both do. One for each file.
 *
 * @source Kubernetes CRI logging: `<RFC 3339> <stdout|stderr> <P|F>[:tag] <text>`, P for a piece, F for the last one;
 *         Docker json-file: `{"log":"…\n","stream":"stdout","time":"…"}`, where a piece has no line feed.
 */
export class Unwrapper {
  #pieces: Buffer[] = []
  #piecesFrom = 0

  /**
   * @param raw     One line of the file without its line feed; used until the next call only.
   * @param number  Its number, 1 for the first.
   */
  unwrap(raw: Buffer, number: number): Unwrapped {
    if (raw.length > 0 && raw[0] !== BRACE) return this.#cri(raw, number)
    if (raw.length > DOCKER.length && raw.toString('latin1', 0, DOCKER.length) === DOCKER)
      return this.#docker(raw, number)
    return { kind: 'line', bytes: raw, number }
  }

  /** A piece that no last piece followed. */
  end(): { from: number } | undefined {
    return this.#pieces.length === 0 ? undefined : { from: this.#piecesFrom }
  }

  #cri(raw: Buffer, number: number): Unwrapped {
    const head = CRI.exec(raw.toString('latin1', 0, 96))
    if (head === null) return { kind: 'line', bytes: raw, number }
    const [prefix, stream, tag] = head as unknown as [string, string, string]
    if (stream !== 'stdout') return { kind: 'skip' }
    return this.#piece(raw.subarray(prefix.length), tag === 'P', number)
  }

  #docker(raw: Buffer, number: number): Unwrapped {
    let entry: { log?: unknown; stream?: unknown }
    try {
      entry = JSON.parse(raw.toString('utf8'))
    } catch {
      return { kind: 'line', bytes: raw, number }
    }
    if (typeof entry.log !== 'string') return { kind: 'line', bytes: raw, number }
    if (entry.stream !== undefined && entry.stream !== 'stdout') return { kind: 'skip' }
    const isPiece = !entry.log.endsWith('\n')
    return this.#piece(Buffer.from(isPiece ? entry.log : entry.log.slice(0, -1)), isPiece, number)
  }

  #piece(bytes: Buffer, isPiece: boolean, number: number): Unwrapped {
    if (!isPiece && this.#pieces.length === 0) return { kind: 'line', bytes, number }
    if (this.#pieces.length === 0) this.#piecesFrom = number
    this.#pieces.push(Buffer.from(bytes))
    // A line that never ends is no line: what was gathered is handed on, to be reported.
    if (isPiece && this.#pieces.length < MAX_PIECES) return { kind: 'skip' }
    const whole = Buffer.concat(this.#pieces)
    this.#pieces = []
    return { kind: 'line', bytes: whole, number: this.#piecesFrom }
  }
}

export type Unwrapped =
  | { readonly kind: 'skip' }
  /** `number`: the line of the file where it begins. */
  | { readonly kind: 'line'; readonly bytes: Buffer; readonly number: number }

const BRACE = 0x7b
const DOCKER = '{"log":"'
const CRI = /^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([PF])(?::\S*)? /
const MAX_PIECES = 4096

import { hash } from 'node:crypto'
import { GENESIS } from './chain.ts'
import { type ChainedLine, readChained } from './chained-line.ts'
import { type CheckpointClaim, verifyCheckpoint } from './checkpoint.ts'
import { Missing } from './missing.ts'
import type { Place, Problem, ProblemKind, Report, VerifyOptions } from './verify-report.ts'

/**
 * Holds audit lines against their chains, one line after the other in the order of the files.
 *
 * Each line is hashed again, compared with the hash it claims, and with the `prev` of the line that follows; numbers
 * must follow each other; a chain begins with its genesis (`sidecar.started`) and ends with its closing line
 * (`sidecar.stopped`). Several chains, one for each start of the process, may follow each other or be interleaved.
 */
export class Verifier {
  readonly #options: VerifyOptions
  readonly #chains = new Map<string, ChainState>()
  readonly #problems: Problem[] = []
  #problemCount = 0
  #lines = 0
  #foreign = 0

  constructor(options: VerifyOptions) {
    this.#options = options
  }

  /** @param bytes  One line without its line feed and without what a container runtime put around it. */
  line(bytes: Buffer, place: Place): void {
    if (bytes.length === 0) return this.#foreignLine(place, 'an empty line')
    const line = readChained(bytes)
    if (typeof line === 'string') return this.#foreignLine(place, line)
    this.#lines += 1

    const state = this.#chains.get(line.id)
    const actual = hash('sha256', bytes.subarray(0, line.hashedBytes), 'hex')
    const intact = actual === line.hash
    if (!intact)
      this.#report('edited', place, `line ${line.seq} of the chain was changed: its content does not give its hash`)
    if (state === undefined) this.#first(line, place)
    else if (!intact && line.prev === state.lastHash) {
      // A changed line that stands where it belongs: only its content is in doubt, whatever number it gives itself.
      advance(state, state.lastSeq + 1, line, place)
    } else this.#next(state, line, place, intact)
    this.#note(this.#chains.get(line.id) as ChainState, line, bytes, place, intact)
  }

  /** Something is wrong with the file itself: a piece of a line without its end, a last line without a line feed. */
  broken(place: Place, what: string): void {
    this.#report('cut', place, what)
  }

  end(): Report {
    for (const state of this.#chains.values()) this.#endOfChain(state)
    if (this.#chains.size === 0) {
      this.#report('empty', { file: this.#options.firstFile, line: 0 }, 'there is no chained audit line at all')
    }
    this.#problems.sort((a, b) => a.order - b.order)
    const chains = [...this.#chains.values()].map(state => ({
      id: state.id,
      first: state.firstSeq,
      last: state.lastSeq,
      lastHash: state.lastHash,
      closed: state.closed,
      checkpoints: state.checkpoints,
      signed: state.signedUpTo,
      signingKey: state.signingKey,
      dropped: state.dropped,
    }))
    return {
      lines: this.#lines,
      foreign: this.#foreign,
      chains,
      problems: this.#problems,
      problemCount: this.#problemCount,
    }
  }

  #first(line: ChainedLine, place: Place): void {
    const { from } = this.#options
    const state: ChainState = {
      id: line.id,
      firstSeq: line.seq,
      lastSeq: line.seq,
      lastHash: line.hash,
      lastPlace: place,
      missing: new Missing(),
      closed: false,
      checkpoints: 0,
      signedUpTo: 0,
      signingKey: undefined,
      dropped: 0,
      recent: new Map(),
    }
    this.#chains.set(line.id, state)
    if (line.seq === 1) {
      if (line.prev !== GENESIS) this.#report('genesis', place, 'the first line of a chain refers to a line before it')
      if (line.event !== 'sidecar.started')
        this.#report('genesis', place, 'the first line of a chain is not sidecar.started')
      return
    }
    // The head of the first chain may have been rotated away; then its hash must be known from elsewhere.
    if (from !== undefined && this.#chains.size === 1) {
      if (line.prev !== from)
        this.#report('head', place, `the line before this one had the hash ${line.prev}, not the one given with --from`)
      return
    }
    this.#report('head', place, `the chain begins with line ${line.seq}: lines 1 to ${line.seq - 1} are missing`)
    state.missing.add(1, line.seq - 1)
  }

  #next(state: ChainState, line: ChainedLine, place: Place, intact: boolean): void {
    const expected = state.lastSeq + 1
    if (state.closed && line.event !== 'audit.checkpoint') {
      this.#report('after-close', place, `line ${line.seq} comes after the closing line of its chain`)
    }
    if (line.seq === expected) {
      if (line.prev !== state.lastHash) {
        this.#report(
          'rechained',
          place,
          `line ${line.seq} does not follow line ${state.lastSeq} (${at(state.lastPlace)}): one of the two was replaced or hashed anew`,
        )
      }
    } else if (line.seq > expected) {
      state.missing.add(expected, line.seq - 1)
      state.missing.placeOf(expected, place)
    } else if (state.recent.get(line.seq) === line.hash && intact) {
      this.#report('duplicate', place, `line ${line.seq} stands here a second time`)
      return
    } else if (state.missing.take(line.seq)) {
      this.#report('reordered', place, `line ${line.seq} comes after line ${state.lastSeq}`)
      return
    } else {
      this.#report('inserted', place, `a second line ${line.seq}: line ${state.lastSeq} came before it`)
      return
    }
    advance(state, line.seq, line, place)
  }

  /** What a line says about its chain. */
  #note(state: ChainState, line: ChainedLine, bytes: Buffer, place: Place, intact: boolean): void {
    remember(state, line)
    switch (line.event) {
      case 'sidecar.started': {
        if (line.seq !== 1)
          this.#report('genesis', place, `sidecar.started is line ${line.seq}; it can only be the first`)
        const started = member(bytes, 'started')
        if (typeof started?.signingKey === 'string') state.signingKey = started.signingKey
        break
      }
      case 'sidecar.stopped': {
        state.closed = true
        const records = member(bytes, 'stopped')?.records
        if (intact && typeof records === 'number' && records !== line.seq - 1) {
          this.#report(
            'count',
            place,
            `the closing line counts ${records} lines before it, its number says ${line.seq - 1}`,
          )
        }
        break
      }
      case 'audit.gap': {
        const count = COUNT.exec(bytes.toString('latin1'))
        state.dropped += Number(count?.[1] ?? 0)
        break
      }
      case 'audit.checkpoint':
        this.#checkpoint(state, member(bytes, 'checkpoint'), line, place)
        break
      default:
    }
  }

  #checkpoint(state: ChainState, claim: Record<string, unknown> | undefined, line: ChainedLine, place: Place): void {
    state.checkpoints += 1
    const { seq, hash: signedHash, signature } = (claim ?? {}) as Partial<CheckpointClaim>
    if (typeof seq !== 'number' || typeof signedHash !== 'string' || typeof signature !== 'string' || seq >= line.seq) {
      return this.#report('checkpoint', place, 'a checkpoint that does not say what it signs')
    }
    const now = state.recent.get(seq)
    if (now !== undefined && now !== signedHash) {
      this.#report(
        'forged',
        place,
        `the checkpoint was made for another line ${seq}: what is before it was written anew`,
      )
    }
    const { key } = this.#options
    if (key === undefined) return
    const verdict = verifyCheckpoint({ seq, hash: signedHash, signature }, state.id, key)
    if (verdict !== undefined) return this.#report('signature', place, `checkpoint over line ${seq}: ${verdict}`)
    if (now === undefined && seq >= state.firstSeq) {
      this.#report('forged', place, `the checkpoint signs line ${seq}, which is not there or not where it can be`)
    }
    if (now === signedHash) state.signedUpTo = Math.max(state.signedUpTo, seq)
  }

  #endOfChain(state: ChainState): void {
    const { key, lastSeq } = this.#options
    for (const { from, to, place } of state.missing.ranges()) {
      // What is missing at the head has been reported where the chain begins.
      if (from < state.firstSeq) continue
      const lines = from === to ? `line ${from} is` : `lines ${from} to ${to} are`
      this.#report('gap', place ?? state.lastPlace, `${lines} missing`)
    }
    const isLast = state === [...this.#chains.values()].at(-1)
    if (!state.closed && !(this.#options.open && isLast)) {
      this.#report(
        'truncated',
        state.lastPlace,
        `the chain ends with line ${state.lastSeq}, which is no closing line: what came after it is missing, or the process was killed`,
      )
    }
    if (lastSeq !== undefined && isLast && state.lastSeq < lastSeq) {
      this.#report(
        'truncated',
        state.lastPlace,
        `the chain ends with line ${state.lastSeq}, but line ${lastSeq} was written`,
      )
    }
    if (key === undefined) return
    if (state.checkpoints === 0 && !(this.#options.open && isLast)) {
      this.#report('unsigned', state.lastPlace, `no checkpoint signs the chain ${state.id}`)
    } else if (state.closed && state.checkpoints > 0 && state.signedUpTo < state.lastSeq - 1) {
      this.#report('unsigned', state.lastPlace, `lines after ${state.signedUpTo} are not covered by a good signature`)
    }
  }

  #foreignLine(place: Place, what: string): void {
    this.#foreign += 1
    this.#report('foreign', place, what)
  }

  #report(kind: ProblemKind, place: Place, message: string): void {
    this.#problemCount += 1
    if (this.#problems.length >= MAX_PROBLEMS) return
    this.#problems.push({ kind, file: place.file, line: place.line, message, order: this.#problemCount })
  }
}

interface ChainState {
  readonly id: string
  readonly firstSeq: number
  lastSeq: number
  lastHash: string
  lastPlace: Place
  readonly missing: Missing
  closed: boolean
  checkpoints: number
  signedUpTo: number
  signingKey: string | undefined
  dropped: number
  /** Hashes of the latest lines, which checkpoints and repetitions are held against. */
  readonly recent: Map<number, string>
}

const MAX_PROBLEMS = 1000
/** A checkpoint is written soon after the line it signs. */
const REMEMBERED = 8192
const COUNT = /,"count":(\d{1,15}),/

function member(bytes: Buffer, name: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(bytes.toString('utf8'))[name]
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

function advance(state: ChainState, seq: number, line: ChainedLine, place: Place): void {
  state.lastSeq = seq
  state.lastHash = line.hash
  state.lastPlace = place
}

function remember(state: ChainState, line: ChainedLine): void {
  if (!state.recent.has(line.seq)) state.recent.set(line.seq, line.hash)
  if (state.recent.size > REMEMBERED) state.recent.delete(state.recent.keys().next().value as number)
}

function at({ file, line }: Place): string {
  return `${file}:${line}`
}

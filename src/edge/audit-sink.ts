import type { Writable } from 'node:stream'
import { ANYONE, alikeBy, anonymous, vague } from '../core/audit/alike.ts'
import type { Chain, Counter } from '../core/audit/chain.ts'
import { Coalescer, type Rung } from '../core/audit/coalesce.ts'
import type { Exchange } from '../core/audit/exchange.ts'
import { type ExchangeEvent, outcomeOf, type Recorder } from '../core/audit/record.ts'
import type { FactBody, Generations, SidecarFact, StartDetails } from '../core/audit/sidecar-fact.ts'
import type { RecordSink } from '../journey/record-sink.ts'
import type { CheckpointSigner } from './checkpoint-signer.ts'
import { LineWriter, MAX_WAITING_BYTES } from './line-writer.ts'

export interface AuditSinkOptions {
  /** `process.stdout`; nobody else writes to it. */
  readonly stream: Writable
  readonly recorder: Recorder
  /** `Chain`, or `Counter` for `audit.chain: false`; stays for the life of the process. */
  readonly chain: Chain | Counter
  readonly onBlocked: 'block' | 'drop'
  readonly signer?: CheckpointSigner | undefined
  readonly checkpointEvery: number
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  readonly generation: () => Generations
  /** Called whenever `state` has changed. */
  readonly onState?: (state: AuditState) => void
}

/** `broken`: stdout is closed, no line will ever be written again. */
export type AuditState = 'open' | 'blocked' | 'broken'

/**
 * Every audit line of the process, in one order. Lines of admitted calls are never dropped under `block`: new calls wait
 * while stdout is blocked, so what waits for the kernel is bounded by the calls in flight, two lines each.
 */
export class AuditSink implements RecordSink {
  readonly #options: AuditSinkOptions
  readonly #writer: LineWriter
  readonly #coalescer = new Coalescer()
  readonly #waiters: Waiter[] = []
  readonly #sweep: NodeJS.Timeout
  #recorder: Recorder
  #onBlocked: 'block' | 'drop'
  #reserved = 0
  #closed = false
  #signing: Promise<void> | undefined
  #records = 0
  #calls = 0
  #refused = 0
  #dropped = 0
  #gap: { count: number; firstAtMs: number; lastAtMs: number } | undefined

  constructor(options: AuditSinkOptions) {
    this.#options = options
    this.#recorder = options.recorder
    this.#onBlocked = options.onBlocked
    this.#writer = new LineWriter(options.stream, () => this.#stateChanged())
    this.#sweep = setInterval(() => this.#takeDue(false), 1000)
    this.#sweep.unref()
  }

  /** The recorder of a new generation of the configuration. */
  use(recorder: Recorder, onBlocked: 'block' | 'drop'): void {
    this.#recorder = recorder
    this.#onBlocked = onBlocked
    if (onBlocked === 'drop') this.#stateChanged()
  }

  get state(): AuditState {
    return this.#writer.failure !== undefined ? 'broken' : this.#writer.blocked ? 'blocked' : 'open'
  }

  /** Counts for metrics and probes. */
  stats(): AuditStats {
    return {
      state: this.state,
      records: this.#records,
      dropped: this.#dropped,
      lastSeq: this.#options.chain.seq,
      pendingBytes: this.#writer.pendingBytes,
      waiting: this.#waiters.length,
      reserved: this.#reserved,
      failure: this.#writer.failure?.message,
    }
  }

  /** The first line of the chain. Called once, before anything else is recorded. */
  start(details: Pick<StartDetails, 'image' | 'node'>): void {
    const { signer, checkpointEvery } = this.#options
    this.fact({
      event: 'sidecar.started',
      details: { ...details, signingKey: signer?.keyId, checkpointEvery: signer && checkpointEvery },
    })
  }

  admit(): true | Promise<boolean> {
    if (this.#closed) return REFUSED
    if (this.#onBlocked === 'drop' || (!this.#writer.blocked && this.#waiters.length === 0)) {
      this.#reserved += 1
      return true
    }
    if (this.#writer.failure !== undefined || this.#waiters.length >= MAX_WAITERS) return REFUSED
    return new Promise(resolve => {
      const waiter: Waiter = { resolve, timer: setTimeout(() => this.#giveUp(waiter), MAX_WAIT_MS) }
      this.#waiters.push(waiter)
    })
  }

  release(): void {
    this.#reserved -= 1
  }

  begin(event: 'mcp.started' | 'mcp.stream.open', exchange: Exchange): void {
    this.#writeExchange(event, exchange)
  }

  record(exchange: Exchange): boolean {
    const event = eventAtEnd(exchange)
    if (event === 'mcp.refused') {
      this.#refused += Math.max(1, exchange.messages.length)
      // A call that has reached the upstream may have had an effect: it is never coalesced.
      if (exchange.upstreamStartedMono === undefined) return this.#recordRefusal(exchange)
    } else if (event === 'mcp.call') this.#calls += Math.max(1, exchange.messages.length)
    this.#writeExchange(event, exchange)
    return true
  }

  /** Something that happened to the sidecar or to a connection. */
  fact(body: FactBody): void {
    const nowMs = this.#options.now()
    const fact: SidecarFact = { ...body, generation: this.#options.generation() }
    if (fact.event === 'connection.refused') {
      const about = `${fact.event}|${fact.reason}`
      const ladder: Rung[] = [
        {
          key: `${about}|${fact.connection.remoteAddress}|${fact.connection.certificate?.fingerprint256 ?? ''}`,
          draft: () => this.#recorder.fact(fact, nowMs),
        },
        { key: about, draft: () => this.#recorder.fact({ ...fact, connection: ANYONE }, nowMs) },
      ]
      if (!this.#coalescer.note(ladder, nowMs, this.#mustHold())) return
    }
    this.#write(this.#recorder.fact(fact, nowMs), nowMs)
  }

  written(then: () => void): boolean {
    // Under `drop` no answer waits for a reader that has stopped reading.
    if (this.#onBlocked === 'drop' && this.#writer.blocked) return true
    return this.#writer.written(then)
  }

  /**
   * Writes what is still counted, the closing line and its signature, and waits for the kernel.
   *
   * @param reason   Why the sidecar stops, for the closing line: `SIGTERM`.
   * @param graceMs  Longest wait.
   * @returns        How many lines the kernel does not have: 0 when nothing is lost.
   */
  async close(reason: string, graceMs: number): Promise<{ lost: number }> {
    const { now, generation } = this.#options
    const deadline = new Promise<void>(resolve => setTimeout(resolve, graceMs).unref())
    clearInterval(this.#sweep)
    await Promise.race([this.#signing, deadline])
    this.#takeDue(true)
    this.#writeGap()
    const details = {
      reason,
      records: this.#records,
      calls: this.#calls,
      refused: this.#refused,
      dropped: this.#dropped,
    }
    this.#write(this.#recorder.fact({ event: 'sidecar.stopped', generation: generation(), details }, now()), now())
    this.#closed = true
    for (const waiter of [...this.#waiters]) this.#giveUp(waiter)
    await Promise.race([this.#signCheckpoint(), deadline])
    await Promise.race([new Promise<void>(resolve => this.#writer.written(resolve) && resolve()), deadline])
    this.#writer.detach()
    return { lost: this.#writer.pendingLines + (this.#gap?.count ?? 0) }
  }

  /** @returns whether a line was written. */
  #recordRefusal(exchange: Exchange): boolean {
    const nowMs = this.#options.now()
    const { messages } = exchange
    let isWritten = false
    for (const message of messages.length === 0 ? [undefined] : messages) {
      const { exactly, caller, reason } = alikeBy(exchange, message)
      const ladder: Rung[] = [
        { key: exactly, draft: () => this.#recorder.exchange('mcp.refused', exchange, message, true) },
        { key: caller, draft: () => this.#recorder.exchange('mcp.refused', vague(exchange), undefined, true) },
        { key: reason, draft: () => this.#recorder.exchange('mcp.refused', anonymous(exchange), undefined, true) },
      ]
      if (!this.#coalescer.note(ladder, nowMs, this.#mustHold())) continue
      this.#writeOne('mcp.refused', exchange, message)
      isWritten = true
    }
    return isWritten
  }

  #writeExchange(event: ExchangeEvent, exchange: Exchange): void {
    const { messages } = exchange
    if (messages.length <= 1) return this.#writeOne(event, exchange, messages[0])
    for (const message of messages) this.#writeOne(event, exchange, message)
  }

  #writeOne(event: ExchangeEvent, exchange: Exchange, message: Exchange['messages'][number] | undefined): void {
    this.#write(this.#recorder.exchange(event, exchange, message), exchange.startedAtMs)
  }

  #write(draft: string, atMs: number): void {
    if (this.#closed || this.#mustDrop()) return this.#drop(atMs)
    this.#writeGap()
    this.#seal(draft)
  }

  #seal(draft: string): void {
    this.#records += 1
    this.#writer.write(this.#options.chain.seal(draft))
    if (this.#options.signer !== undefined && this.#records % this.#options.checkpointEvery === 0) {
      this.#signing ??= this.#signCheckpoint().finally(() => {
        this.#signing = undefined
      })
    }
  }

  async #signCheckpoint(): Promise<void> {
    const { signer, chain, generation, now } = this.#options
    if (signer === undefined || !('last' in chain)) return
    const { seq, last } = chain
    const details = { seq, hash: last, signature: await signer.sign(chain.id, seq, last) }
    this.#seal(this.#recorder.fact({ event: 'audit.checkpoint', generation: generation(), details }, now()))
  }

  /** Under `block` what is not a call's own waits in the coalescer while stdout is blocked. */
  #mustHold(): boolean {
    return this.#writer.blocked
  }

  #mustDrop(): boolean {
    if (this.#writer.failure !== undefined) return true
    return this.#onBlocked === 'drop' && this.#writer.pendingBytes > MAX_WAITING_BYTES
  }

  #drop(atMs: number): void {
    this.#dropped += 1
    this.#gap ??= { count: 0, firstAtMs: atMs, lastAtMs: atMs }
    this.#gap.count += 1
    this.#gap.lastAtMs = Math.max(this.#gap.lastAtMs, atMs)
  }

  #writeGap(): void {
    const gap = this.#gap
    if (gap === undefined || this.#writer.failure !== undefined) return
    this.#gap = undefined
    const error = 'stdout did not take lines fast enough (audit.onBlocked: drop)'
    const fact: SidecarFact = { event: 'audit.gap', generation: this.#options.generation(), ...gap, error }
    this.#seal(this.#recorder.fact(fact, this.#options.now()))
  }

  #takeDue(all: boolean): void {
    if (this.#coalescer.isEmpty || (!all && this.#writer.blocked)) return
    const nowMs = this.#options.now()
    for (const { draft, count, firstAtMs, lastAtMs } of this.#coalescer.take(nowMs, all)) {
      this.#write(this.#recorder.coalesced(draft, count, firstAtMs, lastAtMs), nowMs)
    }
  }

  #stateChanged(): void {
    if (this.#onBlocked === 'drop' || this.#writer.failure !== undefined) this.#writer.releaseWaiting()
    if (!this.#writer.blocked || this.#onBlocked === 'drop') {
      // In the order of arrival; those that are let in may block the stream again, and then the rest goes on waiting.
      while (this.#waiters.length > 0 && (!this.#writer.blocked || this.#onBlocked === 'drop')) {
        const waiter = this.#waiters.shift() as Waiter
        clearTimeout(waiter.timer)
        this.#reserved += 1
        waiter.resolve(true)
      }
      if (!this.#writer.blocked) this.#writeGap()
    } else if (this.#writer.failure !== undefined) {
      for (const waiter of [...this.#waiters]) this.#giveUp(waiter)
    }
    this.#options.onState?.(this.state)
  }

  #giveUp(waiter: Waiter): void {
    clearTimeout(waiter.timer)
    const at = this.#waiters.indexOf(waiter)
    if (at < 0) return
    this.#waiters.splice(at, 1)
    waiter.resolve(false)
  }
}

export interface AuditStats {
  readonly state: AuditState
  readonly records: number
  readonly dropped: number
  readonly lastSeq: number
  readonly pendingBytes: number
  /** Calls that wait for room. */
  readonly waiting: number
  readonly reserved: number
  readonly failure: string | undefined
}

interface Waiter {
  readonly resolve: (admitted: boolean) => void
  readonly timer: NodeJS.Timeout
}

const MAX_WAITERS = 1024
const MAX_WAIT_MS = 5000
const REFUSED = Promise.resolve(false)

function eventAtEnd(exchange: Exchange): ExchangeEvent {
  if (outcomeOf(exchange) === 'refused') return 'mcp.refused'
  return exchange.httpMethod === 'GET' ? 'mcp.stream.close' : 'mcp.call'
}

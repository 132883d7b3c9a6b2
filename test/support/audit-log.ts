import { generateKeyPairSync, hash, type KeyObject } from 'node:crypto'
import { Writable } from 'node:stream'
import { Chain } from '../../src/core/audit/chain.ts'
import { Unwrapper } from '../../src/core/audit/unwrap.ts'
import { Verifier } from '../../src/core/audit/verify.ts'
import type { Report, VerifyOptions } from '../../src/core/audit/verify-report.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { type CheckpointSigner, loadCheckpointSigner } from '../../src/edge/checkpoint-signer.ts'
import { exchangeWith, recorderWith, toolCall } from './audit.ts'

export interface SigningKey {
  readonly signer: CheckpointSigner
  readonly publicKey: KeyObject
}

export async function signingKey(): Promise<SigningKey> {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const signer = await loadCheckpointSigner(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
  if (!signer.ok) throw new Error(signer.error)
  return { signer: signer.value, publicKey }
}

/** The lines of one process from start to stop, made by the real sink: genesis, `calls` calls, closing line. */
export async function logOf(
  id: string,
  calls: number,
  signer?: CheckpointSigner,
  startMs = 1_795_000_000_000,
): Promise<string[]> {
  let text = ''
  const stream = new Writable({
    decodeStrings: false,
    write(chunk, _encoding, done) {
      text += chunk
      done()
    },
  })
  let nowMs = startMs
  const sink = new AuditSink({
    stream,
    recorder: recorderWith(),
    chain: new Chain(id),
    onBlocked: 'block',
    signer,
    checkpointEvery: 10,
    now: () => ++nowMs,
    generation: () => ({ config: 1, trust: 1 }),
  })
  sink.start({ image: 'registry/mcp-sidecar:1', node: '24' })
  for (let i = 0; i < calls; i++) {
    sink.record(exchangeWith({ requestId: `${id}-${i}`, startedAtMs: ++nowMs, messages: [toolCall('search', { i })] }))
    // A checkpoint is signed while other lines are written.
    if (i % 5 === 4) await new Promise(setImmediate)
  }
  await sink.close('SIGTERM', 1000)
  return text.split('\n').slice(0, -1)
}

/** Verifies files that are given as their lines. */
export function verifyLines(
  files: Readonly<Record<string, readonly string[]>>,
  options: Partial<VerifyOptions> = {},
): Report {
  const names = Object.keys(files)
  const verifier = new Verifier({
    open: false,
    from: undefined,
    key: undefined,
    lastSeq: undefined,
    firstFile: names[0] ?? '',
    ...options,
  })
  for (const file of names) {
    const unwrapper = new Unwrapper()
    files[file]?.forEach((line, i) => {
      const unwrapped = unwrapper.unwrap(Buffer.from(line), i + 1)
      if (unwrapped.kind === 'line') verifier.line(unwrapped.bytes, { file, line: unwrapped.number })
    })
    const piece = unwrapper.end()
    if (piece !== undefined) verifier.broken({ file, line: piece.from }, 'a line of which the last piece is missing')
  }
  return verifier.end()
}

/** Hashes a line anew, as someone would who knows how the chain is made. */
export function rehash(line: string, change: { prev?: string; seq?: number } = {}): string {
  let content = line.replace(/,"hash":"[0-9a-f]{64}"}}$/, '')
  if (change.prev !== undefined) content = content.replace(/"prev":"[0-9a-f]{64}"$/, `"prev":"${change.prev}"`)
  if (change.seq !== undefined) content = content.replace(/,"seq":\d+(,"chain":\{[^}]*)$/, `,"seq":${change.seq}$1`)
  return `${content},"hash":"${hash('sha256', content)}"}}`
}

export function hashOf(line: string): string {
  return /"hash":"([0-9a-f]{64})"}}$/.exec(line)?.[1] ?? ''
}

/** Everything from `from` on chained anew, numbers included: what a patient forger does. */
export function rechain(lines: readonly string[], from = 0): string[] {
  const forged = lines.slice(0, from)
  for (let i = from; i < lines.length; i++) {
    forged.push(
      rehash(lines[i] as string, { prev: i === 0 ? '0'.repeat(64) : hashOf(forged[i - 1] as string), seq: i + 1 }),
    )
  }
  return forged
}

/** As containerd writes it, long lines in pieces of `pieceBytes`. */
export function inCri(lines: readonly string[], pieceBytes = 16_384): string[] {
  return lines.flatMap(line => {
    const pieces: string[] = []
    for (let at = 0; at < line.length; at += pieceBytes) {
      const tag = at + pieceBytes < line.length ? 'P' : 'F'
      pieces.push(`2026-11-21T01:02:03.123456789Z stdout ${tag} ${line.slice(at, at + pieceBytes)}`)
    }
    return pieces
  })
}

/** As Docker's json-file driver writes it. */
export function inDocker(lines: readonly string[], pieceBytes = 16_384): string[] {
  return lines.flatMap(line => {
    const pieces: string[] = []
    for (let at = 0; at < line.length; at += pieceBytes) {
      const log = line.slice(at, at + pieceBytes) + (at + pieceBytes < line.length ? '' : '\n')
      pieces.push(JSON.stringify({ log, stream: 'stdout', time: '2026-11-21T01:02:03.123456789Z' }))
    }
    return pieces
  })
}

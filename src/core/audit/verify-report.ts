import type { KeyObject } from 'node:crypto'

export interface VerifyOptions {
  /** The last chain may still run: no closing line is asked of it. */
  readonly open: boolean
  /** Hash of the line before the first one, when the head was rotated away. */
  readonly from: string | undefined
  /** Public key of the checkpoints. */
  readonly key: KeyObject | undefined
  /** A number that the last chain is known to have reached (`mcp_sidecar_audit_last_seq`). */
  readonly lastSeq: number | undefined
  readonly firstFile: string
}

export interface Place {
  readonly file: string
  /** Line of the file, 1 for the first. */
  readonly line: number
}

export interface Problem extends Place {
  readonly kind: ProblemKind
  readonly message: string
  readonly order: number
}

export type ProblemKind =
  | 'edited'
  | 'gap'
  | 'reordered'
  | 'duplicate'
  | 'inserted'
  | 'rechained'
  | 'genesis'
  | 'head'
  | 'truncated'
  | 'after-close'
  | 'count'
  | 'cut'
  | 'foreign'
  | 'checkpoint'
  | 'signature'
  | 'forged'
  | 'unsigned'
  | 'empty'

export interface Report {
  readonly lines: number
  /** Lines that are no chained audit lines. */
  readonly foreign: number
  readonly chains: readonly ChainReport[]
  /** The first ones; `problemCount` says how many there were. */
  readonly problems: readonly Problem[]
  readonly problemCount: number
}

export interface ChainReport {
  readonly id: string
  readonly first: number
  readonly last: number
  readonly lastHash: string
  readonly closed: boolean
  readonly checkpoints: number
  /** Last line that a good signature covers; 0 without a key. */
  readonly signed: number
  /** Thumbprint of the key that the genesis line announces. */
  readonly signingKey: string | undefined
  /** Lines that the sidecar itself says it did not write. */
  readonly dropped: number
}

import type { Peer } from '../identity/caller.ts'
import type { ConnectionFacts } from './exchange.ts'

/** Generations of configuration and trust in use when something happened. */
export interface Generations {
  readonly config: number
  readonly trust: number
}

/** What happens to the sidecar and its connections, apart from calls: each becomes one audit line. */
export type SidecarFact = FactBody & { readonly generation: Generations }

export type FactBody =
  | {
      readonly event: 'connection.refused'
      /** The exact reason, as the TLS layer names it: `CERT_HAS_EXPIRED`, `ECONNRESET`, `handshake_timeout`. */
      readonly reason: string
      readonly connection: ConnectionFacts
      readonly peer?: Peer
      readonly error?: string
    }
  | {
      /** A connection that the sidecar cut; one that its client ends needs no line. */
      readonly event: 'connection.closed'
      readonly reason: string
      readonly connection: ConnectionFacts
      readonly peer?: Peer
      readonly error?: string
    }
  | { readonly event: 'trust.reloaded' | 'config.reloaded'; readonly error?: string }
  | { readonly event: 'trust.kept' | 'config.kept'; readonly error: string }
  /** `count` lines between `firstAtMs` and `lastAtMs` were not written. */
  | {
      readonly event: 'audit.gap'
      readonly count: number
      readonly firstAtMs: number
      readonly lastAtMs: number
      readonly error?: string
    }
  | { readonly event: 'audit.checkpoint'; readonly details: CheckpointDetails }
  | { readonly event: 'sidecar.started'; readonly details: StartDetails }
  | { readonly event: 'sidecar.stopped'; readonly details: StopDetails; readonly error?: string }

/** The member `checkpoint` of a line: a signature over the line of that sequence number. */
export type CheckpointDetails = Readonly<{
  seq: number
  hash: string
  /** Compact JWS (EdDSA) over `{"chain","seq","hash"}`. */
  signature: string
}>

/** The member `started` of the first line. */
export type StartDetails = Readonly<{
  image: string | undefined
  node: string
  /** RFC 7638 thumbprint of the key that signs checkpoints. */
  signingKey: string | undefined
  checkpointEvery: number | undefined
}>

/** The member `stopped` of the closing line: what was done, so that counts can be held against the lines. */
export type StopDetails = Readonly<{
  reason: string | undefined
  records: number
  calls: number
  refused: number
  dropped: number
}>

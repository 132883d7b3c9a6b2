import type { Refusal } from '../refusal.ts'
import type { Result } from '../result.ts'
import type { ClaimedUser } from './user.ts'

/** A token whose signature, issuer, audience, times and required scopes have been found good. Immutable; kept until it ends. */
export interface VerifiedToken {
  readonly user: ClaimedUser
  /** `exp`, ms since the epoch. */
  readonly expiresAtMs: number
  /** `cnf.x5t#S256` as lower-case hex, when the token is bound to a certificate. */
  readonly boundTo: string | undefined
}

export type TokenOutcome = Result<VerifiedToken, Refusal>

/** Verifies bearer tokens. One that was verified before is answered at once; only an unknown one waits. */
export interface TokenVerifier {
  /** @param peerFingerprint  SHA-256 of the client certificate, lower-case hex, for tokens bound to one. */
  verify(token: string, peerFingerprint: string): TokenOutcome | Promise<TokenOutcome>
}

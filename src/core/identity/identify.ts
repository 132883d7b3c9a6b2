import type { Config } from '../../config/config.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import type { ArrivalHeaders } from './arrival-headers.ts'
import { type Assertion, compilePeersAssertions, judgeAssertion, type PeersAssertions } from './assert.ts'
import type { Caller, Peer, User } from './caller.ts'
import { type ChallengeText, compileChallenge } from './challenge.ts'
import { trimBlank } from './fold.ts'
import { compileHeaderRules, type HeaderRules } from './header-rules.ts'
import type { TokenOutcome, TokenVerifier, VerifiedToken } from './token.ts'
import { type ClaimedUser, encodeForHeader, userFromHeaders } from './user.ts'

/** Everything about identity that a generation of the configuration decides. Immutable but for what it remembers. */
export interface CompiledIdentity {
  readonly source: 'headers' | 'jwt' | 'both'
  readonly required: boolean
  readonly rules: HeaderRules
  readonly assertions: PeersAssertions
  readonly challenge: ChallengeText
  /** Users of tokens that were held against an assertion before: one judgement for each token and entry of `peers`. */
  readonly judged: WeakMap<Assertion, WeakMap<VerifiedToken, Result<User, Refusal>>>
}

export function compileIdentity(config: Pick<Config, 'identity' | 'upstream' | 'peers'>): CompiledIdentity {
  return {
    source: config.identity.source,
    required: config.identity.required,
    rules: compileHeaderRules(config.identity, config.upstream),
    assertions: compilePeersAssertions(config.peers),
    challenge: compileChallenge(config.identity),
    judged: new WeakMap(),
  }
}

/**
 * Says who is calling: the peer, and the user that it or a token names. Waits only for a token that has not been seen.
 *
 * @param peer      Matched against the same generation's list of peers.
 * @param verifier  Needed when the source is `jwt` or `both`.
 */
export function identify(
  identity: CompiledIdentity,
  headers: ArrivalHeaders,
  peer: Peer,
  verifier: TokenVerifier | undefined,
): Result<Caller, Refusal> | Promise<Result<Caller, Refusal>> {
  const assertion = identity.assertions.get(peer.name)
  if (assertion === undefined) return err({ reason: 'peer_not_listed', presented: peer.matched })

  let forwarded: ClaimedUser | undefined
  if (identity.source !== 'jwt') {
    const read = userFromHeaders(headers, identity.rules.names)
    if (!read.ok) return read
    forwarded = read.value
    if (identity.source === 'headers') {
      if (forwarded === undefined) return withoutUser(identity, peer, USER_MISSING)
      const user = judgeAssertion(assertion, forwarded, 'headers', undefined)
      return user.ok ? ok({ peer, user: user.value }) : user
    }
  }

  const token = headers.authorization === undefined ? undefined : bearerToken(headers.authorization)
  if (token === undefined) {
    // Half of a pair is not nobody: a forwarded user without its token is refused even where no user is required.
    return forwarded === undefined ? withoutUser(identity, peer, TOKEN_MISSING) : TOKEN_MISSING
  }
  if (verifier === undefined) throw new Error('identity.source asks for tokens, and there is no verifier')
  const outcome = verifier.verify(token, peer.certificate.fingerprint256)
  if (outcome instanceof Promise) {
    return outcome.then(later => withToken(identity, assertion, peer, forwarded, later))
  }
  return withToken(identity, assertion, peer, forwarded, outcome)
}

/**
 * Judges a caller again whose stream is open, by another generation of the configuration or at another time.
 *
 * @param peer  What the certificate matches now.
 */
export function identifyAgain(
  identity: CompiledIdentity,
  caller: Caller,
  peer: Peer,
  nowMs: number,
): Result<Caller, Refusal> {
  const assertion = identity.assertions.get(peer.name)
  if (assertion === undefined) return err({ reason: 'peer_not_listed', presented: peer.matched })
  const { user } = caller
  if (user === undefined)
    return withoutUser(identity, peer, identity.source === 'headers' ? USER_MISSING : TOKEN_MISSING)
  if (user.source !== identity.source) return identity.source === 'headers' ? USER_MISSING : TOKEN_MISSING
  if (user.expiresAtMs !== undefined && user.expiresAtMs <= nowMs) return err({ reason: 'user_token_expired' })
  const claimed: ClaimedUser =
    user.scopesCut.length === 0 ? user : { ...user, scopes: [...user.scopes, ...user.scopesCut] }
  const judged = judgeAssertion(assertion, claimed, user.source, user.expiresAtMs)
  return judged.ok ? ok({ peer, user: judged.value }) : judged
}

/** The token of `Authorization: Bearer …`; undefined for any other scheme. @source RFC 6750 §2.1, RFC 9110 §11.1 */
export function bearerToken(authorization: string): string | undefined {
  if (!authorization.startsWith('Bearer ') && !BEARER.test(authorization)) return undefined
  const token = trimBlank(authorization.slice(7))
  return token === '' ? undefined : token
}

const BEARER = /^bearer /i
const USER_MISSING = err<Refusal>({ reason: 'user_missing' })
const TOKEN_MISSING = err<Refusal>({ reason: 'user_token_missing' })

function withoutUser(identity: CompiledIdentity, peer: Peer, missing: Result<never, Refusal>): Result<Caller, Refusal> {
  return identity.required ? missing : ok({ peer, user: undefined })
}

function withToken(
  identity: CompiledIdentity,
  assertion: Assertion,
  peer: Peer,
  forwarded: ClaimedUser | undefined,
  outcome: TokenOutcome,
): Result<Caller, Refusal> {
  if (!outcome.ok) return outcome
  const token = outcome.value
  if (identity.source === 'both') {
    if (forwarded === undefined) return USER_MISSING
    const agreed = agree(forwarded, token.user)
    if (!agreed.ok) return agreed
    const user = judgeAssertion(assertion, agreed.value, 'both', token.expiresAtMs)
    return user.ok ? ok({ peer, user: user.value }) : user
  }
  const user = judgedToken(identity, assertion, token)
  return user.ok ? ok({ peer, user: user.value }) : user
}

function judgedToken(identity: CompiledIdentity, assertion: Assertion, token: VerifiedToken): Result<User, Refusal> {
  let judged = identity.judged.get(assertion)
  if (judged === undefined) {
    judged = new WeakMap()
    identity.judged.set(assertion, judged)
  }
  let user = judged.get(token)
  if (user === undefined) {
    user = judgeAssertion(assertion, token.user, 'jwt', token.expiresAtMs)
    judged.set(token, user)
  }
  return user
}

/**
 * Header and token name the same user. Forwarded scopes and roles narrow the token's and never widen them; where the
 * header is silent the token speaks, and only an e-mail that the token does not have is taken from the header.
 */
function agree(forwarded: ClaimedUser, token: ClaimedUser): Result<ClaimedUser, Refusal> {
  if (!isSame(forwarded.id, token.id)) return disagrees('user')
  if (forwarded.org !== undefined && (token.org === undefined || !isSame(forwarded.org, token.org)))
    return disagrees('org')
  if (!forwarded.scopes.every(scope => token.scopes.includes(scope))) return disagrees('scopes')
  if (!forwarded.roles.every(role => token.roles.some(held => isSame(role, held)))) return disagrees('roles')
  return ok({
    id: token.id,
    org: token.org,
    email: token.email ?? forwarded.email,
    scopes: forwarded.scopes.length === 0 ? token.scopes : forwarded.scopes,
    roles:
      forwarded.roles.length === 0
        ? token.roles
        : token.roles.filter(held => forwarded.roles.some(role => isSame(role, held))),
  })
}

/** A header cannot carry every value of a token; it may carry the encoded form. */
function isSame(header: string, token: string): boolean {
  return header === token || header === encodeForHeader(token)
}

function disagrees(field: 'user' | 'org' | 'scopes' | 'roles'): Result<never, Refusal> {
  return err({ reason: 'user_disagrees_with_token', field })
}

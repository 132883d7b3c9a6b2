import type { MayAssert, PeerEntry } from '../../config/config.ts'
import { compileGlob, type Glob } from '../glob.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import type { User } from './caller.ts'
import type { ClaimedUser } from './user.ts'

/** What one entry of `peers` may claim about users, ready to be held against a claim. */
export interface Assertion {
  readonly users: Glob
  readonly orgs: Glob
  readonly emails: Glob
  readonly roles: Glob
  readonly scopes: Glob
  /** Whether `X-Forwarded-For` of this peer is believed and continued. */
  readonly forwardedFor: boolean
}

/** What each entry may assert, by its name. */
export type PeersAssertions = ReadonlyMap<string, Assertion>

export function compilePeersAssertions(peers: readonly PeerEntry[]): PeersAssertions {
  return new Map(peers.map(peer => [peer.name, compileAssertion(peer.mayAssert)]))
}

function compileAssertion(mayAssert: MayAssert): Assertion {
  return {
    users: anyOf(mayAssert.users),
    orgs: anyOf(mayAssert.orgs),
    emails: anyOf(mayAssert.emails),
    roles: anyOf(mayAssert.roles),
    scopes: anyOf(mayAssert.scopes),
    forwardedFor: mayAssert.forwardedFor,
  }
}

/**
 * Holds a claimed user against what the peer may assert, whatever the claim came from. A claim outside is refused, never
 * dropped; scopes alone are cut to the ceiling, and what was cut is kept for the audit line.
 *
 * @refuses `peer_may_not_assert`
 */
export function judgeAssertion(
  assertion: Assertion,
  claimed: ClaimedUser,
  source: User['source'],
  expiresAtMs: number | undefined,
): Result<User, Refusal> {
  const { id, org, email, scopes, roles } = claimed
  if (!assertion.users(id)) return mayNot('user', id)
  if (org !== undefined && !assertion.orgs(org)) return mayNot('org', org)
  if (email !== undefined && !assertion.emails(email)) return mayNot('email', email)
  for (const role of roles) if (!assertion.roles(role)) return mayNot('role', role)
  let kept = scopes
  let cut = NONE
  if (!scopes.every(assertion.scopes)) {
    kept = scopes.filter(assertion.scopes)
    cut = scopes.filter(scope => !assertion.scopes(scope))
  }
  return ok({ id, org, email, scopes: kept, roles, source, scopesCut: cut, expiresAtMs })
}

const NONE: readonly string[] = []

function mayNot(field: 'user' | 'org' | 'email' | 'role', value: string): Result<never, Refusal> {
  return err({ reason: 'peer_may_not_assert', field, value })
}

/** An empty list allows nothing. Plain names are looked up; patterns are tried in turn. */
function anyOf(patterns: readonly string[]): Glob {
  if (patterns.includes('*')) return () => true
  const names = new Set(patterns.filter(pattern => !pattern.includes('*')))
  const globs = patterns.filter(pattern => pattern.includes('*')).map(compileGlob)
  if (globs.length === 0) return text => names.has(text)
  return text => names.has(text) || globs.some(glob => glob(text))
}

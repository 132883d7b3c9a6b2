import { hash } from 'node:crypto'
import type { errors, JWTVerifyOptions, jwtVerify } from 'jose'
import type { JwtConfig } from '../config/config.ts'
import { scopesToAskFor } from '../core/identity/challenge.ts'
import type { TokenOutcome, TokenVerifier, VerifiedToken } from '../core/identity/token.ts'
import { userFromClaims } from '../core/identity/user.ts'
import type { JsonObject, JsonValue } from '../core/json.ts'
import type { Refusal } from '../core/refusal.ts'
import { err, ok } from '../core/result.ts'
import { fetchText } from './fetch-text.ts'
import { FileKeySource, type KeyReport, type KeySet, type KeySource, RemoteKeySource } from './jwks.ts'

export interface TokenVerifierOptions {
  readonly report: KeyReport
  /** Wall-clock ms since the epoch. */
  readonly now?: () => number
  readonly keys?: KeySource
  readonly mostCached?: number
}

/**
 * Verifies access tokens (JWT). A token that was found good is remembered by its digest until it ends, so that its next
 * use is answered at once; unknown ones are verified once however many calls bring them at the same time.
 *
 * @source RFC 7519, RFC 8725 (algorithms, audience, type), RFC 9068 (`at+jwt`), RFC 8705 §3 (bound tokens).
 */
export class JwtVerifier implements TokenVerifier {
  readonly keys: KeySource
  readonly #config: JwtConfig
  readonly #now: () => number
  readonly #options: JWTVerifyOptions
  readonly #cache: TwoGenerations<Known>
  readonly #underWay = new Map<string, Promise<TokenOutcome>>()
  #trusted: KeySet | undefined

  constructor(config: JwtConfig, options: TokenVerifierOptions) {
    this.#config = config
    this.#now = options.now ?? Date.now
    this.keys = options.keys ?? keySourceFor(config.jwks, options.report, this.#now)
    this.#cache = new TwoGenerations(options.mostCached ?? 8192)
    this.#options = {
      issuer: config.issuer,
      audience: config.audience,
      algorithms: config.algorithms.filter(algorithm => ASYMMETRIC.has(algorithm)),
      clockTolerance: config.clockSkewMs / 1000,
      requiredClaims: ['exp'],
    }
  }

  verify(token: string, peerFingerprint: string): TokenOutcome | Promise<TokenOutcome> {
    if (token.length > LONGEST_TOKEN) return TOO_LONG
    const key = hash('sha256', token, 'base64url')
    // Asking for the keys on each call is what fetches them anew in time, and what shows that one was withdrawn.
    const set = this.keys.get()
    if (set !== this.#trusted && set !== undefined && !(set instanceof Promise)) this.#trust(set)
    const known = this.#cache.get(key)
    if (known !== undefined) {
      if (known.value.expiresAtMs <= this.#now()) return EXPIRED
      return this.#config.certificateBound ? boundOutcome(known, peerFingerprint) : known
    }
    let verdict = this.#underWay.get(key)
    if (verdict === undefined) {
      verdict = this.#verifyNew(token, key).finally(() => this.#underWay.delete(key))
      this.#underWay.set(key, verdict)
    }
    if (!this.#config.certificateBound) return verdict
    return verdict.then(outcome => (outcome.ok ? boundOutcome(outcome, peerFingerprint) : outcome))
  }

  /** Fetches the keys, so that the first call need not wait for them. @returns whether there are any. */
  async warm(): Promise<boolean> {
    // A sidecar that verifies no tokens never loads what it takes to: 4 MiB.
    await import('jose')
    return (await this.keys.get()) !== undefined
  }

  close(): void {
    this.keys.close()
  }

  async #verifyNew(token: string, key: string): Promise<TokenOutcome> {
    if (!COMPACT.test(token)) return invalid('it is not a JWT')
    let set = await this.keys.get()
    if (set === undefined) return UNVERIFIABLE
    let verified: Awaited<ReturnType<typeof jwtVerify>>
    try {
      verified = await this.#check(token, set)
    } catch (error) {
      if (codeOf(error) !== 'ERR_JWKS_NO_MATCHING_KEY') return refusalFor(error)
      const newer = await this.keys.getNewer(set)
      if (newer === undefined) return refusalFor(error)
      set = newer
      try {
        verified = await this.#check(token, newer)
      } catch (again) {
        return refusalFor(again)
      }
    }
    this.#trust(set)
    const outcome = this.#judge(verified.protectedHeader.typ, verified.payload as JsonObject)
    if (outcome.ok) this.#cache.set(key, outcome)
    return outcome
  }

  async #check(token: string, set: KeySet): ReturnType<typeof jwtVerify> {
    const jose = await import('jose')
    return jose.jwtVerify(token, set.find, { ...this.#options, currentDate: new Date(this.#now()) })
  }

  /** A key that the issuer has withdrawn takes the tokens with it that were found good by it. */
  #trust(set: KeySet): void {
    if (this.#trusted === set) return
    const before = this.#trusted
    this.#trusted = set
    if (before === undefined) return
    for (const member of before.members) {
      if (!set.members.has(member)) {
        this.#cache.clear()
        return
      }
    }
  }

  #judge(typ: string | undefined, claims: JsonObject): TokenOutcome {
    if (typ !== undefined && !ACCESS_TOKEN_TYPES.has(typ.toLowerCase()))
      return invalid('its type is not that of an access token')
    const skewMs = this.#config.clockSkewMs
    const { iat, exp } = claims
    if (typeof iat === 'number' && iat * 1000 > this.#now() + skewMs) return invalid('it is issued in the future')
    const user = userFromClaims(claims, this.#config.claims)
    if (!user.ok) return invalid(user.error)
    const { requiredScopes } = this.#config
    if (!requiredScopes.every(scope => user.value.scopes.includes(scope))) {
      return err({ reason: 'user_scope_missing', requiredScopes: scopesToAskFor(requiredScopes) })
    }
    return ok({
      user: user.value,
      // The skew is granted once, here, so that calls and open streams end at the same moment.
      expiresAtMs: (exp as number) * 1000 + skewMs,
      boundTo: thumbprint(claims.cnf),
    })
  }
}

/** Whether two configurations verify alike, so that a verifier and what it remembers can stay over a reload. */
export function isSameJwt(left: JwtConfig | undefined, right: JwtConfig | undefined): boolean {
  return JSON.stringify(left) === JSON.stringify(right)
}

type Known = Extract<TokenOutcome, { ok: true }>

function keySourceFor(jwks: string, report: KeyReport, now: () => number): KeySource {
  return /^https?:\/\//i.test(jwks)
    ? new RemoteKeySource(jwks, { fetchText, now, report })
    : new FileKeySource(jwks, report)
}

/** A key that is published cannot be a secret one, so HMAC has no place whatever the configuration says. */
const ASYMMETRIC: ReadonlySet<string> = new Set([
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
])

/** An ID-JAG (`oauth-id-jag+jwt`), a DPoP proof or a logout token is signed by the same keys and is no access token. */
const ACCESS_TOKEN_TYPES: ReadonlySet<string> = new Set(['jwt', 'at+jwt', 'application/jwt', 'application/at+jwt'])

const LONGEST_TOKEN = 16_384
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/
const TOO_LONG = invalid(`it is longer than ${LONGEST_TOKEN} characters`)
const EXPIRED = err<Refusal>({ reason: 'user_token_expired' })
const UNVERIFIABLE = err<Refusal>({ reason: 'user_token_unverifiable', detail: 'no keys of the issuer' })

function invalid(detail: string): TokenOutcome {
  return err({ reason: 'user_token_invalid', detail })
}

function refusalFor(error: unknown): TokenOutcome {
  switch (codeOf(error)) {
    case 'ERR_JWT_EXPIRED':
      return EXPIRED
    case 'ERR_JWT_CLAIM_VALIDATION_FAILED': {
      const { claim } = error as errors.JWTClaimValidationFailed
      return invalid(WORDS_FOR_CLAIM[claim] ?? `claim ${claim}`)
    }
    case 'ERR_JOSE_ALG_NOT_ALLOWED':
      return invalid('its algorithm is not accepted')
    case 'ERR_JWKS_NO_MATCHING_KEY':
      return invalid('its key is none of the issuer’s')
    case 'ERR_JWKS_MULTIPLE_MATCHING_KEYS':
      return invalid('it names no key, and several fit')
    case 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED':
      return invalid('its signature is wrong')
    default:
      return invalid('it is malformed or its key cannot be used')
  }
}

/** The code of one of jose's errors; part of its public surface, as their classes are. */
function codeOf(error: unknown): string | undefined {
  return (error as Partial<errors.JOSEError> | undefined)?.code
}

const WORDS_FOR_CLAIM: Record<string, string> = {
  iss: 'its issuer is another',
  aud: 'its audience is another',
  nbf: 'it is not valid yet',
  exp: 'it has no expiry',
}

/** `cnf.x5t#S256` (base64url) as lower-case hex. @source RFC 8705 §3.1 */
function thumbprint(cnf: JsonValue | undefined): string | undefined {
  if (typeof cnf !== 'object' || cnf === null || Array.isArray(cnf)) return undefined
  const text = cnf['x5t#S256']
  return typeof text === 'string' ? Buffer.from(text, 'base64url').toString('hex') : undefined
}

function boundOutcome(known: Known, peerFingerprint: string): TokenOutcome {
  const { boundTo }: VerifiedToken = known.value
  if (boundTo === peerFingerprint) return known
  const detail = boundTo === undefined ? 'it names no certificate' : 'it names another certificate'
  return err({ reason: 'user_token_unbound', detail })
}

/**
 * A bounded map that forgets what was not used lately: entries live in the newer half, move there when they are used,
 * and go when the older half is dropped. Each step takes constant time.
 */
class TwoGenerations<T> {
  readonly #half: number
  #newer = new Map<string, T>()
  #older = new Map<string, T>()

  constructor(most: number) {
    this.#half = Math.max(1, Math.floor(most / 2))
  }

  get(key: string): T | undefined {
    const value = this.#newer.get(key)
    if (value !== undefined) return value
    const old = this.#older.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set(key: string, value: T): void {
    if (this.#newer.size >= this.#half) {
      this.#older = this.#newer
      this.#newer = new Map()
    }
    this.#newer.set(key, value)
  }

  clear(): void {
    this.#newer.clear()
    this.#older.clear()
  }
}

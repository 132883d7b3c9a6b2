/** What policy says of one message, with the reason that flows on into answer, audit line and metrics. */
export interface Verdict {
  readonly effect: 'allow' | 'deny'
  /** Id of the deciding rule; `default` when none matched, `implicit` for what is always allowed to an accepted caller. */
  readonly rule: string
  /** `shadow`: the effect is recorded and the call is served all the same. */
  readonly mode: 'enforce' | 'shadow'
  /** Scopes that would turn this deny into an allow, when nothing but scopes is missing. */
  readonly missingScopes: readonly string[]
  /** The object or method that was denied. */
  readonly denied: { readonly kind: 'tool' | 'prompt' | 'resource' | 'method'; readonly name: string } | undefined
}

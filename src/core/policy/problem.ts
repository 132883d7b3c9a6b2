/** Something that is wrong with a policy: where it stands (`policy.rules[2].args.path.pattern`), and what. */
export interface PolicyProblem {
  readonly path: string
  readonly message: string
}

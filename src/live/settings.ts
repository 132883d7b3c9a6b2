import type { Config } from '../config/config.ts'
import { compileGlob, type Glob } from '../core/glob.ts'
import { type CompiledIdentity, compileIdentity } from '../core/identity/identify.ts'
import { type CompiledPolicy, compilePolicy } from '../core/policy/compile.ts'
import type { PatternEngine } from '../core/policy/compile-arguments.ts'
import { quotaProblems } from '../core/quota/compile.ts'
import { compilePaths, type PathTable } from '../core/request-path.ts'
import { err, ok, type Result } from '../core/result.ts'
import { type CompiledPeers, compilePeers } from '../core/trust/peer-match.ts'

/**
 * One generation of the configuration, compiled: all that a call is judged by. Immutable, replaced whole; a call reads
 * it once and keeps it, and its audit line carries the generation.
 */
export interface Settings {
  readonly config: Config
  readonly paths: PathTable
  readonly peers: CompiledPeers
  readonly identity: CompiledIdentity
  readonly policy: CompiledPolicy
  readonly toolTimeouts: readonly { readonly matches: Glob; readonly firstByteMs: number }[]
}

/** Something in a valid configuration that does not compile, with the path of the setting. */
export interface SettingProblem {
  readonly path: string
  readonly message: string
}

/** @param patterns  The engine for `args.….pattern`, when the policy has any. */
export function compileSettings(
  config: Config,
  patterns: PatternEngine | undefined,
): Result<Settings, SettingProblem[]> {
  const policy = compilePolicy(config.policy, patterns)
  const problems = [...(policy.ok ? [] : policy.error), ...quotaProblems(config.quotas)]
  if (!policy.ok || problems.length > 0) return err(problems)
  return ok({
    config,
    paths: compilePaths(config.upstream.paths),
    peers: compilePeers(config.peers),
    identity: compileIdentity(config),
    policy: policy.value,
    toolTimeouts: config.upstream.timeouts.tools.map(({ tool, firstByteMs }) => ({
      matches: compileGlob(tool),
      firstByteMs,
    })),
  })
}

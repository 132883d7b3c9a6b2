import { createPrivateKey } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { AuditConfig, TlsConfig, UpstreamConfig } from '../config/config.ts'
import { type ConfigProblem, formatProblem, type Loaded } from '../config/load.ts'
import type { Parts } from '../config/parts.ts'
import { policySchema } from '../config/policy-schema.ts'
import type { JsonValue } from '../core/json.ts'
import { compilePolicy } from '../core/policy/compile.ts'
import { lintPolicy, type Recorded } from '../core/policy/lint.ts'
import { readRecorded } from '../core/policy/recorded.ts'
import { quotaProblems } from '../core/quota/compile.ts'
import { explainTrust, mountPoints } from '../core/trust/explain.ts'
import type { TrustSetting } from '../core/trust/problem.ts'
import { podAddresses, probeExposure } from '../edge/exposure.ts'
import { readGeneration } from '../edge/files/read-generation.ts'
import { patternEngineFor } from '../edge/pattern-engine.ts'
import { readTrustFiles } from '../edge/trust-source.ts'
import { addConfigOption, type ConfigFlags, readConfigParts, readTextFile } from './config-file.ts'
import { CliError, type CliIo, complain, oneLine, styles } from './io.ts'

interface CheckFlags extends ConfigFlags {
  pod: boolean
  tools?: string
}

const PROBE_MS = 1000

/** `mcp-sidecar check`: everything that is wrong with configuration, policy and certificates, before it matters. */
export function registerCheck(program: Command, io: CliIo): void {
  addConfigOption(program.command('check'))
    .description('validate configuration, policy, certificates, CA and revocation lists; every problem with its line')
    .option('--pod', "from inside the pod: also that the upstream is closed on the pod's own addresses", false)
    .option('--tools <file>', 'recorded answer to tools/list (JSON): also what the policy names and the server lacks')
    .action((flags: CheckFlags) => check(flags, io))
}

async function check(flags: CheckFlags, io: CliIo): Promise<void> {
  const parts = readConfigParts(flags, io)
  const { config, loaded } = parts
  const found = new Findings(parts)
  const recorded = flags.tools === undefined ? {} : recordedFrom(resolve(io.cwd, flags.tools))
  await checkPolicy(parts, recorded, found)
  for (const { path, message } of quotaProblems(config.quotas ?? [])) found.fail(path, message)
  const facts = config.tls === undefined ? [] : await checkTrust(config.tls, found)
  checkKeyFiles(config.audit, config.identity?.jwt?.jwks, found)
  if (flags.pod && config.upstream !== undefined) await checkPod(config.upstream, found)

  const { yellow } = styles(io.stderr, io.env)
  for (const problem of found.problems) complain(io, formatProblem(problem))
  for (const warning of found.warnings) complain(io, `${yellow('warning')}: ${formatProblem(warning)}`)
  if (loaded === undefined || found.problems.length > 0) {
    io.stdout.write(`${counted(found.problems.length, 'problem')}, ${counted(found.warnings.length, 'warning')}\n`)
    io.exit(1)
  } else {
    io.stdout.write(summary(loaded, facts, found.warnings.length, flags.pod))
  }
}

async function checkPolicy({ config: { policy }, rules }: Parts, recorded: Recorded, found: Findings): Promise<void> {
  if (policy !== undefined) {
    const compiled = compilePolicy(policy, await patternEngineFor(policy))
    if (compiled.ok) for (const { path, message } of lintPolicy(compiled.value, recorded)) found.warn(path, message)
    else for (const { path, message } of compiled.error) found.fail(path, message)
    return
  }
  // Each by itself: whether it has its use beside the others cannot be said before those are right.
  for (const [index, rule] of rules) {
    const alone = { ...policySchema.parse({}), rules: [rule] }
    const compiled = compilePolicy(alone, await patternEngineFor(alone))
    if (compiled.ok) continue
    for (const { path, message } of compiled.error) found.fail(path.replace('rules[0]', `rules[${index}]`), message)
  }
}

/** What the server was seen to offer, in a file that the user named. */
function recordedFrom(path: string): Recorded {
  let value: JsonValue
  try {
    value = JSON.parse(readTextFile(path)) as JsonValue
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError(1, `${path}: is not JSON; save the answer to tools/list as the server sends it`)
  }
  const recorded = readRecorded(value)
  if (recorded !== undefined) return recorded
  throw new CliError(1, `${path}: holds no list of tools; save the answer to tools/list as the server sends it`)
}

/** All that is wrong, beginning with what the reading itself has found. */
class Findings {
  readonly problems: ConfigProblem[]
  readonly warnings: ConfigProblem[] = []
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
    this.problems = [...parts.problems]
  }

  fail(path: string, message: string): void {
    this.problems.push(this.#parts.problemAt(path, message))
  }

  warn(path: string, message: string): void {
    this.warnings.push(this.#parts.problemAt(path, message))
  }
}

/** The files that `tls` names, read and judged together as the sidecar would. @returns what there is, in words. */
async function checkTrust(tls: TlsConfig, found: Findings): Promise<readonly string[]> {
  const settings: [TrustSetting, string | undefined][] = [
    ['tls.cert', tls.cert],
    ['tls.key', tls.key],
    ['tls.clientCa', tls.clientCa],
    ['tls.crl', tls.crl],
  ]
  const named = settings.filter((entry): entry is [TrustSetting, string] => entry[1] !== undefined)
  const nowMs = Date.now()
  const bundle = readTrustFiles(await readGeneration(named.map(([, path]) => path)), tls, nowMs)
  const mounts = mountPointsHere()
  const files = named.map(([setting, path]) => ({
    setting,
    path,
    mode: statSync(path, { throwIfNoEntry: false })?.mode,
    isMountPoint: mounts.has(path),
  }))
  const { problems, warnings, facts } = explainTrust(bundle, tls, files, nowMs)
  // Each begins with its setting; that is the path of the problem, and the rest is the message.
  const split = (finding: string) =>
    [finding.slice(0, finding.indexOf(' ')), finding.slice(finding.indexOf(' ') + 1)] as const
  for (const problem of problems) found.fail(...split(problem))
  for (const warning of warnings) found.warn(...split(warning))
  return facts
}

function mountPointsHere(): Set<string> {
  try {
    return mountPoints(readFileSync('/proc/self/mountinfo', 'utf8'))
  } catch {
    // Not Linux; no pod then, and no subPath either.
    return new Set()
  }
}

function checkKeyFiles(audit: AuditConfig | undefined, jwks: string | undefined, found: Findings): void {
  const check = (setting: string, path: string | undefined, judge: (text: Buffer) => string | undefined) => {
    if (path === undefined) return
    try {
      const fault = judge(readFileSync(path))
      if (fault !== undefined) found.fail(setting, `${path} ${fault}`)
    } catch (error) {
      found.fail(setting, `${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unreadable'})`)
    }
  }
  check('audit.signingKey', audit?.signingKey, text =>
    keyTypeOf(text) === 'ed25519' ? undefined : 'holds no Ed25519 private key in PEM',
  )
  check('audit.digestKey', audit?.digestKey, text => (text.length >= 16 ? undefined : 'holds less than 16 bytes'))
  check('identity.jwt.jwks', jwks !== undefined && !/^https?:/.test(jwks) ? jwks : undefined, text =>
    isKeySet(text) ? undefined : 'holds no JSON Web Key Set',
  )
}

function keyTypeOf(pem: Buffer): string | undefined {
  try {
    return createPrivateKey(pem).asymmetricKeyType
  } catch {
    return undefined
  }
}

function isKeySet(text: Buffer): boolean {
  try {
    const value = JSON.parse(text.toString('utf8')) as { keys?: unknown } | null
    return Array.isArray(value?.keys) && value.keys.length > 0
  } catch {
    return false
  }
}

async function checkPod(upstream: UpstreamConfig, found: Findings): Promise<void> {
  for (const { address, port } of await probeExposure(upstream.target, podAddresses(), PROBE_MS)) {
    found.fail(
      'upstream.url',
      `port ${port} is open on ${address}: everybody who reaches this pod gets past the sidecar; let the server listen on 127.0.0.1 only`,
    )
  }
}

function summary({ config }: Loaded, facts: readonly string[], warnings: number, isPodChecked: boolean): string {
  const { peers, policy, quotas, upstream } = config
  const lines = [
    `has ${counted(peers.length, 'peer')} and ${counted(quotas.length, 'quota')} before ${upstream.url}`,
    `policy ${policy.mode}, ${counted(policy.rules.length, 'rule')}, otherwise ${policy.default}`,
    ...facts,
  ]
  if (isPodChecked) lines.push("the upstream is closed on the pod's own addresses")
  return `${lines.map(line => `${oneLine(line)}\n`).join('')}no problems, ${counted(warnings, 'warning')}\n`
}

function counted(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

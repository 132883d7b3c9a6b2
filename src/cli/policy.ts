import { dirname, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { parseDocument } from 'yaml'
import type { PolicyConfig } from '../config/config.ts'
import { type ConfigProblem, formatProblem, loadConfig, loadPolicy } from '../config/load.ts'
import { Unwrapper } from '../core/audit/unwrap.ts'
import type { JsonObject, JsonValue } from '../core/json.ts'
import { type CompiledPolicy, compilePolicy } from '../core/policy/compile.ts'
import { visibleInLists } from '../core/policy/decide.ts'
import { explain } from '../core/policy/explain.ts'
import { type CaseResult, readFixtures, runCase, sayRule, sayVerdict } from '../core/policy/fixtures.ts'
import { type ReplayReport, startReplay } from '../core/policy/replay.ts'
import { callerFor, messageFor, sayCall, sayCaller } from '../core/policy/specimen.ts'
import { readLines } from '../edge/log-file.ts'
import { patternEngineFor } from '../edge/pattern-engine.ts'
import { readTextFile } from './config-file.ts'
import { CliError, type CliIo, oneLine, styles } from './io.ts'

/** `mcp-sidecar policy test | explain | replay`: a policy tried before it decides anything. */
export function registerPolicy(program: Command, io: CliIo): void {
  const policy = program.command('policy').description('try a policy: fixtures, one call, recorded calls')
  withPolicy(policy.command('test'))
    .argument('<file>', 'fixtures in YAML: callers, calls, and what is to be decided of each')
    .description('run policy fixtures and show what differs')
    .action((file: string, flags: PolicyFlags) => testPolicy(file, flags, io))
  withPolicy(policy.command('explain'))
    .description('say which rule decides one call, and why each of the others does not')
    .option('--peer <name>', 'entry of peers that the call comes through')
    .option('--peer-uri <uri>', "URI in the peer's certificate")
    .option('--user <id>', 'user; without one only the peer is known')
    .option('--org <id>', "the user's organisation")
    .option('--scope <scope>', 'a scope that the user holds; repeatable', collect, [])
    .option('--role <role>', 'a role that the user has; repeatable', collect, [])
    .addOption(new Option('--tool <name>', 'the tool that is called').conflicts(['prompt', 'resource']))
    .addOption(new Option('--prompt <name>', 'the prompt that is got').conflicts('resource'))
    .option('--resource <uri>', 'the resource that is read')
    .option('--method <method>', 'the method, when it is not the usual one of the object')
    .option('--args <json>', 'arguments of the call, as a JSON object')
    .option('--json', 'print everything as JSON', false)
    .action((flags: ExplainFlags) => explainPolicy(flags, io))
  withPolicy(policy.command('replay'))
    .argument('<file...>', "audit lines as written to stdout or as a container runtime kept them ('.gz' too)")
    .description('judge recorded calls by another policy and show the verdicts that change')
    .option('--strict', 'exit with 1 when any verdict changes', false)
    .option('--json', 'print the report as JSON', false)
    .action((files: string[], flags: ReplayFlags) => replayPolicy(files, flags, io))
}

interface PolicyFlags {
  policy?: string | undefined
  config?: string | undefined
}

interface ExplainFlags extends PolicyFlags {
  peer?: string
  peerUri?: string
  user?: string
  org?: string
  scope: string[]
  role: string[]
  tool?: string
  prompt?: string
  resource?: string
  method?: string
  args?: string
  json: boolean
}

interface ReplayFlags extends PolicyFlags {
  strict: boolean
  json: boolean
}

function withPolicy(command: Command): Command {
  return command
    .addOption(new Option('-p, --policy <file>', 'policy in a file of its own').conflicts('config'))
    .option('-c, --config <file>', 'configuration with the policy in it (or MCP_SIDECAR_CONFIG)')
}

async function testPolicy(file: string, flags: PolicyFlags, io: CliIo): Promise<void> {
  const path = resolve(io.cwd, file)
  const fixtures = readFixtures(parseYaml(readTextFile(path), file))
  if (!fixtures.ok) {
    throw new CliError(
      1,
      fixtures.error.map(({ path, message }) => `${file}: ${path === '' ? '' : `${path}: `}${message}`),
    )
  }
  const { cases, policy, config } = fixtures.value
  const isNamed = flags.policy !== undefined || flags.config !== undefined
  // What stands in the fixtures is relative to them; what stands on the command line comes first.
  const named = isNamed || (policy === undefined && config === undefined) ? flags : { policy, config }
  const compiled = await readPolicy(named, isNamed ? io.cwd : dirname(path), io)
  const results = cases.map(one => runCase(compiled, one))
  const { green, red, bold } = styles(io.stdout, io.env)
  for (const result of results) {
    io.stdout.write(`${result.passed ? green('✓') : red('✗')} ${oneLine(result.name)}\n`)
    if (!result.passed) io.stdout.write(differenceText(result, io))
  }
  const failed = results.filter(({ passed }) => !passed).length
  const summary = failed === 0 ? green(`${results.length} as expected`) : red(`${failed} of ${results.length} differ`)
  io.stdout.write(`${bold(summary)}\n`)
  if (failed > 0) io.exit(1)
}

function differenceText({ caller, call, differences, because }: CaseResult, io: CliIo): string {
  const { green, red, dim } = styles(io.stdout, io.env)
  const lines = [`    caller   ${oneLine(caller)}`, `    call     ${oneLine(call)}`]
  for (const { expected, actual } of differences) {
    lines.push(green(`  - expected ${oneLine(expected)}`), red(`  + decided  ${oneLine(actual)}`))
  }
  for (const reason of because) lines.push(dim(`    ${oneLine(reason)}`))
  return `${lines.join('\n')}\n`
}

async function explainPolicy(flags: ExplainFlags, io: CliIo): Promise<void> {
  const call = {
    tool: flags.tool,
    prompt: flags.prompt,
    resource: flags.resource,
    method: flags.method,
    args: flags.args === undefined ? undefined : jsonObject(flags.args),
  }
  const who = {
    peer: flags.peer,
    uri: flags.peerUri,
    user: flags.user,
    org: flags.org,
    scopes: flags.scope,
    roles: flags.role,
  }
  const message = messageFor(call)
  if (!message.ok) throw new CliError(2, message.error)
  const policy = await readPolicy(flags, io.cwd, io)
  const caller = callerFor(who)
  const explanation = explain(policy, caller, message.value)
  const isVisible = visibleInLists(policy, caller, message.value)
  if (flags.json) {
    io.stdout.write(`${JSON.stringify({ ...explanation, visible: isVisible }, null, 2)}\n`)
    return
  }
  const { bold, dim, green, red } = styles(io.stdout, io.env)
  const { verdict, summary, judged } = explanation
  const paint = verdict.effect === 'allow' ? green : red
  io.stdout.write(`caller   ${oneLine(sayCaller(who))}\ncall     ${oneLine(sayCall(call))}\n`)
  io.stdout.write(`verdict  ${bold(paint(sayVerdict(verdict)))}\n         ${oneLine(summary)}\n`)
  if (isVisible !== undefined) io.stdout.write(`lists    ${isVisible ? 'show it' : 'do not show it'}\n`)
  for (const { what, rules } of judged) {
    io.stdout.write(`${bold(oneLine(what))}\n`)
    const sorted = [...rules].sort(
      (a, b) => Number(b.decides) - Number(a.decides) || Number(b.matches) - Number(a.matches),
    )
    if (sorted.length === 0) io.stdout.write(dim('  there are no rules\n'))
    for (const rule of sorted) {
      const text = `  ${oneLine(sayRule(rule))}\n`
      io.stdout.write(rule.decides ? bold(text) : rule.matches ? text : dim(text))
    }
  }
}

async function replayPolicy(files: string[], flags: ReplayFlags, io: CliIo): Promise<void> {
  const replay = startReplay(await readPolicy(flags, io.cwd, io))
  for (const file of files) {
    const unwrapper = new Unwrapper()
    const take = (raw: Buffer, number: number) => {
      const unwrapped = unwrapper.unwrap(raw, number)
      if (unwrapped.kind === 'line') replay.line(unwrapped.bytes.toString('utf8'))
    }
    const cut = await readLines(resolve(io.cwd, file), take, () => {}).catch((error: NodeJS.ErrnoException) => {
      throw new CliError(1, `${file}: the file cannot be read (${error.code ?? error.message})`)
    })
    if (cut !== undefined) take(cut.rest, cut.number)
  }
  const report = replay.report()
  io.stdout.write(flags.json ? `${JSON.stringify(report, null, 2)}\n` : reportText(report, io))
  if (flags.strict && report.changes.length > 0) io.exit(1)
}

function reportText(report: ReplayReport, io: CliIo): string {
  const { bold, dim, green, red, yellow } = styles(io.stdout, io.env)
  const { judged, same, sameByAnotherRule, changes, uncertain, withoutVerdict, unreadable } = report
  const changed = changes.reduce((sum, { count }) => sum + count, 0)
  const lines = [
    bold(`${judged} calls judged again: ${changed} change, ${same} do not, ${sameByAnotherRule} only by which rule`),
  ]
  for (const change of changes) {
    const paint = change.after.startsWith('allow') ? green : red
    const doubt = change.uncertain === 0 ? '' : yellow(`, ${change.uncertain} uncertain`)
    lines.push(`${String(change.count).padStart(8)}  ${oneLine(change.call)}${doubt}`)
    lines.push(`          ${oneLine(change.before)} → ${paint(oneLine(change.after))}`)
    lines.push(dim(`          ${change.callers.map(oneLine).join('; ')}`))
    lines.push(dim(`          ${oneLine(change.firstAt)} to ${oneLine(change.lastAt)}`))
  }
  if (uncertain > 0) {
    lines.push(yellow(`${uncertain} calls are uncertain: rules look at arguments that were not recorded in full`))
  }
  if (withoutVerdict > 0) lines.push(dim(`${withoutVerdict} lines hold no verdict of a policy`))
  if (unreadable > 0) lines.push(yellow(`${unreadable} lines could not be read`))
  return `${lines.join('\n')}\n`
}

async function readPolicy(flags: PolicyFlags, base: string, io: CliIo): Promise<CompiledPolicy> {
  const { policy, problemAt } = readPolicyConfig(flags, base, io)
  const compiled = compilePolicy(policy, await patternEngineFor(policy))
  if (compiled.ok) return compiled.value
  throw new CliError(
    1,
    compiled.error.map(({ path, message }) => formatProblem(problemAt(path, message))),
  )
}

function readPolicyConfig(
  flags: PolicyFlags,
  base: string,
  io: CliIo,
): { policy: PolicyConfig; problemAt: (path: string, message: string) => ConfigProblem } {
  const named = flags.policy ?? flags.config ?? io.env['MCP_SIDECAR_CONFIG']
  if (!named) throw new CliError(2, 'no policy: give --policy FILE or --config FILE')
  const path = resolve(base, named)
  const text = readTextFile(path)
  if (flags.policy !== undefined) {
    const loaded = loadPolicy(text, { path, env: io.env })
    if (!loaded.ok) throw new CliError(1, loaded.error.map(formatProblem))
    return loaded.value
  }
  const loaded = loadConfig(text, { path, env: io.env })
  if (!loaded.ok) throw new CliError(1, loaded.error.map(formatProblem))
  return { policy: loaded.value.config.policy, problemAt: loaded.value.problemAt }
}

function parseYaml(text: string, file: string): unknown {
  const document = parseDocument(text)
  const faults = [...document.errors, ...document.warnings]
  if (faults.length === 0) {
    try {
      return document.toJS({ maxAliasCount: 100 })
    } catch (error) {
      // An alias without its anchor, or aliases of aliases that would blow up.
      throw new CliError(1, `${file}: ${(error as Error).message}`)
    }
  }
  throw new CliError(
    1,
    faults.map(({ message, linePos }) => {
      const at = linePos?.[0]
      return `${file}${at ? `:${at.line}:${at.col}` : ''}: ${message.split('\n')[0] ?? ''}`
    }),
  )
}

function jsonObject(text: string): JsonObject {
  let value: JsonValue
  try {
    value = JSON.parse(text)
  } catch {
    throw new CliError(2, '--args is not JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CliError(2, '--args must be a JSON object')
  }
  return value
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

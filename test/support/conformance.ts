import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a revision of MCP requires, as the official suite has frozen it. */
export const REQUIREMENT_SETS = ['2025-11-25', '2026-07-28'] as const
export type RequirementSet = (typeof REQUIREMENT_SETS)[number]

export interface SuiteRun {
  /** Whether every scenario passes that counts; some are run without counting. */
  readonly conforms: boolean
  readonly passed: number
  readonly failed: number
  /** The checks of each scenario in their order, each as `name: STATUS`. */
  readonly scenarios: ReadonlyMap<string, readonly string[]>
}

/** Runs the official suite against an MCP server, as a process of its own. Throws when it takes too long. */
export async function runSuite(url: string, set: RequirementSet): Promise<SuiteRun> {
  const results = mkdtempSync(join(tmpdir(), 'mcp-conformance-'))
  try {
    const args = [SUITE, 'server', '--url', url, '--requirements', set, '--timeout', '20000', '-o', results]
    const code = await run(args)
    const scenarios = readResults(results)
    if (scenarios.size === 0) throw new Error(`the conformance suite has left no results (exit code ${code})`)
    const checks = [...scenarios.values()].flat()
    return {
      conforms: code === 0,
      passed: checks.filter(check => check.endsWith(': SUCCESS')).length,
      failed: checks.filter(check => check.endsWith(': FAILURE')).length,
      scenarios,
    }
  } finally {
    rmSync(results, { recursive: true, force: true })
  }
}

/** A scenario that did not go the same way twice. */
export interface Difference {
  readonly scenario: string
  /** Checks of one run that the other does not have, in the notation of diff. */
  readonly lines: readonly string[]
}

/** Scenario by scenario and check by check. */
export function compareRuns(direct: SuiteRun, through: SuiteRun): Difference[] {
  const differences: Difference[] = []
  for (const scenario of new Set([...direct.scenarios.keys(), ...through.scenarios.keys()])) {
    const before = direct.scenarios.get(scenario) ?? ['the scenario was not run']
    const after = through.scenarios.get(scenario) ?? ['the scenario was not run']
    if (before.join('\n') === after.join('\n')) continue
    const lines = [
      ...without(before, after).map(line => `- ${line}`),
      ...without(after, before).map(line => `+ ${line}`),
    ]
    differences.push({ scenario, lines: lines.length > 0 ? lines : ['  the same checks in another order'] })
  }
  return differences.sort((a, b) => (a.scenario < b.scenario ? -1 : 1))
}

const require = createRequire(import.meta.url)
const SUITE = require.resolve('@modelcontextprotocol/conformance/dist/index.js')
const LONGEST_RUN_MS = 90_000

function run(args: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, NO_COLOR: '1' } })
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`the conformance suite was not done after ${LONGEST_RUN_MS} ms`))
    }, LONGEST_RUN_MS)
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(late)
      resolve(code ?? 1)
    })
  })
}

interface Check {
  readonly name: string
  readonly status: string
}

/** The suite leaves a folder `server-<scenario>-<time>` for each scenario. */
function readResults(folder: string): Map<string, readonly string[]> {
  const scenarios = new Map<string, readonly string[]>()
  for (const name of readdirSync(folder).sort()) {
    const scenario = /^server-(.+)-\d{4}-\d\d-\d\dT.*$/.exec(name)?.[1]
    if (scenario === undefined) continue
    const checks = JSON.parse(readFileSync(join(folder, name, 'checks.json'), 'utf8')) as Check[]
    const lines = checks.map(check => `${check.name}: ${check.status}`)
    scenarios.set(scenario, lines)
  }
  return scenarios
}

/** What `some` has more than `others`, each line as often. */
function without(some: readonly string[], others: readonly string[]): string[] {
  const left = [...others]
  return some.filter(line => {
    const at = left.indexOf(line)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

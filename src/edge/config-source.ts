import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type ConfigProblem, formatProblem, type Loaded, loadConfig } from '../config/load.ts'
import { err, ok, type Result } from '../core/result.ts'
import { compileSettings, type Settings } from '../live/settings.ts'
import { patternEngineFor } from './pattern-engine.ts'

/** A configuration that is valid and compiled, with what is needed to speak of it. */
export interface ReadSettings {
  readonly settings: Settings
  readonly loaded: Loaded
}

/**
 * Reads the configuration file and what it names, validates and compiles it. Nothing is published here.
 *
 * @param path  As given on the command line, made absolute.
 * @returns     Every problem, one readable line each.
 */
export async function readSettings(
  path: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Result<ReadSettings, string[]>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    return err([`${path}: cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`])
  }
  const loaded = loadConfig(text, { path, env, readFile: file => readFileSync(file, 'utf8') })
  if (!loaded.ok) return err(loaded.error.map(formatProblem))
  const { config, problemAt } = loaded.value
  const compiled = compileSettings(config, await patternEngineFor(config.policy))
  if (!compiled.ok) {
    return err(compiled.error.map(({ path: at, message }): ConfigProblem => problemAt(at, message)).map(formatProblem))
  }
  return ok({ settings: compiled.value, loaded: loaded.value })
}

/** Settings that only a restart can change; when one of them differs after a reload, that is said. */
export function needsRestart(before: Settings, after: Settings): string[] {
  const fixed = ['listen', 'upstream', 'admin', 'quotaStore', 'limits', 'drain'] as const
  const changed: string[] = fixed.filter(
    key => JSON.stringify(before.config[key]) !== JSON.stringify(after.config[key]),
  )
  // One chain and its keys stay for the life of the process: a chain that changed its rules could not be verified.
  const chained = ['chain', 'signingKey', 'digestKey', 'checkpointEvery'] as const
  for (const key of chained) if (before.config.audit[key] !== after.config.audit[key]) changed.push(`audit.${key}`)
  return changed
}

import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { keepFixed } from '../config/fixed.ts'
import { type ConfigProblem, formatProblem, type Loaded, loadConfig } from '../config/load.ts'
import { err, ok, type Result } from '../core/result.ts'
import { compileSettings, type Settings } from '../live/settings.ts'
import { patternEngineFor } from './pattern-engine.ts'

/** A configuration that is valid and compiled, with what is needed to speak of it. */
export interface ReadSettings {
  readonly settings: Settings
  readonly loaded: Loaded
  /** Settings that the file has otherwise than they are in force; they take effect at the next start. */
  readonly waiting: readonly string[]
}

/**
 * Reads the configuration file and what it names, validates and compiles it. Nothing is published here.
 *
 * @param path     As given on the command line, made absolute.
 * @param inForce  What the process runs with. What only a start can change stays as it is there, before anything is
 *                 compiled of it, so that no part of it can get into use.
 * @returns        Every problem, one readable line each.
 */
export async function readSettings(
  path: string,
  env: Readonly<Record<string, string | undefined>>,
  inForce?: Loaded,
): Promise<Result<ReadSettings, string[]>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    return err([`${path}: cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`])
  }
  const read = loadConfig(text, { path, env, readFile: file => readFileSync(file, 'utf8') })
  if (!read.ok) return err(read.error.map(formatProblem))
  const { loaded, waiting } =
    inForce === undefined ? { loaded: read.value, waiting: [] } : keepFixed(read.value, inForce)
  const { config, problemAt } = loaded
  const compiled = compileSettings(config, await patternEngineFor(config.policy))
  if (!compiled.ok) {
    return err(compiled.error.map(({ path: at, message }): ConfigProblem => problemAt(at, message)).map(formatProblem))
  }
  return ok({ settings: compiled.value, loaded, waiting })
}

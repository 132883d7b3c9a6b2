import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { keepFixed } from '../config/fixed.ts'
import { type ConfigProblem, formatProblem, type Loaded, readConfiguration } from '../config/load.ts'
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

/** Why there is none. */
export interface NotRead {
  /** One readable line each. */
  readonly problems: readonly string[]
  /** Files that it is made of, as far as that could be read: when one of them changes, it may be valid. */
  readonly files: readonly string[]
}

/**
 * Reads the configuration file and what it names, validates and compiles it. Nothing is published here.
 *
 * @param path     As given on the command line, made absolute.
 * @param inForce  What the process runs with. What only a start can change stays as it is there, before anything is
 *                 compiled of it, so that no part of it can get into use.
 */
export async function readSettings(
  path: string,
  env: Readonly<Record<string, string | undefined>>,
  inForce?: Loaded,
): Promise<Result<ReadSettings, NotRead>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? 'unknown error'
    return err({ problems: [`${path}: cannot be read (${why})`], files: [path] })
  }
  const reading = readConfiguration(text, { path, env, readFile: file => readFileSync(file, 'utf8') })
  const notRead = (problems: readonly ConfigProblem[]) =>
    err({ problems: problems.map(formatProblem), files: reading.files })
  if (reading.loaded === undefined) return notRead(reading.problems)
  const { loaded, waiting } =
    inForce === undefined ? { loaded: reading.loaded, waiting: [] } : keepFixed(reading.loaded, inForce)
  const { config, problemAt } = loaded
  const compiled = compileSettings(config, await patternEngineFor(config.policy))
  if (!compiled.ok) return notRead(compiled.error.map(({ path: at, message }) => problemAt(at, message)))
  return ok({ settings: compiled.value, loaded, waiting })
}

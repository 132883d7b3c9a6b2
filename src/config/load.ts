import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type * as z from 'zod'
import type { JsonObject, JsonValue } from '../core/json.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Config, PolicyConfig } from './config.ts'
import { crossChecks, type Finding } from './cross-checks.ts'
import { policySchema } from './policy-schema.ts'
import { configSchema } from './schema.ts'
import { type ConfigProblem, join, KEY, type Place, type Replaced, readSource, type Source } from './source.ts'

export type { ConfigProblem } from './source.ts'

/** Where a configuration comes from. */
export interface ConfigOrigin {
  /** File that the text was read from; relative paths in it are relative to its folder. */
  readonly path: string
  readonly env: Readonly<Record<string, string | undefined>>
  /** Reads another file that the configuration names; throws when it cannot. */
  readonly readFile?: (path: string) => string
}

/** A configuration that is valid, with all that is needed to speak of it. */
export interface Loaded {
  readonly config: Config
  /** Files whose change means another configuration: the file itself and that of the policy. Absolute. */
  readonly files: readonly string[]
  /** As it is written: `${NAME}` unreplaced, no defaults, the policy file put in its place. */
  readonly written: JsonObject
  /** Turns what another part found wrong with a value (a pattern that does not compile, …) into a problem with a line. */
  readonly problemAt: (path: string, message: string) => ConfigProblem
  /** The text with every value from the environment shown as `${NAME}`, for messages of whatever origin. */
  readonly conceal: (text: string) => string
}

/**
 * Text to configuration: parsed, `${NAME}` replaced, validated, defaults filled in, paths made absolute. Everything
 * that is wrong is told at once, in the order of the file; nothing is told of the contents of the environment.
 */
export function loadConfig(text: string, origin: ConfigOrigin): Result<Loaded, ConfigProblem[]> {
  const { loaded, problems } = readConfiguration(text, origin)
  return loaded === undefined ? err([...problems]) : ok(loaded)
}

/** What a text says, and all that is wrong with it. */
export interface Reading extends Pick<Loaded, 'files' | 'problemAt' | 'conceal'> {
  /** As it was parsed: unvalidated, `${NAME}` replaced, the policy file put in its place. */
  readonly value: JsonObject
  readonly problems: readonly ConfigProblem[]
  /** The whole, when nothing is wrong with it. */
  readonly loaded: Loaded | undefined
}

/** The same for those who go on with what is left when something is wrong. */
export function readConfiguration(text: string, origin: ConfigOrigin): Reading {
  const file = resolve(origin.path)
  const source = readSource(text, file, origin.env)
  const policy = policySource(source, file, origin)
  const sources = policy ? [source, policy.source] : [source]
  const reporter = new Reporter(file, sources)
  const common = {
    files: policy ? [file, policy.file] : [file],
    problemAt: (path: string, message: string) => reporter.problem({ path, message }),
    conceal: (concealed: string) => reporter.conceal(concealed),
  }
  if (!isObject(source.value) || !isObject(source.written)) {
    const noMap = { path: '', file, line: 1, column: 1, message: 'expected a map of settings' }
    const problems = source.problems.length > 0 ? source.problems : [noMap]
    return { value: {}, problems, loaded: undefined, ...common }
  }
  const value = policy ? { ...source.value, policy: policy.source.value } : source.value
  const written = policy ? { ...source.written, policy: policy.source.written } : source.written

  const parsed = configSchema.safeParse(value, { error: wording })
  // An unset variable leaves an empty text behind; what the schema says of that would only repeat it.
  const told = new Set(sources.flatMap(({ problems }) => problems.map(problem => problem.path)))
  const findings = [...findingsOf(parsed.error, value), ...crossChecks(value)].filter(({ path }) => !told.has(path))
  const problems = [...sources.flatMap(({ problems }) => problems), ...once(findings).map(reporter.problem)]
  if (!parsed.success || problems.length > 0)
    return { value, problems: inOrder(problems, file), loaded: undefined, ...common }
  const loaded = {
    config: withAbsolutePaths(parsed.data, dirname(file)),
    written,
    ...common,
  }
  return { value, problems, loaded, ...common }
}

/** A policy in a file of its own, validated as strictly; paths in problems begin with `policy`. */
export function loadPolicy(
  text: string,
  origin: ConfigOrigin,
): Result<{ policy: PolicyConfig } & Pick<Loaded, 'problemAt' | 'conceal'>, ConfigProblem[]> {
  const file = resolve(origin.path)
  const source = readSource(text, file, origin.env, 'policy')
  if (source.problems.length > 0 && !isObject(source.value)) return err([...source.problems])
  const parsed = policySchema.safeParse(source.value, { error: wording })
  const findings = [
    ...findingsOf(parsed.error, source.value, 'policy'),
    ...crossChecks({ policy: source.value }).filter(({ path }) => path.startsWith('policy')),
  ]
  const reporter = new Reporter(file, [source])
  const problems = [...source.problems, ...once(findings).map(reporter.problem)]
  if (!parsed.success || problems.length > 0) return err(inOrder(problems, file))
  return ok({
    policy: parsed.data,
    problemAt: (path, message) => reporter.problem({ path, message }),
    conceal: text => reporter.conceal(text),
  })
}

/** One line for a person: `sidecar.yaml:12:7: policy.rules[2].tools: an empty list is not allowed`. */
export function formatProblem(problem: ConfigProblem): string {
  const path = problem.path === '' ? '' : `${problem.path}: `
  return `${problem.file}:${problem.line}:${problem.column}: ${path}${problem.message}`
}

/** The policy in its own file, when the configuration says `policy: { file: … }`. */
function policySource(
  main: Source,
  configFile: string,
  origin: ConfigOrigin,
): { source: Source; file: string } | undefined {
  const policy = isObject(main.value) ? main.value['policy'] : undefined
  if (!isObject(policy) || typeof policy['file'] !== 'string' || Object.keys(policy).length !== 1) return undefined
  const file = resolve(dirname(configFile), policy['file'])
  const read = origin.readFile ?? (path => readFileSync(path, 'utf8'))
  try {
    return { source: readSource(read(file), file, origin.env, 'policy'), file }
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? 'unreadable'
    const { line, column } = main.places.get('policy.file') ?? { line: 1, column: 1 }
    const problem = { path: 'policy.file', file: configFile, line, column, message: `the file cannot be read (${why})` }
    return { source: { value: {}, written: {}, places: new Map(), replaced: [], problems: [problem] }, file }
  }
}

/** Gives findings their place, quotes what is written there, and keeps the environment out of it. */
class Reporter {
  readonly #file: string
  readonly #sources: readonly Source[]
  readonly #replaced: readonly Replaced[]

  constructor(file: string, sources: readonly Source[]) {
    this.#file = file
    this.#sources = sources
    // Longest first: one value may be a part of another.
    this.#replaced = sources
      .flatMap(({ replaced }) => replaced)
      .filter(({ value }) => value.length >= 4)
      .sort((a, b) => b.value.length - a.value.length)
  }

  readonly problem = (finding: Finding & { isKey?: boolean }): ConfigProblem => {
    const place = this.#place(finding.path, finding.isKey === true)
    const quoted = place.exact && place.written !== undefined && finding.message.startsWith('expected')
    const message = quoted ? `${finding.message}, not ${quote(place.written ?? '')}` : finding.message
    return {
      path: finding.path,
      file: place.file,
      line: place.line,
      column: place.column,
      message: this.conceal(message),
    }
  }

  conceal(text: string): string {
    let concealed = text
    for (const { value, reference } of this.#replaced) concealed = concealed.replaceAll(value, reference)
    return concealed
  }

  /** The place of a path, or of the nearest one above that is there. */
  #place(path: string, isKey: boolean): Place & { exact: boolean } {
    // A file of its own holds everything under `policy`, so it is asked first.
    for (let at = path, exact = true; ; at = above(at), exact = false) {
      for (const source of [...this.#sources].reverse()) {
        const place = (isKey && exact) || !exact ? source.places.get(at + KEY) : undefined
        const found = place ?? source.places.get(at)
        if (found) return { ...found, written: isKey ? undefined : found.written, exact }
      }
      if (at === '') return { file: this.#file, line: 1, column: 1, written: undefined, exact: false }
    }
  }
}

function above(path: string): string {
  const match = /^(.*?)(?:\.[A-Za-z_][A-Za-z0-9_-]*|\[(?:\d+|"(?:[^"\\]|\\.)*")\]|^[A-Za-z_][A-Za-z0-9_-]*)$/s.exec(
    path,
  )
  return match?.[1] ?? ''
}

function quote(written: string): string {
  return written === '' ? 'nothing' : JSON.stringify(written.length > 80 ? `${written.slice(0, 80)}…` : written)
}

/** Our words for what the schema library finds; a message given in the schema itself comes first. */
const wording: z.core.$ZodErrorMap = issue => {
  if (issue.input === undefined) return 'must be given'
  if (issue.code === 'invalid_type') {
    if (issue.expected === 'object' || issue.expected === 'record') return 'expected a map'
    if (issue.expected === 'array') return 'expected a list'
    return `expected ${issue.expected}`
  }
  if (issue.code === 'invalid_key') return 'not a usable key here'
  return undefined
}

function findingsOf(error: z.ZodError | undefined, root: JsonValue, prefix = ''): (Finding & { isKey?: boolean })[] {
  return (error?.issues ?? []).flatMap(issue => {
    const path = issue.path.reduce<string>((above, key) => join(above, key as string | number), prefix)
    if (issue.code !== 'unrecognized_keys') return [{ path, message: issue.message }]
    const keys = knownKeys(issue.path)
    return issue.keys.slice(0, 100).map(key => ({
      path: join(path, key),
      message: `unknown key${nearest(key, keys)}`,
      isKey: true,
    }))
  })

  /** The keys that the schema has where an unknown one stands. */
  function knownKeys(path: readonly PropertyKey[]): string[] {
    let schema: unknown = prefix === 'policy' ? policySchema : configSchema
    let value: JsonValue | undefined = root
    for (const key of path) {
      schema = childSchema(unwrap(schema, value), key)
      value = (value as JsonObject | undefined)?.[String(key)]
    }
    return Object.keys((unwrap(schema, value) as { shape?: object } | undefined)?.shape ?? {})
  }
}

type AnyDef = Record<string, unknown> & { type?: string }
const definition = (schema: unknown) => (schema as { _zod?: { def: AnyDef } } | undefined)?._zod?.def

/** The schema below defaults, options and transformations; of a union the branch that the value has chosen. */
function unwrap(schema: unknown, value: JsonValue | undefined): unknown {
  const def = definition(schema)
  if (!def) return undefined
  if (def.type === 'pipe') return unwrap(definition(def['in'])?.type === 'transform' ? def['out'] : def['in'], value)
  if (def['innerType']) return unwrap(def['innerType'], value)
  if (def.type === 'union') {
    const kind = isObject(value) ? value['kind'] : undefined
    const branches = (def['options'] as unknown[]).map(option => unwrap(option, value))
    return branches.find(branch => {
      const literal = definition((branch as { shape?: Record<string, unknown> })?.shape?.['kind'])
      return (literal?.['values'] as unknown[] | undefined)?.includes(kind)
    })
  }
  return schema
}

function childSchema(schema: unknown, key: PropertyKey): unknown {
  const def = definition(schema)
  if (def?.type === 'array') return def['element']
  if (def?.type === 'record') return def['valueType']
  return (schema as { shape?: Record<string, unknown> } | undefined)?.shape?.[String(key)]
}

/** `; did you mean "tools"?` when one of the known keys is close, a list of them when there are few. */
function nearest(key: string, known: readonly string[]): string {
  const close = known
    .map(name => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, distance }) => distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance)[0]
  if (close) return `; did you mean ${close.name}?`
  return known.length > 0 ? `; known here: ${known.join(', ')}` : ''
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 8) return 99
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 99
}

/** Several checks may find the same; the first wording stays. */
function once<T extends Finding>(findings: readonly T[]): T[] {
  const seen = new Set<string>()
  return findings.filter(({ path }) => !seen.has(path) && seen.add(path))
}

/** The main file's problems first, each file's from top to bottom. */
function inOrder(problems: readonly ConfigProblem[], file: string): ConfigProblem[] {
  return [...problems].sort(
    (a, b) => Number(b.file === file) - Number(a.file === file) || a.line - b.line || a.column - b.column,
  )
}

/** Files are named relative to the file that names them, whatever folder the process was started in. */
export function withAbsolutePaths<T extends Partial<Config>>(config: T, folder: string): T {
  const at = (path: string) => resolve(folder, path)
  const maybe = (path: string | undefined) => (path === undefined ? undefined : at(path))
  const { tls, audit, identity } = config
  const jwt = identity?.jwt
  const isFile = jwt !== undefined && !/^https?:/.test(jwt.jwks)
  return {
    ...config,
    ...(tls && {
      tls: { ...tls, cert: at(tls.cert), key: maybe(tls.key), clientCa: at(tls.clientCa), crl: maybe(tls.crl) },
    }),
    ...(audit && { audit: { ...audit, signingKey: maybe(audit.signingKey), digestKey: maybe(audit.digestKey) } }),
    ...(isFile && { identity: { ...identity, jwt: { ...jwt, jwks: at(jwt.jwks) } } }),
  }
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

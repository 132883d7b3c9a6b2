import { type Document, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from 'yaml'
import type { JsonValue } from '../core/json.ts'
import { isDeeperThan } from './nesting.ts'

/** Something that is wrong in a file that a person wrote, and where. Lines and columns count from 1. */
export interface ConfigProblem {
  /** `policy.rules[2].tools`, or empty for the whole. */
  readonly path: string
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
}

/** Where a value stands. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
  /** The scalar as it is written, `${NAME}` unreplaced; undefined for maps and lists. */
  readonly written: string | undefined
}

/** One parsed file: its value, the same as it is written, and the place of everything in it. */
export interface Source {
  /** With `${NAME}` replaced; those values are text. */
  readonly value: JsonValue
  /** With `${NAME}` as it is written. */
  readonly written: JsonValue
  /** By path; a key's own place is at `path + KEY`. */
  readonly places: ReadonlyMap<string, Place>
  /** What was put in for each `${NAME}`, so that nothing that is printed shows it. */
  readonly replaced: readonly Replaced[]
  readonly problems: readonly ConfigProblem[]
}

export interface Replaced {
  readonly value: string
  readonly reference: string
}

/** Appended to a path, gives the place of the key instead of the value's. */
export const KEY = '\u0000key'

const MAX_BYTES = 1024 * 1024
const MAX_NODES = 100_000
const MAX_DEPTH = 64

/**
 * Parses YAML 1.2 (so JSON too) with its core schema, strictly: one document, no duplicate keys, no unknown tags, only
 * text as keys, aliases within bounds. `${NAME}` and `${NAME:-default}` are replaced in values after parsing, so that
 * nothing in the environment can change the structure; `$${` stands for a `${` that is meant as it is.
 *
 * @param prefix  Path of the whole within the configuration: empty, or `policy` for a file of its own.
 */
export function readSource(
  text: string,
  file: string,
  env: Readonly<Record<string, string | undefined>>,
  prefix = '',
): Source {
  const lines = new LineCounter()
  const places = new Map<string, Place>()
  const replaced: Replaced[] = []
  const problems: ConfigProblem[] = []
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const problem = (path: string, offset: number, message: string) =>
    void problems.push({ path, file, ...at(offset), message })
  const nothing = () => ({ value: null, written: null, places, replaced, problems })

  if (Buffer.byteLength(text) > MAX_BYTES) {
    problem(prefix, 0, 'the file is larger than 1 MiB')
    return nothing()
  }
  // The parser recurses; a file of a hundred thousand brackets must be a problem with a line, not an exhausted stack.
  if (isDeeperThan(text, 4 * MAX_DEPTH)) {
    problem(prefix, 0, `nested deeper than ${MAX_DEPTH} levels`)
    return nothing()
  }
  const documents = parseAllDocuments(text, {
    version: '1.2',
    schema: 'core',
    strict: true,
    // Looked for by ourselves: the parser compares each key with every other, which a large file turns into minutes.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'silent',
    lineCounter: lines,
  })
  const document = (Array.isArray(documents) ? documents[0] : undefined) as Document.Parsed | undefined
  const faults = [...(document?.errors ?? []), ...(document?.warnings ?? [])]
  const [first] = faults
  // What follows the first break in the syntax is only its echo.
  if (first) problem(prefix, first.pos[0], `not valid YAML: ${first.message}${bracesHint(text, first.pos[0])}`)
  if (documents.length > 1) problem(prefix, documents[1]?.range[0] ?? 0, 'only one YAML document is allowed in a file')
  if (problems.length > 0) return nothing()
  if (!document?.contents || (isScalar(document.contents) && document.contents.value === null)) {
    problem(prefix, 0, 'the file is empty')
    return nothing()
  }

  let nodes = 0
  const root = walk(document.contents, prefix, 0, [])
  return { value: root[0], written: root[1], places, replaced, problems }

  /** The value of a node and the same as written. */
  function walk(node: Node | null, path: string, depth: number, above: readonly Node[]): [JsonValue, JsonValue] {
    if (node === null) return [null, null]
    const offset = node.range?.[0] ?? 0
    if (++nodes > MAX_NODES || depth > MAX_DEPTH) {
      if (nodes === MAX_NODES + 1) problem(path, offset, `more than ${MAX_NODES} values, aliases counted each time`)
      else if (nodes <= MAX_NODES) problem(path, offset, `nested deeper than ${MAX_DEPTH} levels`)
      return [null, null]
    }
    if (isAlias(node)) {
      const target = node.resolve(document as Document) as Node | undefined
      if (!target || above.includes(target)) {
        problem(path, offset, 'an alias must name an anchor that stands before it and not around it')
        return [null, null]
      }
      return walk(target, path, depth + 1, above)
    }
    if (isScalar(node)) {
      const written = node.value as JsonValue
      const raw = node.source ?? JSON.stringify(written)
      if (!places.has(path)) places.set(path, { file, ...at(offset), written: raw })
      if (typeof written === 'string') return [substitute(written, path, offset), written]
      if (typeof written === 'number' && !Number.isFinite(written)) {
        problem(path, offset, 'expected a finite number')
        return [null, null]
      }
      return [typeof written === 'bigint' ? Number(written) : written, written]
    }
    if (!places.has(path)) places.set(path, { file, ...at(offset), written: undefined })
    if (isSeq(node)) {
      const [values, writtens]: [JsonValue[], JsonValue[]] = [[], []]
      for (const [index, item] of node.items.entries()) {
        const [value, written] = walk(item as Node | null, `${path}[${index}]`, depth + 1, [...above, node])
        values.push(value)
        writtens.push(written)
      }
      return [values, writtens]
    }
    if (isMap(node)) {
      const [values, writtens]: [Record<string, JsonValue>, Record<string, JsonValue>] = [{}, {}]
      for (const pair of node.items) {
        if (!isPair(pair)) continue
        const key = pair.key as Node | null
        const keyOffset = key?.range?.[0] ?? offset
        if (!isScalar(key) || key.value === null || typeof key.value === 'object' || key.value === '__proto__') {
          problem(path, keyOffset, 'a key must be a word or text')
          continue
        }
        const name = key.source ?? JSON.stringify(key.value)
        const child = join(path, name)
        if (name.includes('${')) problem(child, keyOffset, '${…} is replaced in values only, not in keys')
        if (Object.hasOwn(values, name)) problem(child, keyOffset, 'the key is there twice')
        places.set(child + KEY, { file, ...at(keyOffset), written: name })
        const [value, written] = walk(pair.value as Node | null, child, depth + 1, [...above, node])
        if (!places.has(child)) places.set(child, { file, ...at(keyOffset), written: '' })
        values[name] = value
        writtens[name] = written
      }
      return [values, writtens]
    }
    problem(path, offset, 'expected a scalar, a list or a map')
    return [null, null]
  }

  function substitute(written: string, path: string, offset: number): string {
    if (!written.includes('${')) return written
    return written.replace(/\$?\$\{([^}]*)(\}?)/g, (reference: string, inside: string, end: string) => {
      if (reference.startsWith('$$')) return reference.slice(1)
      const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/s.exec(inside)
      if (!match || !end) {
        problem(path, offset, 'expected ${NAME} or ${NAME:-default}; write $${ for a ${ that is meant as it is')
        return ''
      }
      const [, name = '', fallback] = match
      const found = Object.hasOwn(env, name) ? env[name] : undefined
      if (found !== undefined && (found !== '' || fallback === undefined)) {
        if (found !== '') replaced.push({ value: found, reference: `\${${name}}` })
        return found
      }
      if (fallback !== undefined) return fallback
      problem(path, offset, `the environment variable ${name} is not set`)
      return ''
    })
  }
}

/** The path of a key below another path: `policy.rules`, `upstream.timeouts.tools["export_*"]`. */
export function join(path: string, key: string | number): string {
  if (typeof key === 'number') return `${path}[${key}]`
  if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(key)) return `${path}[${JSON.stringify(key)}]`
  return path === '' ? key : `${path}.${key}`
}

function bracesHint(text: string, offset: number): string {
  const start = text.lastIndexOf('\n', Math.max(0, offset - 1)) + 1
  const line = text.slice(start, text.indexOf('\n', offset) < 0 ? text.length : text.indexOf('\n', offset))
  return /[{[].*[^"'$]\$\{/.test(line) ? '; inside { } and [ ] write "${NAME}" in quotes' : ''
}

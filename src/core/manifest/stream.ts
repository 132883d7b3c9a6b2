import { type Document, parseAllDocuments, stringify } from 'yaml'
import type { JsonObject, JsonValue } from '../json.ts'
import { err, ok, type Result } from '../result.ts'
import { certificateFor } from './certificate.ts'
import { type Front, injectObject } from './inject-object.ts'
import { KUBERNETES_YAML } from './kubernetes-yaml.ts'
import type { Change, InjectOptions, ManifestProblem, Need } from './options.ts'
import { segmentsOf } from './segments.ts'
import { isService, pointService } from './service.ts'
import { isObject, objectAt, own, sameValue, textAt, unshared } from './tree.ts'
import { isGenerated, uninjectObject } from './uninject-object.ts'
import { namespaceOf, objectName } from './workload.ts'
import { editDocument } from './yaml-edit.ts'

export interface InjectedStream {
  readonly text: string
  readonly changes: readonly Change[]
  readonly needs: readonly Need[]
}

/**
 * Puts the sidecar into every selected workload of a stream of manifests (YAML or JSON, several documents, Lists), points
 * the Services of the stream to it, and adds Certificates when an issuer is given. Documents that nothing changes in come
 * back byte for byte; in the others, only the nodes that differ are touched.
 *
 * Idempotent: a workload that was injected before is first put back and then injected anew, so that new options and new
 * versions act. `uninjectManifest` reverses it.
 *
 * @refuses  every problem of the whole stream at once; nothing is injected halfway.
 */
export function injectManifest(
  text: string,
  options: InjectOptions,
): Result<InjectedStream, readonly ManifestProblem[]> {
  const read = readStream(text)
  if (!read.ok) return read
  const changes: Change[] = []
  const needs: Need[] = []
  const problems: ManifestProblem[] = []
  const fronts: Front[] = []
  const lines = new Map<Front, number>()
  for (const part of read.value) {
    part.replaceObjects(object => {
      const injected = injectObject(object, options)
      if (!injected.ok) {
        problems.push(...injected.error.map(problem => ({ ...problem, line: part.line })))
        return object
      }
      changes.push(...injected.value.changes)
      for (const need of injected.value.needs) if (!needs.some(known => sameNeed(known, need))) needs.push(need)
      if (injected.value.front) {
        fronts.push(injected.value.front)
        lines.set(injected.value.front, part.line)
      }
      return injected.value.object
    })
  }
  const services = new Map<Front, string[]>()
  for (const part of read.value) {
    part.replaceObjects(object => {
      if (!isService(object)) return object
      const pointed = pointService(object, fronts, options.namespace)
      const name = textAt(objectAt(object, 'metadata') ?? {}, 'name')
      for (const front of pointed.fronts)
        if (name !== undefined) services.set(front, [...(services.get(front) ?? []), name])
      changes.push(...pointed.changes)
      return pointed.object
    })
  }
  for (const front of fronts) {
    if (services.has(front)) continue
    changes.push({
      object: front.object,
      path: '',
      level: 'note',
      message: `no Service of this stream selects it: let its Service's targetPort be ${front.listenPort}`,
    })
  }
  const added = options.issuer ? addCertificates(read.value, lines, services, options, options.issuer) : ok([])
  if (!added.ok) problems.push(...added.error)
  else changes.push(...added.value.map(certificateChange))
  if (problems.length > 0) return err(problems)
  let out = read.value.map(part => part.render(changes)).join('')
  for (const certificate of added.ok ? added.value : []) {
    if (certificate.inPlace) continue
    out = appendDocument(out, certificate.object)
  }
  return ok({ text: out, changes, needs })
}

/** Takes the sidecar out of every workload of a stream and puts back what injection had changed. */
export function uninjectManifest(
  text: string,
  namespace?: string,
): Result<{ text: string; changes: readonly Change[] }, readonly ManifestProblem[]> {
  const read = readStream(text)
  if (!read.ok) return read
  const changes: Change[] = []
  const problems: ManifestProblem[] = []
  for (const part of read.value) {
    part.replaceObjects(object => {
      const restored = uninjectObject(object, namespace)
      if (!restored.ok) {
        problems.push(...restored.error.map(problem => ({ ...problem, line: part.line })))
        return object
      }
      changes.push(...restored.value.changes)
      return restored.value.object
    })
  }
  if (problems.length > 0) return err(problems)
  return ok({ text: read.value.map(part => part.render(changes)).join(''), changes })
}

interface Certificate {
  readonly object: JsonObject
  readonly inPlace: boolean
}

function addCertificates(
  parts: readonly Part[],
  fronts: ReadonlyMap<Front, number>,
  services: ReadonlyMap<Front, string[]>,
  options: InjectOptions,
  issuer: NonNullable<InjectOptions['issuer']>,
): Result<Certificate[], ManifestProblem[]> {
  const problems: ManifestProblem[] = []
  const certificates: Certificate[] = []
  for (const [front, line] of fronts) {
    const namespace = front.namespace
    if (namespace === undefined) {
      const message = 'a Certificate needs the namespace for its DNS names; give --namespace'
      problems.push({ object: front.object, path: 'metadata.namespace', message, line })
      continue
    }
    const object = certificateFor(front, services.get(front) ?? [], namespace, issuer)
    const name = objectName(object, undefined)
    if (certificates.some(known => objectName(known.object, undefined) === name)) continue
    let inPlace = false
    for (const part of parts) {
      part.replaceObjects(existing => {
        if (objectName(existing, options.namespace) !== name || !isGenerated(existing)) return existing
        inPlace = true
        return object
      })
    }
    certificates.push({ object, inPlace })
  }
  return problems.length > 0 ? err(problems) : ok(certificates)
}

function certificateChange({ object }: Certificate): Change {
  const spec = objectAt(object, 'spec') ?? {}
  const issuer = objectAt(spec, 'issuerRef') ?? {}
  return {
    object: objectName(object, namespaceOf(object, undefined)),
    path: '',
    level: 'change',
    message: `added: cert-manager keeps Secret ${textAt(spec, 'secretName')} with ${textAt(issuer, 'kind')} ${textAt(issuer, 'name')}`,
  }
}

function sameNeed(a: Need, b: Need): boolean {
  return a.kind === b.kind && a.name === b.name && a.namespace === b.namespace
}

function appendDocument(text: string, object: JsonObject): string {
  const eol = usesCrlf(text) ? '\r\n' : '\n'
  const body = stringify(object, { lineWidth: 0, indentSeq: false })
  const gap = text === '' || text.endsWith('\n') ? '' : eol
  return `${text}${gap}---${eol}${eol === '\n' ? body : body.replaceAll('\n', eol)}`
}

/** One document of the stream: its bytes, what it means, and what it should mean. */
class Part {
  readonly line: number
  readonly #text: string
  readonly #doc: Document | undefined
  readonly #before: JsonValue
  #after: JsonValue | undefined
  readonly #isJson: boolean

  constructor(text: string, line: number, doc: Document | undefined, value: JsonValue, isJson: boolean) {
    this.#text = text
    this.line = line
    this.#doc = doc
    this.#before = value
    this.#after = value
    this.#isJson = isJson
  }

  /** Calls `replace` with each Kubernetes object, those of Lists too; `undefined` removes it. */
  replaceObjects(replace: (object: JsonObject) => JsonObject | undefined): void {
    const value = this.#after
    if (!isObject(value) || typeof own(value, 'kind') !== 'string') return
    const items = own(value, 'items')
    if (!(value['kind'] as string).endsWith('List') || !Array.isArray(items)) {
      this.#after = replace(value)
      return
    }
    const next: JsonValue[] = []
    for (const item of items) {
      const replaced = isObject(item) ? replace(item) : item
      if (replaced !== undefined) next.push(replaced)
    }
    this.#after = { ...value, items: next }
  }

  render(changes: Change[]): string {
    if (this.#after === undefined) return ''
    if (sameValue(this.#before, this.#after)) return this.#text
    const rendered = this.#isJson
      ? `${JSON.stringify(this.#after, null, jsonIndent(this.#text))}\n`
      : this.#renderYaml(this.#after, changes)
    return usesCrlf(this.#text) ? rendered.replace(/\r?\n/g, '\r\n') : rendered
  }

  #renderYaml(after: JsonValue, changes: Change[]): string {
    const doc = this.#doc as Document
    if (editDocument(doc, this.#before, after).expanded) {
      const object = isObject(after) ? objectName(after, undefined) : ''
      changes.push({
        object,
        path: '',
        level: 'note',
        message: 'a YAML anchor was shared with what changes: its aliases are written out',
      })
    }
    const text = doc.toString({
      ...styleOf(this.#text),
      lineWidth: 0,
      minContentWidth: 0,
      doubleQuotedMinMultiLineLength: 1e9,
    })
    return this.#text.startsWith('\ufeff') ? `\ufeff${text}` : text
  }
}

function readStream(text: string): Result<Part[], ManifestProblem[]> {
  const parts: Part[] = []
  const problems: ManifestProblem[] = []
  for (const segment of segmentsOf(text)) {
    const json = readJson(segment.text)
    if (json !== undefined) {
      parts.push(new Part(segment.text, segment.line, undefined, json, true))
      continue
    }
    const docs = parseAllDocuments(segment.text, KUBERNETES_YAML)
    const doc = Array.isArray(docs) ? docs[0] : undefined
    if (!doc) {
      parts.push(new Part(segment.text, segment.line, undefined, null, false))
      continue
    }
    for (const error of doc.errors) {
      const line = segment.line + (error.linePos?.[0].line ?? 1) - 1
      problems.push({
        object: '',
        path: '',
        message: `not YAML: ${error.message.split('\n')[0]?.replace(/ at line .*$/, '')}`,
        line,
      })
    }
    if (doc.errors.length > 0) continue
    try {
      parts.push(new Part(segment.text, segment.line, doc as Document, unshared(doc.toJS() as JsonValue), false))
    } catch (error) {
      // An alias without its anchor, or aliases of aliases that would blow up.
      problems.push({ object: '', path: '', message: `not YAML: ${(error as Error).message}`, line: segment.line })
    }
  }
  return problems.length > 0 ? err(problems) : ok(parts)
}

function readJson(text: string): JsonValue | undefined {
  if (!/^\s*[{[]/.test(text)) return undefined
  try {
    return JSON.parse(text) as JsonValue
  } catch {
    return undefined
  }
}

function jsonIndent(text: string): string {
  return /^\s*[{[]\r?\n([ \t]+)/.exec(text)?.[1] ?? ''
}

function usesCrlf(text: string): boolean {
  return text.includes('\r\n')
}

/** The writer's own habits: how deep, and whether dashes are indented under their key. */
function styleOf(text: string): {
  indent: number
  indentSeq: boolean
  flowCollectionPadding: boolean
  singleQuote: boolean | null
} {
  const lines = text.split(/\r?\n/)
  let indent = 2
  let dashed = 0
  let found = false
  for (const [index, line] of lines.entries()) {
    const key = /^( *)(?:- +)?[^\s#][^#]*:\s*(?:#.*)?$/.exec(line)
    const next = lines[index + 1]
    if (!key || next === undefined) continue
    const depth = (key[1] as string).length
    const dash = /^( *)- /.exec(next)
    const inner = /^( +)[^\s#-]/.exec(next)
    if (dash && !/^ *- /.test(line)) dashed += (dash[1] as string).length > depth ? 1 : -1
    if (inner && !found && !/^ *- /.test(line) && (inner[1] as string).length > depth) {
      indent = (inner[1] as string).length - depth
      found = true
    }
  }
  const single = (text.match(/: '/g) ?? []).length
  const double = (text.match(/: "/g) ?? []).length
  return {
    indent,
    indentSeq: dashed > 0,
    flowCollectionPadding: /\{ /.test(text),
    singleQuote: single > double ? true : null,
  }
}

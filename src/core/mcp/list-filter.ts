import type { JsonValue } from '../json.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import { arrayElements, objectMembers, type Span } from './json-spans.ts'
import type { RpcId } from './message.ts'
import { resourceObjects } from './objects.ts'

/**
 * What a list shows: the name of a tool or prompt, a normalised URI, a URI template as listed, the id of a task. A place is
 * where the URI of a resource leads (`isPlace`): it must not be denied, and need not be allowed.
 */
export type ListedKind = 'tool' | 'prompt' | 'resource' | 'place' | 'template' | 'task'

export interface ListFilter {
  /** Whether the message with this id answers a list request of this caller. */
  isPending(id: RpcId): boolean
  allows(kind: ListedKind, name: string): boolean
}

/** Methods whose answers are lists of what may be used. */
export function isListMethod(method: string): boolean {
  return LIST_METHODS.has(method)
}

const LIST_METHODS: ReadonlySet<string> = new Set([
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/directory/read',
  'skills/list',
  'tasks/list',
])

/**
 * Cuts what the caller may not use out of a list answer. Every other byte stays as it is: unknown fields, their order,
 * number forms, white space, cursors. `cacheScope` becomes `private`, because the list is no longer everybody's.
 *
 * @param bytes  A whole JSON text: one response, or an array of messages.
 * @returns      The very same buffer when nothing had to change.
 * @refuses      `upstream_answer_invalid` when it is no JSON, or names things in a way that can be read twofold.
 * @source       MCP 2026-07-28 caching (SEP-2549): a shared cache may serve `public` answers to anyone.
 */
export function filterLists(bytes: Buffer, filter: ListFilter): Result<Buffer, Refusal> {
  const root = parse(bytes)
  if (root === undefined) return invalid('a list answer that is no JSON')
  const edits = new Edits(bytes)
  const messages =
    root === 'array' ? arrayElements(bytes, skipBlank(bytes, 0)) : [{ start: skipBlank(bytes, 0), end: bytes.length }]
  for (const message of messages) {
    if (bytes[message.start] !== 0x7b) continue
    const problem = filterMessage(bytes, message.start, filter, edits)
    if (problem !== undefined) return invalid(problem)
  }
  return ok(edits.apply())
}

function filterMessage(bytes: Buffer, start: number, filter: ListFilter, edits: Edits): string | undefined {
  const members = objectMembers(bytes, start)
  if (members === undefined) return 'a list answer with a member that comes twice'
  const id = members.get('id')
  const result = members.get('result')
  if (id === undefined || result === undefined || members.has('method') || bytes[result.start] !== 0x7b)
    return undefined
  const value = JSON.parse(bytes.toString('utf8', id.start, id.end)) as JsonValue
  if ((typeof value !== 'string' && typeof value !== 'number') || !filter.isPending(value)) return undefined
  const inner = objectMembers(bytes, result.start)
  if (inner === undefined) return 'a list answer with a member that comes twice'
  let hasList = false
  for (const [name, kind, member] of LISTS) {
    const list = inner.get(name)
    if (list === undefined) continue
    hasList = true
    if (bytes[list.start] !== 0x5b) return `a list answer whose ${name} is no list`
    const problem = cut(bytes, list, kind, member, filter, edits)
    if (problem !== undefined) return problem
  }
  if (hasList) makePrivate(bytes, result, inner, edits)
  return undefined
}

/** Member of the result, what it lists, and the member of an element that names it. */
const LISTS: readonly (readonly [string, ListedKind, string])[] = [
  ['tools', 'tool', 'name'],
  ['prompts', 'prompt', 'name'],
  ['resources', 'resource', 'uri'],
  ['resourceTemplates', 'template', 'uriTemplate'],
  ['skills', 'resource', 'uri'],
  ['tasks', 'task', 'taskId'],
]

function cut(
  bytes: Buffer,
  list: Span,
  kind: ListedKind,
  member: string,
  filter: ListFilter,
  edits: Edits,
): string | undefined {
  const elements = arrayElements(bytes, list.start)
  const kept: number[] = []
  for (let i = 0; i < elements.length; i++) {
    const { start } = elements[i]!
    if (bytes[start] !== 0x7b) continue
    const members = objectMembers(bytes, start)
    if (members === undefined) return 'a list answer with a member that comes twice'
    const span = members.get(member)
    const name =
      span === undefined ? undefined : (JSON.parse(bytes.toString('utf8', span.start, span.end)) as JsonValue)
    // What has no name cannot be called, and cannot be judged.
    if (typeof name === 'string' && isShown(kind, name, filter)) kept.push(i)
  }
  if (kept.length === elements.length) return undefined
  edits.replace(elements[0]!.start, elements.at(-1)!.end, joined(bytes, elements, kept))
  return undefined
}

function isShown(kind: ListedKind, name: string, filter: ListFilter): boolean {
  if (kind !== 'resource') return filter.allows(kind, name)
  const objects = resourceObjects(name)
  // A URI that nobody could ask for, because it would be refused as ambiguous, is not shown either.
  return (
    objects.ok && objects.value.every(({ normalized, isPlace }) => filter.allows(isPlace ? 'place' : kind, normalized))
  )
}

/** The kept elements, each with the separator that stood before it, but for the first. */
function joined(bytes: Buffer, elements: readonly Span[], kept: readonly number[]): Buffer {
  const pieces: Buffer[] = []
  for (const i of kept) {
    const element = elements[i]!
    const from = pieces.length === 0 ? element.start : elements[i - 1]!.end
    pieces.push(bytes.subarray(from, element.end))
  }
  return Buffer.concat(pieces)
}

function makePrivate(bytes: Buffer, result: Span, members: ReadonlyMap<string, Span>, edits: Edits): void {
  const scope = members.get('cacheScope')
  if (scope !== undefined) {
    if (bytes.toString('latin1', scope.start, scope.end) !== '"private"') edits.replace(scope.start, scope.end, PRIVATE)
  } else if (members.has('resultType') || members.has('ttlMs')) {
    edits.replace(result.start + 1, result.start + 1, PRIVATE_MEMBER)
  }
}

const PRIVATE = Buffer.from('"private"')
/** There is a list in the result, so that something always follows. */
const PRIVATE_MEMBER = Buffer.from('"cacheScope":"private",')

/** Replacements of spans that do not overlap. */
class Edits {
  readonly #bytes: Buffer
  readonly #edits: { start: number; end: number; by: Buffer }[] = []

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  replace(start: number, end: number, by: Buffer): void {
    this.#edits.push({ start, end, by })
  }

  apply(): Buffer {
    if (this.#edits.length === 0) return this.#bytes
    const pieces: Buffer[] = []
    let from = 0
    for (const edit of this.#edits.sort((a, b) => a.start - b.start)) {
      pieces.push(this.#bytes.subarray(from, edit.start), edit.by)
      from = edit.end
    }
    pieces.push(this.#bytes.subarray(from))
    return Buffer.concat(pieces)
  }
}

function parse(bytes: Buffer): 'array' | 'other' | undefined {
  try {
    return Array.isArray(JSON.parse(bytes.toString('utf8'))) ? 'array' : 'other'
  } catch {
    return undefined
  }
}

function skipBlank(bytes: Buffer, pos: number): number {
  while (pos < bytes.length && bytes[pos]! <= 0x20) pos++
  return pos
}

function invalid(detail: string): Result<Buffer, Refusal> {
  return err({ reason: 'upstream_answer_invalid', detail })
}

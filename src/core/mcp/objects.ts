import type { JsonObject, JsonValue } from '../json.ts'
import type { Refusal } from '../refusal.ts'
import { err, ok, type Result } from '../result.ts'
import type { McpObject } from './message.ts'
import { normalizeUri, withoutDetour, withoutFileQuery, withoutFragment } from './uri.ts'

/** What a message acts on, in whatever member its method names it. */
export interface Reach {
  readonly objects: readonly McpObject[]
  readonly taskIds: readonly string[]
}

/**
 * Finds every tool, prompt, resource and task that a message reaches.
 *
 * @param params  `params` of the message; members that are no objects of policy may be left out of it.
 * @refuses       `message_params_invalid` when an object is not named as the method needs it, `message_ambiguous` when
 *                its name can be read in several ways.
 * @source        MCP schemas 2024-11-05 … 2026-07-28; SEP-2663 (tasks), SEP-2640 (skills).
 */
export function reachOf(method: string, params: JsonObject | undefined): Result<Reach, Refusal> {
  const reach = new Reached()
  const members = params ?? NONE
  switch (method) {
    case 'tools/call':
      reach.named('tool', 'name', members['name'])
      break
    case 'prompts/get':
      reach.named('prompt', 'name', members['name'])
      break
    case 'resources/read':
    case 'resources/subscribe':
    case 'resources/unsubscribe':
    case 'resources/directory/read':
    case 'skills/get':
      reach.resource('uri', members['uri'])
      break
    case 'completion/complete':
      reach.reference(members['ref'])
      break
    case 'subscriptions/listen':
      reach.subscriptions(members['notifications'])
      break
    case 'tasks/get':
    case 'tasks/result':
    case 'tasks/update':
    case 'tasks/cancel':
      reach.task('taskId', members['taskId'])
      break
    default:
      if (!KNOWN_METHODS.has(method)) reach.unknown(method, members)
  }
  const related = relatedTask(members['_meta'])
  if (related !== undefined) reach.task('_meta related-task', related)
  return reach.refusal === undefined ? ok(reach) : err(reach.refusal)
}

/** Every method that a revision or a published extension defines for clients to send. */
export const KNOWN_METHODS: ReadonlySet<string> = new Set([
  'initialize',
  'ping',
  'server/discover',
  'tools/list',
  'tools/call',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'resources/directory/read',
  'prompts/list',
  'prompts/get',
  'completion/complete',
  'logging/setLevel',
  'subscriptions/listen',
  'tasks/get',
  'tasks/result',
  'tasks/update',
  'tasks/cancel',
  'tasks/list',
  'skills/list',
  'skills/get',
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
  'notifications/roots/list_changed',
])

/** Longest name of a tool, prompt or task. */
const LONGEST_NAME = 1024

class Reached implements Reach {
  objects: McpObject[] = []
  taskIds: string[] = []
  refusal: Refusal | undefined

  named(kind: 'tool' | 'prompt', member: string, name: JsonValue | undefined): void {
    if (typeof name !== 'string' || name === '')
      return this.invalid(`params.${member} must be a string that is not empty`)
    if (name.length > LONGEST_NAME) return this.invalid(`params.${member} is longer than ${LONGEST_NAME} characters`)
    if (!SIMPLE_NAME.test(name)) {
      if (!name.isWellFormed() || UNSEEN.test(name))
        return this.ambiguous(`${kind} name with characters that do not show`)
      if (name.normalize('NFC') !== name) return this.ambiguous(`${kind} name that is not in Unicode form NFC`)
    }
    const object: McpObject = { kind, name, normalized: name }
    // The usual case, of exactly the size: an array that is pushed to has room for seventeen.
    if (this.objects.length === 0) this.objects = [object]
    else this.objects.push(object)
  }

  resource(member: string, uri: JsonValue | undefined, isTemplate = false): void {
    if (typeof uri !== 'string' || uri === '') return this.invalid(`params.${member} must be a URI`)
    const objects = resourceObjects(uri, isTemplate)
    if (!objects.ok) return this.ambiguous(objects.error)
    this.objects.push(...objects.value)
  }

  reference(ref: JsonValue | undefined): void {
    if (!isObject(ref)) return this.invalid('params.ref must be an object')
    if (ref['type'] === 'ref/prompt') {
      if (ref['uri'] !== undefined) return this.ambiguous('params.ref with both a name and a URI')
      return this.named('prompt', 'ref.name', ref['name'])
    }
    if (ref['type'] === 'ref/resource') return this.resource('ref.uri', ref['uri'], true)
    return this.invalid('params.ref.type must be ref/prompt or ref/resource')
  }

  subscriptions(notifications: JsonValue | undefined): void {
    if (notifications === undefined) return
    if (!isObject(notifications)) return this.invalid('params.notifications must be an object')
    const uris = notifications['resourceSubscriptions'] ?? []
    const tasks = notifications['taskIds'] ?? []
    if (!Array.isArray(uris)) return this.invalid('params.notifications.resourceSubscriptions must be a list')
    if (!Array.isArray(tasks)) return this.invalid('params.notifications.taskIds must be a list')
    if (uris.length > MOST_LISTED || tasks.length > MOST_LISTED)
      return this.invalid(`more than ${MOST_LISTED} subscriptions`)
    let length = 0
    for (const uri of uris) length += typeof uri === 'string' ? uri.length : 0
    if (length > MOST_URI_CHARACTERS)
      return this.invalid(`subscriptions of more than ${MOST_URI_CHARACTERS} characters`)
    for (const uri of uris) this.resource('notifications.resourceSubscriptions[]', uri)
    for (const id of tasks) this.task('notifications.taskIds[]', id)
  }

  task(member: string, id: JsonValue | undefined): void {
    if (typeof id !== 'string' || id === '' || id.length > LONGEST_NAME || !id.isWellFormed()) {
      return this.invalid(`params.${member} must be a string of at most ${LONGEST_NAME} characters`)
    }
    this.taskIds.push(id)
  }

  /** A method of nobody's specification: what it names in the manner of its family counts as named. */
  unknown(method: string, members: JsonObject): void {
    if (method.startsWith('tools/') && members['name'] !== undefined) this.named('tool', 'name', members['name'])
    if (method.startsWith('prompts/') && members['name'] !== undefined) this.named('prompt', 'name', members['name'])
    const isResourceLike = method.startsWith('resources/') || method.startsWith('skills/')
    if (isResourceLike && members['uri'] !== undefined) this.resource('uri', members['uri'])
    const isTaskLike = method.startsWith('tasks/') || method.startsWith('notifications/tasks/')
    if (isTaskLike && members['taskId'] !== undefined) this.task('taskId', members['taskId'])
  }

  private invalid(detail: string): void {
    this.refusal ??= { reason: 'message_params_invalid', detail }
  }

  private ambiguous(detail: string): void {
    this.refusal ??= { reason: 'message_ambiguous', detail }
  }
}

/**
 * A URI as objects of policy. Usually one; what a server may cut off before it looks the resource up (a fragment, the
 * query of a file) makes it several, and a caller needs to be allowed each. Another address of the same place needs no
 * allow, for it widens nothing; but who is denied the place must not get there by a detour.
 */
export function resourceObjects(uri: string, isTemplate = false): Result<McpObject[], string> {
  const normalized = normalizeUri(uri, isTemplate)
  if (!normalized.ok) return normalized
  const objects: McpObject[] = [{ kind: 'resource', name: uri, normalized: normalized.value }]
  // In a template `{?x}` and `{#x}` are variables, no query and no fragment.
  if (isTemplate) return ok(objects)
  const bare = withoutFragment(normalized.value)
  if (bare !== undefined) objects.push({ kind: 'resource', name: uri, normalized: bare })
  const file = withoutFileQuery(bare ?? normalized.value)
  if (file !== undefined) objects.push({ kind: 'resource', name: uri, normalized: file })
  for (const form of objects.slice()) {
    const place = withoutDetour(form.normalized)
    if (place !== undefined) objects.push({ kind: 'resource', name: uri, normalized: place, isPlace: true })
  }
  return ok(objects)
}

const NONE: JsonObject = {}
const MOST_LISTED = 1000
const MOST_URI_CHARACTERS = 65_536
const SIMPLE_NAME = /^[\x20-\x7e]*$/
/** Controls, line separators, and format characters: zero width, bidi, byte order mark. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

function relatedTask(meta: JsonValue | undefined): JsonValue | undefined {
  if (!isObject(meta)) return undefined
  const related = meta['io.modelcontextprotocol/related-task']
  return isObject(related) ? related['taskId'] : undefined
}

/** Narrows to a JSON object: neither null nor a list. */
export function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

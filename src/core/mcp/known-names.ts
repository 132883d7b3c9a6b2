import { foldName } from './fold.ts'

/**
 * The places in a message where a member's name decides what an upstream does. A name there that only folds onto a
 * known one is refused; the same spelling inside a tool's own data is nobody's business.
 */
export const zone = {
  /** Data: anything below `arguments`, `capabilities`, `result`… Only exact duplicates matter. */
  data: 0,
  top: 1,
  params: 2,
  meta: 3,
  arguments: 4,
  /** `params.ref` and `params.argument` of completion/complete. */
  ref: 5,
  /** `params.notifications` of subscriptions/listen. */
  listen: 6,
  error: 7,
} as const

export interface KnownName {
  /** Of the fold of the name. */
  readonly hash: number
  readonly name: string
  readonly bytes: Buffer
  /** Bit `1 << zone` for every zone in which the name is known. */
  readonly zones: number
  /** Zone of the member's value, by the zone it stands in. */
  readonly inner: readonly number[]
  /** What a walk notes of the member and of its value, by the zone it stands in; bits. */
  readonly notes: readonly number[]
}

export const NOTHING = 0
export const IS_ID = 1
/** The value may be large, and the message can be read without it. */
export const MAY_BE_LARGE = 2
/** Members by which a request, and a response, is known. */
export const OF_REQUEST = 4
export const OF_RESPONSE = 8

const NAMES: Readonly<Record<Exclude<keyof typeof zone, 'data' | 'arguments'>, readonly string[]>> = {
  top: ['jsonrpc', 'id', 'method', 'params', 'result', 'error'],
  params: [
    '_meta',
    'name',
    'arguments',
    'uri',
    'taskId',
    'ref',
    'argument',
    'context',
    'cursor',
    'notifications',
    'protocolVersion',
    'capabilities',
    'clientInfo',
    'requestId',
    'progressToken',
    'progress',
    'total',
    'message',
    'reason',
    'level',
    'task',
    'inputResponses',
    'requestState',
  ],
  meta: [
    'progressToken',
    'traceparent',
    'tracestate',
    'baggage',
    'io.modelcontextprotocol/protocolVersion',
    'io.modelcontextprotocol/clientCapabilities',
    'io.modelcontextprotocol/clientInfo',
    'io.modelcontextprotocol/logLevel',
    'io.modelcontextprotocol/related-task',
    'io.modelcontextprotocol/subscriptionId',
    'io.modelcontextprotocol/serverInfo',
  ],
  ref: ['type', 'name', 'uri', 'value'],
  listen: ['resourceSubscriptions', 'taskIds', 'toolsListChanged', 'promptsListChanged', 'resourcesListChanged'],
  error: ['code', 'message', 'data'],
}

const INNER: Readonly<Record<string, number>> = {
  [`${zone.top} params`]: zone.params,
  [`${zone.top} error`]: zone.error,
  [`${zone.params} _meta`]: zone.meta,
  [`${zone.params} arguments`]: zone.arguments,
  [`${zone.params} ref`]: zone.ref,
  [`${zone.params} argument`]: zone.ref,
  [`${zone.params} notifications`]: zone.listen,
}

const TOP_NOTES: Readonly<Record<string, number>> = {
  id: IS_ID,
  method: OF_REQUEST,
  result: OF_RESPONSE | MAY_BE_LARGE,
  error: OF_RESPONSE,
}

/** Members of `params` that are always read at once. */
const LIGHT = new Set([
  '_meta',
  'name',
  'uri',
  'taskId',
  'ref',
  'argument',
  'notifications',
  'protocolVersion',
  'clientInfo',
])

/** FNV-1a over the folded name; `strict-json.ts` computes the same over bytes. */
export const HASH_SEED = 0x811c9dc5 | 0
export const HASH_PRIME = 0x01000193

export function hashName(text: string): number {
  let hash = HASH_SEED
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), HASH_PRIME)
  return hash
}

/** The known name whose fold has this hash, if any. */
export function knownByHash(hash: number): KnownName | undefined {
  for (let slot = hash & SLOT_MASK; ; slot = (slot + 1) & SLOT_MASK) {
    const known = SLOTS[slot]
    if (known === undefined || known.hash === hash) return known
  }
}

const SLOT_MASK = 511
const SLOTS: readonly (KnownName | undefined)[] = buildSlots()

function buildSlots(): (KnownName | undefined)[] {
  const slots = Array.from<KnownName | undefined>({ length: SLOT_MASK + 1 })
  for (const known of buildKnown().values()) {
    let slot = known.hash & SLOT_MASK
    while (slots[slot] !== undefined) slot = (slot + 1) & SLOT_MASK
    slots[slot] = known
  }
  return slots
}

function buildKnown(): Map<number, KnownName> {
  const zonesOf = new Map<string, number>()
  for (const [where, names] of Object.entries(NAMES)) {
    const bit = 1 << zone[where as keyof typeof zone]
    for (const name of names) zonesOf.set(name, (zonesOf.get(name) ?? 0) | bit)
  }
  const known = new Map<number, KnownName>()
  for (const [name, zones] of zonesOf) {
    const hash = hashName(foldName(name))
    const taken = known.get(hash)
    if (taken !== undefined) throw new Error(`known names ${taken.name} and ${name} share a hash`)
    const inner = Object.values(zone).map(outer => INNER[`${outer} ${name}`] ?? zone.data)
    const notes = Object.values(zone).map(outer => noteOf(outer, name))
    known.set(hash, { hash, name, bytes: Buffer.from(name), zones, inner, notes })
  }
  return known
}

function noteOf(outer: number, name: string): number {
  if (outer === zone.top) return TOP_NOTES[name] ?? NOTHING
  return outer === zone.params && !LIGHT.has(name) ? MAY_BE_LARGE : NOTHING
}

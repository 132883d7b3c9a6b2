import type { Caller } from '../identity/caller.ts'
import type { JsonObject, JsonValue } from '../json.ts'
import type { Message } from '../mcp/message.ts'
import type { CompiledPolicy } from './compile.ts'
import { decide, pointAt, questionOf } from './decide.ts'
import { sayVerdict } from './fixtures.ts'
import { objectHolds, restHolds } from './rule.ts'
import { type CallSpec, callerFor, messageFor, sayCall, sayCaller } from './specimen.ts'
import { NO } from './truth.ts'

/** What another policy would have said of calls that were recorded. */
export interface ReplayReport {
  /** Calls that were judged again; a coalesced line counts as often as it says. */
  readonly judged: number
  readonly same: number
  /** Another rule says the same. */
  readonly sameByAnotherRule: number
  /** Grouped by what was called and how the verdict changes; the largest group first. */
  readonly changes: readonly Change[]
  /** Calls that cannot be judged again for sure: rules look at arguments that were redacted, digested or cut. */
  readonly uncertain: number
  /** Lines that hold no call that policy judged: connections, reloads, refusals before policy. */
  readonly withoutVerdict: number
  /** Lines that could not be read. */
  readonly unreadable: number
}

export interface Change {
  /** `tools/call delete_row` */
  readonly call: string
  readonly before: string
  readonly after: string
  readonly count: number
  /** Some of those who called. */
  readonly callers: readonly string[]
  readonly firstAt: string
  readonly lastAt: string
  /** How many of them may be decided otherwise, because their arguments were not recorded in full. */
  readonly uncertain: number
}

export interface Replay {
  /** Takes one audit line, unwrapped from whatever a container runtime put around it. */
  line(text: string): void
  report(): ReplayReport
}

/**
 * Judges recorded calls by another policy. Names and callers are as recorded, so what redaction took out of them is
 * not there for the policy either.
 */
export function startReplay(policy: CompiledPolicy): Replay {
  let judged = 0
  let same = 0
  let sameByAnotherRule = 0
  let uncertain = 0
  let withoutVerdict = 0
  let unreadable = 0
  const changes = new Map<string, MutableChange>()

  function line(text: string): void {
    if (text.trim() === '') return
    const record = parseLine(text)
    if (record === undefined) {
      unreadable++
      return
    }
    const call = readCall(record)
    if (call === undefined) {
      withoutVerdict++
      return
    }
    const message = messageFor(call.spec)
    if (!message.ok) {
      unreadable++
      return
    }
    judged += call.count
    const judgedAgain: Message = { ...message.value, era: call.era }
    const verdict = decide(policy, call.caller, judgedAgain)
    const isUncertain = call.isPartial && looksAtArguments(policy, call.caller, judgedAgain)
    if (isUncertain) uncertain += call.count
    const after = sayVerdict({ ...verdict, missingScopes: [] })
    if (after === call.before) {
      same += call.count
    } else if (effectOf(after) === effectOf(call.before)) {
      sameByAnotherRule += call.count
    } else {
      note(changes, {
        ...call,
        called: sayCall({ ...call.spec, args: undefined, params: undefined }),
        after,
        isUncertain,
      })
    }
  }

  return {
    line,
    report: () => ({
      judged,
      same,
      sameByAnotherRule,
      changes: [...changes.values()]
        .map(({ callers, ...change }) => ({ ...change, callers: [...callers] }))
        .sort((a, b) => b.count - a.count || (a.call < b.call ? -1 : 1)),
      uncertain,
      withoutVerdict,
      unreadable,
    }),
  }
}

type MutableChange = Omit<Change, 'callers' | 'count' | 'firstAt' | 'lastAt' | 'uncertain'> & {
  callers: Set<string>
  count: number
  firstAt: string
  lastAt: string
  uncertain: number
}

const MOST_CALLERS = 5
/** Names in recorded calls came from callers; beyond so many different ones, the rest is one group. */
const MOST_GROUPS = 10_000

function note(
  changes: Map<string, MutableChange>,
  call: RecordedCall & { called: string; after: string; isUncertain: boolean },
): void {
  let name = call.called
  let key = JSON.stringify([name, call.before, call.after])
  if (!changes.has(key) && changes.size >= MOST_GROUPS) {
    name = 'others'
    key = JSON.stringify([name, call.before, call.after])
  }
  let change = changes.get(key)
  if (change === undefined) {
    change = {
      call: name,
      before: call.before,
      after: call.after,
      count: 0,
      callers: new Set(),
      firstAt: call.at,
      lastAt: call.at,
      uncertain: 0,
    }
    changes.set(key, change)
  }
  change.count += call.count
  if (call.isUncertain) change.uncertain += call.count
  if (change.callers.size < MOST_CALLERS) change.callers.add(call.who)
  if (call.at < change.firstAt) change.firstAt = call.at
  if (call.at > change.lastAt) change.lastAt = call.at
}

function effectOf(verdict: string): string {
  return verdict.slice(0, verdict.indexOf(' by '))
}

interface RecordedCall {
  readonly spec: CallSpec
  readonly caller: Caller
  readonly who: string
  readonly era: Message['era']
  readonly before: string
  readonly at: string
  readonly count: number
  /** The arguments are not there in full. */
  readonly isPartial: boolean
}

function parseLine(text: string): JsonObject | undefined {
  try {
    return asObject(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** The call of a line that policy decided. A streamed call is judged by its last line, not by its `mcp.started`. */
function readCall(record: JsonObject): RecordedCall | undefined {
  const event = record['event']
  if (record['kind'] !== 'audit' || typeof event !== 'string' || !EVENTS.has(event)) return undefined
  const decision = asObject(record['decision'])
  const rule = decision?.['rule']
  if (decision === undefined || typeof rule !== 'string') return undefined
  const effect = decision['effect'] === 'allow' ? 'allow' : 'deny'
  const mcp = asObject(record['mcp']) ?? {}
  const user = asObject(record['user'])
  const peer = asObject(record['peer'])
  const method = text(mcp['method']) ?? (record['event'] === 'mcp.stream.open' ? 'stream/open' : undefined)
  // A posted response has no method; it is never what a policy is changed for.
  if (method === undefined) return undefined
  const args = asObject(record['args'])
  const who = {
    peer: text(peer?.['name']),
    uri: text(peer?.['uri']),
    user: text(user?.['id']),
    org: text(user?.['org']),
    scopes: texts(user?.['scopes']),
    roles: texts(user?.['roles']),
  }
  const isPartial = record['truncated'] === true || record['argsDigest'] !== undefined || hasRedacted(args)
  return {
    spec: {
      method,
      tool: text(mcp['tool']),
      prompt: text(mcp['prompt']),
      resource: text(mcp['resource']),
      args,
    },
    caller: callerFor(who),
    who: sayCaller(who),
    era: mcp['era'] === 'legacy' ? 'legacy' : 'modern',
    before: `${effect === 'deny' && decision['mode'] === 'shadow' ? 'would ' : ''}${effect} by ${rule}`,
    at: text(record['timestamp']) ?? '',
    count: typeof record['count'] === 'number' ? record['count'] : 1,
    isPartial: isPartial || args === undefined,
  }
}

const EVENTS: ReadonlySet<string> = new Set(['mcp.call', 'mcp.refused', 'mcp.stream.open'])

/** Whether some rule would have looked at arguments to judge this call. */
function looksAtArguments(policy: CompiledPolicy, caller: Caller, message: Message): boolean {
  if (policy.constrained === undefined) return false
  const asked = questionOf(policy, caller, message)
  return message.objects.some(object => {
    pointAt(asked, object)
    return policy.rules.some(
      rule => rule.args.length > 0 && objectHolds(rule, asked) !== NO && restHolds({ ...rule, args: [] }, asked) !== NO,
    )
  })
}

function hasRedacted(value: JsonValue | undefined): boolean {
  if (typeof value === 'string') return value.includes('[redacted') || value === '[deep]'
  if (typeof value !== 'object' || value === null) return false
  return (Array.isArray(value) ? value : Object.values(value)).some(hasRedacted)
}

function asObject(value: JsonValue | undefined): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
}

function text(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function texts(value: JsonValue | undefined): string[] {
  return Array.isArray(value) ? value.filter(one => typeof one === 'string') : []
}

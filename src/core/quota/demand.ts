import type { Caller } from '../identity/caller.ts'
import type { Message } from '../mcp/message.ts'
import { type CompiledQuota, type CompiledQuotas, type Coverage, coverageOf } from './compile.ts'
import { keyOf, pollKey } from './key.ts'

/** What one call, or one batch, wants of one bucket of one quota. */
export interface Demand {
  readonly quota: CompiledQuota
  readonly key: string
  /** Units of every window of the quota; 0 when the call takes none. */
  cost: number
  /** Concurrency slots. */
  slots: number
}

/**
 * Which buckets a post draws from. Each element of a batch is counted; all of them are admitted or none.
 *
 * @param session   The session that the call names, known to be the caller's own.
 * @param messages  What the post holds, or the pseudo-message of an opened stream.
 */
export function demandsFor(
  compiled: CompiledQuotas,
  caller: Caller,
  session: string | undefined,
  messages: readonly Message[],
): readonly Demand[] {
  if (compiled.quotas.length === 0) return NONE
  let demands: Demand[] | undefined
  let byBucket: Map<string, Demand> | undefined
  let byUser: string | undefined
  for (const message of messages) {
    const known = compiled.coverage.get(message.method)
    const tool = toolOf(message)
    for (const quota of compiled.quotas) {
      const coverage = known === undefined ? coverageOf(quota, message.method) : known[quota.index]!
      if (coverage === 'none' || !covers(quota, coverage, tool)) continue
      const slots = quota.concurrent === undefined ? 0 : 1
      const cost = coverage === 'slot' || quota.windows.length === 0 ? 0 : costOf(quota, tool)
      if (slots === 0 && cost === 0) continue
      const isByUser = quota.key.length === 1 && quota.key[0] === 'user'
      // Most quotas count by user alone: its key is made once for each post.
      const bucket = isByUser
        ? (byUser ??= keyOf(quota.key, caller, session, tool))
        : keyOf(quota.key, caller, session, tool)
      const key = coverage === 'poll' ? pollKey(bucket) : bucket
      demands ??= []
      if (messages.length === 1) {
        demands.push({ quota, key, cost, slots })
        continue
      }
      byBucket ??= new Map()
      const place = `${quota.index} ${key}`
      const same = byBucket.get(place)
      if (same === undefined) {
        const demand = { quota, key, cost, slots }
        byBucket.set(place, demand)
        demands.push(demand)
      } else {
        same.cost += cost
        same.slots += slots
      }
    }
  }
  return demands ?? NONE
}

function covers(quota: CompiledQuota, coverage: Coverage, tool: string | undefined): boolean {
  if (!quota.needsTool) return true
  // A stream or a poll names no tool, so a quota about tools has nothing to say of it.
  if (tool === undefined || coverage === 'slot') return false
  return quota.tools === undefined || quota.tools.some(glob => glob(tool))
}

function costOf(quota: CompiledQuota, tool: string | undefined): number {
  if (tool === undefined) return Math.min(1, quota.maxCost)
  for (const { tool: glob, weight } of quota.costs) if (glob(tool)) return Math.min(weight, quota.maxCost)
  return 1
}

function toolOf(message: Message): string | undefined {
  const objects = message.objects
  for (let i = 0; i < objects.length; i++) if (objects[i]!.kind === 'tool') return objects[i]!.name
  return undefined
}

const NONE: readonly Demand[] = Object.freeze([])

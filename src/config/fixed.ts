import type { Loaded } from './load.ts'

/** Settings that only a start can change: those without a dagger in the reference. */
const SECTIONS = ['listen', 'upstream', 'admin', 'quotaStore', 'limits', 'drain'] as const
/** One chain and its keys stay for the life of the process: a chain that changed its rules could not be verified. */
const OF_THE_CHAIN = ['chain', 'signingKey', 'digestKey', 'checkpointEvery'] as const
// `unsafeAnyPeer` is not among them: it is what allows an entry of `peers`, and has no effect but that. Nor is `quotaHeaders`,
// which says how quotas are shown, and goes with them.

/**
 * The configuration that was read, with everything that waits for the next start as it is in force.
 *
 * @returns  Also the settings that wait because they differ, by name.
 */
export function keepFixed(read: Loaded, inForce: Loaded): { loaded: Loaded; waiting: string[] } {
  const differ = (a: unknown, b: unknown): boolean => JSON.stringify(a) !== JSON.stringify(b)
  const waiting: string[] = SECTIONS.filter(key => differ(read.config[key], inForce.config[key]))
  for (const key of OF_THE_CHAIN)
    if (differ(read.config.audit[key], inForce.config.audit[key])) waiting.push(`audit.${key}`)
  const loaded = {
    ...read,
    config: withFixed(read.config, inForce.config),
    written: withFixed<Written>(read.written, inForce.written),
  }
  return { loaded, waiting }
}

/** As it is written: the same keys, any of which may be left out. */
type Written = Loaded['written'] & { audit?: Loaded['written'] }

function withFixed<T extends { audit?: object }>(read: T, inForce: T): T {
  return { ...read, ...pick(inForce, SECTIONS), audit: { ...read.audit, ...pick(inForce.audit ?? {}, OF_THE_CHAIN) } }
}

/** Those of the keys, the ones that are not there as `undefined`, so that they are taken away again. */
function pick(from: object, keys: readonly string[]): object {
  return Object.fromEntries(keys.map(key => [key, (from as Record<string, unknown>)[key]]))
}

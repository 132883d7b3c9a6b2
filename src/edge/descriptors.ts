import { readFileSync } from 'node:fs'

/**
 * How many connections fit into the file descriptors of this process. Both sides of a call take one, and probes, metrics,
 * certificates and the log need some in any case: when connections could take them all, `/livez` would go unanswered
 * first, and the kubelet would restart a sidecar that is merely full.
 *
 * @param wanted  `limits.connections`.
 * @param most    Descriptors that this process may have; undefined where that is not known.
 */
export function descriptorBudget(wanted: number, most: number | undefined): { connections: number; upstream: number } {
  if (most === undefined) return { connections: wanted, upstream: wanted * 4 }
  const free = Math.max(8, most - KEPT)
  const connections = Math.min(wanted, Math.floor(free / 2))
  return { connections, upstream: Math.min(wanted * 4, free - connections) }
}

/** For listeners, standard streams, watches, probes, Prometheus, JWKS and Redis. */
const KEPT = 64

/** Node raises the soft limit to the hard one at its start. @source proc_pid_limits(5) */
export function openFileLimit(): number | undefined {
  try {
    const soft = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined
  }
}

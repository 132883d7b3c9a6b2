import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * Fits V8 to a proxy; to be called before anything else is done.
 *
 * What it makes lives as long as one call. V8 takes objects that were alive in a few collections for long-lived ones and
 * begins to make them among the old, where each keeps alive all that it refers to until the next full collection.
 * Without that guess a collection of the young costs a tenth, and the heap stays small (bench/micro/journey.ts with
 * `--trace-gc`).
 *
 * Of V8's two optimising compilers the quicker one, Maglev, is left out. What serves calls is soon compiled by the other
 * in any case; both at once take 20 to 30 MiB under load, outside of the heap, that malloc seldom gives back.
 *
 * A collection of the young is done by the thread that is there: what is alive is so little that waking others to help
 * costs more than they do.
 *
 * Small buffers are cut from slabs, and one piece that is still in use keeps its whole slab. With Node's 64 KiB (8 KiB
 * until lately) some 150 to 200 slabs waited for a full collection while connections came and went, 9 to 13 MiB more one
 * minute than the next.
 */
export function tuneHeap(): void {
  Buffer.poolSize = 8 * 1024
  setFlagsFromString('--no-allocation-site-pretenuring')
  setFlagsFromString('--no-maglev')
  setFlagsFromString('--no-parallel-scavenge')
}

/**
 * Has V8 optimise what was called 700 times instead of 3,000, or a quiet pod would run slow code for hours; to be called
 * when everything is up. Earlier it would optimise what reads the configuration, which is done with that.
 */
export function optimizeSoon(): void {
  setFlagsFromString('--invocation-count-for-turbofan=700')
}

/**
 * Gives back what reading modules and configuration has left behind, a quarter of the memory of a sidecar that waits.
 * A full collection takes some 50 ms: to be called once, when everything is up and before anybody has connected.
 */
export function settleHeap(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (how: { type: 'major'; flavor: 'last-resort' }) => void
  setFlagsFromString('--no-expose-gc')
  collect({ type: 'major', flavor: 'last-resort' })
}

import { setFlagsFromString } from 'node:v8'

/**
 * Fits the garbage collector to what a proxy makes: objects that live as long as one call. V8 takes those that were
 * alive in a few collections for long-lived ones and begins to make them among the old, where each keeps alive all that
 * it refers to until the next full collection. Without that guess a collection of the young costs a tenth, and the heap
 * stays small (bench/micro/journey.ts with `--trace-gc`). To be called before the first call is served.
 */
export function tuneHeap(): void {
  setFlagsFromString('--no-allocation-site-pretenuring')
}

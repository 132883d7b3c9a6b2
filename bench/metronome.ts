import { parentPort, workerData } from 'node:worker_threads'

/**
 * Says when the next call is due: at random, so many a second on average (a Poisson process). A thread of its own that
 * sleeps until then, for the timers of an event loop come a millisecond's worth at a time, which no crowd of callers does.
 */
const { ms, rate } = workerData as { ms: number; rate: number }
const sleeper = new Int32Array(new SharedArrayBuffer(4))
const end = performance.now() + ms
for (let due = performance.now(); due < end; due -= (Math.log(1 - Math.random()) * 1000) / rate) {
  const waitMs = due - performance.now()
  if (waitMs > 0) Atomics.wait(sleeper, 0, 0, waitMs)
  parentPort?.postMessage(0)
}

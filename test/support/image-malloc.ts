import { existsSync } from 'node:fs'

const LIBRARIES = ['x86_64', 'aarch64'].map(cpu => `/usr/lib/${cpu}-linux-gnu/libjemalloc.so.2`)

/**
 * The environment that gives a sidecar the image's malloc (`ENV` of the Dockerfile), where Debian's libjemalloc2 is
 * installed; empty elsewhere, and then it has the machine's.
 */
export function imageMalloc(): { LD_PRELOAD?: string; MALLOC_CONF?: string } {
  const library = LIBRARIES.find(existsSync)
  if (library === undefined) return {}
  return { LD_PRELOAD: library, MALLOC_CONF: 'narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0' }
}

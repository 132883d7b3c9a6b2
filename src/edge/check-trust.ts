import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { TlsConfig } from '../config/config.ts'
import { explainTrust, mountPoints, type TrustExplanation, type TrustFileFacts } from '../core/trust/explain.ts'
import { readGeneration } from './files/read-generation.ts'
import { readTrustFiles } from './trust-source.ts'

/** Reads the certificates of a configuration once and explains them, for `mcp-sidecar check`. */
export async function checkTrust(tls: TlsConfig, nowMs: number): Promise<TrustExplanation> {
  const paths = [tls.cert, tls.key, tls.clientCa, tls.crl].filter(path => path !== undefined)
  const files = await readGeneration([...new Set(paths)])
  return explainTrust(readTrustFiles(files, tls, nowMs), tls, await fileFacts(tls), nowMs)
}

async function fileFacts(tls: TlsConfig): Promise<TrustFileFacts[]> {
  // Only Linux has it, and only there are mounts of single files a trap.
  const mounts = mountPoints(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''))
  const settings = {
    'tls.cert': tls.cert,
    'tls.key': tls.key,
    'tls.clientCa': tls.clientCa,
    'tls.crl': tls.crl,
  } as const
  const facts: TrustFileFacts[] = []
  for (const [setting, path] of Object.entries(settings)) {
    if (path === undefined) continue
    const mode = await stat(path).then(
      found => found.mode,
      () => undefined,
    )
    facts.push({ setting: setting as keyof typeof settings, path, mode, isMountPoint: mounts.has(resolve(path)) })
  }
  return facts
}

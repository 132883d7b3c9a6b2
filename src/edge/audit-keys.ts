import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { AuditConfig } from '../config/config.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { CheckpointSigner } from './checkpoint-signer.ts'

/** The keys of the audit trail. They are read once: a chain that changed its key on the way would prove less. */
export interface AuditKeys {
  /** Undefined without `audit.signingKey`. */
  readonly signer: CheckpointSigner | undefined
  /** Key of the digests of arguments; without `audit.digestKey` a random one, so that they join within one process. */
  readonly digestKey: Buffer
}

/** Reads the files that `audit.signingKey` and `audit.digestKey` name; the error says which setting, which file and why. */
export async function readAuditKeys(audit: AuditConfig): Promise<Result<AuditKeys, string>> {
  const signer = audit.signingKey === undefined ? ok(undefined) : await signerFrom(audit.signingKey)
  if (!signer.ok) return signer
  const digestKey = audit.digestKey === undefined ? ok(randomBytes(32)) : await digestKeyFrom(audit.digestKey)
  if (!digestKey.ok) return digestKey
  return ok({ signer: signer.value, digestKey: digestKey.value })
}

async function signerFrom(path: string): Promise<Result<CheckpointSigner, string>> {
  const pem = await readText(path, 'audit.signingKey')
  if (!pem.ok) return pem
  // jose, which only those load who sign.
  const { loadCheckpointSigner } = await import('./checkpoint-signer.ts')
  const signer = await loadCheckpointSigner(pem.value)
  return signer.ok ? signer : err(`audit.signingKey: ${path}: ${signer.error}`)
}

async function digestKeyFrom(path: string): Promise<Result<Buffer, string>> {
  const text = await readText(path, 'audit.digestKey')
  if (!text.ok) return text
  const key = Buffer.from(text.value.trim())
  return key.length < 16 ? err(`audit.digestKey: ${path}: shorter than 16 bytes`) : ok(key)
}

async function readText(path: string, setting: string): Promise<Result<string, string>> {
  try {
    return ok(await readFile(path, 'utf8'))
  } catch (error) {
    return err(`${setting}: ${path}: cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}

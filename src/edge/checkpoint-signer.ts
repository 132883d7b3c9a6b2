import { createPublicKey } from 'node:crypto'
import { CompactSign, calculateJwkThumbprint, exportJWK, importPKCS8, importSPKI } from 'jose'
import { err, ok, type Result } from '../core/result.ts'

/** Signs where the audit chain stands, so that nobody without the key can write its past anew. */
export interface CheckpointSigner {
  /** RFC 7638 thumbprint of the key. */
  readonly keyId: string
  /** Compact JWS (RFC 7515, EdDSA of RFC 8037) over `{"chain","seq","hash"}`. */
  sign(chain: string, seq: number, hash: string): Promise<string>
}

/** @param pem  Ed25519 private key, PKCS #8 in PEM. */
export async function loadCheckpointSigner(pem: string): Promise<Result<CheckpointSigner, string>> {
  try {
    const key = await importPKCS8(pem, 'EdDSA')
    const publicPem = createPublicKey(pem).export({ type: 'spki', format: 'pem' }).toString()
    const keyId = await calculateJwkThumbprint(
      await exportJWK(await importSPKI(publicPem, 'EdDSA', { extractable: true })),
    )
    // The first line of the chain names the key; a checkpoint has to stay short.
    const header = { alg: 'EdDSA' }
    return ok({
      keyId,
      sign: (chain, seq, hash) =>
        new CompactSign(new TextEncoder().encode(JSON.stringify({ chain, seq, hash })))
          .setProtectedHeader(header)
          .sign(key),
    })
  } catch (error) {
    return err(`no Ed25519 key in PKCS #8 PEM (${error instanceof Error ? error.message : String(error)})`)
  }
}

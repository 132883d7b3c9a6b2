import { type KeyObject, verify } from 'node:crypto'

/** The member `checkpoint` of an audit line. */
export interface CheckpointClaim {
  readonly seq: number
  readonly hash: string
  readonly signature: string
}

/**
 * Says what is wrong with a checkpoint's signature; undefined when it is good.
 *
 * @source RFC 7515 §5.2 (compact JWS), RFC 8037 §3.1 (EdDSA with Ed25519). The algorithm is not read from the signature.
 */
export function verifyCheckpoint(claim: CheckpointClaim, chain: string, key: KeyObject): string | undefined {
  const parts = claim.signature.split('.')
  if (parts.length !== 3) return 'its signature is no compact JWS'
  const [header, payload, signature] = parts as [string, string, string]
  const signed = Buffer.from(`${header}.${payload}`, 'latin1')
  if (!verify(null, signed, key, Buffer.from(signature, 'base64url'))) return 'the signature is not of this key'
  try {
    const said = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
    if (said.chain !== chain) return 'the signature belongs to another chain'
    if (said.seq !== claim.seq || said.hash !== claim.hash) return 'the signature is over another line'
  } catch {
    return 'what was signed is not readable'
  }
  return undefined
}

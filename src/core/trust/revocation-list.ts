import { type KeyObject, verify } from 'node:crypto'
import { err, ok, type Result } from '../result.ts'
import {
  childrenOf,
  childrenOfTag,
  type DerElement,
  oidText,
  readElement,
  readOnly,
  TAG,
  timeMs,
  unsignedHex,
} from './der.ts'
import { type DistinguishedName, readName } from './names.ts'

/** A certificate revocation list (RFC 5280 §5) as it was read; `isSignedBy` tells whether to believe it. */
export interface RevocationList {
  readonly issuer: DistinguishedName
  readonly thisUpdateMs: number
  readonly nextUpdateMs: number
  /** Serials in upper-case hex. */
  readonly revoked: ReadonlySet<string>
  readonly der: Buffer
  readonly signature: { readonly content: Buffer; readonly algorithm: string; readonly value: Buffer }
}

export type RevocationFault = { readonly code: 'crl_malformed' | 'crl_unsupported'; readonly message: string }

/**
 * Reads a full, direct revocation list. Delta, indirect and partitioned ones are refused: what they leave out would be
 * taken for "not revoked".
 */
export function readRevocationList(der: Buffer): Result<RevocationList, RevocationFault> {
  const [content, algorithm, signature, ...rest] = childrenOfTag(readOnly(der), TAG.sequence) ?? []
  const [algorithmId] = childrenOfTag(algorithm, TAG.sequence) ?? []
  const fields = childrenOfTag(content, TAG.sequence)
  const isFormed = algorithmId?.tag === TAG.oid && signature?.tag === TAG.bitString && signature.content[0] === 0
  if (content === undefined || fields === undefined || !isFormed || rest.length > 0) return malformed('is not DER')

  const signedWith = oidText(algorithmId.content)
  if (ALGORITHMS[signedWith] === undefined) {
    return err({
      code: 'crl_unsupported',
      message: `is signed with an algorithm that is not supported (${signedWith})`,
    })
  }

  const start = fields[0]?.tag === TAG.integer ? 1 : 0
  const [, issuerField, thisUpdate, nextUpdate, ...optional] = fields.slice(start)
  const issuer = readName(issuerField)
  if (!issuer.ok) return malformed(`has an issuer that ${issuer.error}`)
  const thisUpdateMs = timeMs(thisUpdate)
  if (thisUpdateMs === undefined) return malformed('does not say when it was issued')
  // RFC 5280 §5.1.2.5 demands it, and without it nobody could tell a list that is no longer kept up.
  const nextUpdateMs = timeMs(nextUpdate)
  if (nextUpdateMs === undefined) return malformed('does not say when the next one is due')
  const entries = optional[0]?.tag === TAG.sequence ? optional[0] : undefined
  const extensions = optional.find(field => field.tag === 0xa0)
  const critical = criticalExtension(extensions === undefined ? undefined : childrenOf(extensions)?.[0])
  if (critical !== undefined) return incomplete(critical)

  const revoked = new Set<string>()
  const list = entries?.content ?? Buffer.alloc(0)
  for (let offset = 0; offset < list.length; ) {
    const entry = readElement(list, offset)
    const [serialField, , entryExtensions] = childrenOfTag(entry, TAG.sequence) ?? []
    const serial = unsignedHex(serialField)
    if (entry === undefined || serial === undefined) return malformed('has a malformed entry')
    const ofEntry = criticalExtension(entryExtensions)
    if (ofEntry !== undefined) return incomplete(ofEntry)
    revoked.add(serial)
    offset += entry.whole.length
  }
  return ok({
    issuer: issuer.value,
    thisUpdateMs,
    nextUpdateMs,
    revoked,
    der,
    signature: {
      content: content.whole,
      algorithm: signedWith,
      value: signature.content.subarray(1),
    },
  })
}

/** Whether the holder of a key has signed the list. */
export function isSignedBy(list: RevocationList, publicKey: KeyObject): boolean {
  const known = ALGORITHMS[list.signature.algorithm]
  if (known === undefined || publicKey.asymmetricKeyType !== known.keyType) return false
  return verify(known.digest, list.signature.content, publicKey, list.signature.value)
}

function criticalExtension(extensions: DerElement | undefined): string | undefined {
  for (const extension of childrenOfTag(extensions, TAG.sequence) ?? []) {
    const [id, second] = childrenOfTag(extension, TAG.sequence) ?? []
    if (id !== undefined && second?.tag === TAG.boolean && second.content[0] !== 0) return oidText(id.content)
  }
  return undefined
}

function malformed(message: string): Result<never, RevocationFault> {
  return err({ code: 'crl_malformed', message })
}

function incomplete(extension: string): Result<never, RevocationFault> {
  const message = `is a delta, indirect or partitioned list (critical extension ${extension}); only full lists are read`
  return err({ code: 'crl_unsupported', message })
}

/** Signature algorithms by object identifier (RFC 5758, RFC 4055, RFC 8410). No SHA-1, and no RSA-PSS. */
const ALGORITHMS: Readonly<Record<string, { keyType: string; digest: string | null }>> = {
  '1.2.840.10045.4.3.2': { keyType: 'ec', digest: 'sha256' },
  '1.2.840.10045.4.3.3': { keyType: 'ec', digest: 'sha384' },
  '1.2.840.10045.4.3.4': { keyType: 'ec', digest: 'sha512' },
  '1.2.840.113549.1.1.11': { keyType: 'rsa', digest: 'sha256' },
  '1.2.840.113549.1.1.12': { keyType: 'rsa', digest: 'sha384' },
  '1.2.840.113549.1.1.13': { keyType: 'rsa', digest: 'sha512' },
  '1.3.101.112': { keyType: 'ed25519', digest: null },
  '1.3.101.113': { keyType: 'ed448', digest: null },
}

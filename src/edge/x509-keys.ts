import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import { bitString, type Der, encode, oid, reparse, sequence } from './x509-writer.ts'

/** Kinds of key that certificates are minted for; the signature algorithm follows from the issuer's kind. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'rsa-2048' | 'ed25519'

/** A key pair; the public one is what a certificate certifies. */
export interface Keys {
  privateKey: KeyObject
  publicKey: KeyObject
}

export function newKeys(type: KeyType): Keys {
  switch (type) {
    case 'ec-p256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' })
    case 'ec-p384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' })
    case 'rsa-2048':
      return generateKeyPairSync('rsa', { modulusLength: 2048 })
    case 'ed25519':
      return generateKeyPairSync('ed25519')
  }
}

/** The pair of a private key in PEM. */
export function keysOf(key: string): Keys {
  const privateKey = createPrivateKey(key)
  return { privateKey, publicKey: createPublicKey(privateKey) }
}

/** RFC 7093 §2 method 1: the leftmost 160 bits of a SHA-256, rather than RFC 5280's SHA-1. */
export function keyIdOf(publicKey: KeyObject): Buffer {
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  return createHash('sha256').update(spki).digest().subarray(0, 20)
}

export function newSerial(): Buffer {
  const serial = randomBytes(16)
  // Positive and of full length: never a leading zero byte, never the sign bit.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40
  return serial
}

export function signatureAlgorithm(key: KeyObject): Der {
  const [algorithm, ...parameters] = SIGNATURES[kindOf(key)].algorithm
  return sequence(oid(algorithm), ...parameters)
}

/** Content, algorithm and signature, the outer form of certificates and revocation lists alike. */
export function signed(content: Der, algorithm: Der, key: KeyObject): Buffer {
  const signature = sign(SIGNATURES[kindOf(key)].digest, encode(content), key)
  return encode(sequence(content, algorithm, bitString(signature)))
}

function kindOf(key: KeyObject): KeyType {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return 'rsa-2048'
    case 'ed25519':
      return 'ed25519'
    default:
      return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ec-p384' : 'ec-p256'
  }
}

/** Object identifiers (RFC 5758, RFC 4055, RFC 8410) and digests of the signatures. RSA alone has a NULL parameter. */
const SIGNATURES: Record<KeyType, { algorithm: readonly [string, ...Der[]]; digest: string | null }> = {
  'ec-p256': { algorithm: ['1.2.840.10045.4.3.2'], digest: 'sha256' },
  'ec-p384': { algorithm: ['1.2.840.10045.4.3.3'], digest: 'sha384' },
  'rsa-2048': { algorithm: ['1.2.840.113549.1.1.11', reparse(Buffer.from('0500', 'hex'))], digest: 'sha256' },
  ed25519: { algorithm: ['1.3.101.112'], digest: null },
}

import { constants } from 'node:crypto'
import type { SecureContextOptions } from 'node:tls'
import type { TlsConfig } from '../../config/config.ts'
import type { TrustBundle } from './bundle.ts'

/**
 * Options of every TLS context of the listener, the first one and each that follows: a context that is set later without
 * `secureOptions` would bring session resumption back, and a resumed session is never checked against the current CAs.
 *
 * To be passed to `tls.createServer` and to `setSecureContext`, never through an `SNICallback`, and never with
 * `ticketKeys`.
 */
export function secureContextOptions(
  bundle: TrustBundle,
  tls: Pick<TlsConfig, 'minVersion' | 'groups'>,
): SecureContextOptions {
  return {
    cert: bundle.pem.cert,
    key: bundle.pem.key,
    // INVARIANT: never empty. Node would read an absent list as "the public CAs".
    ca: [...bundle.pem.ca],
    // With partial coverage OpenSSL gets no list at all; `judgeHandshake` checks them.
    ...(bundle.crlCoverage === 'full' && bundle.pem.crl.length > 0 ? { crl: [...bundle.pem.crl] } : {}),
    ...(bundle.partialChain ? { allowPartialTrustChain: true } : {}),
    minVersion: tls.minVersion,
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    ecdhCurve: groupsFor(tls).join(':'),
    sigalgs: SIGNATURE_ALGORITHMS,
    // Fixed, because Node would derive it from the arguments of the process.
    sessionIdContext: 'mcp-sidecar',
    secureOptions:
      constants.SSL_OP_NO_TICKET |
      constants.SSL_OP_NO_RENEGOTIATION |
      constants.SSL_OP_NO_COMPRESSION |
      constants.SSL_OP_CIPHER_SERVER_PREFERENCE,
  }
}

/**
 * TLS 1.2 knows one list for key exchange and for the curves of certificates (RFC 8422 §5.1.1), so there the curves that
 * a certificate may be on come last in it; TLS 1.3 has the signature algorithms for that.
 */
function groupsFor({ minVersion, groups }: Pick<TlsConfig, 'minVersion' | 'groups'>): string[] {
  if (minVersion === 'TLSv1.3') return groups
  return [...groups, ...['P-256', 'P-384', 'P-521'].filter(curve => !groups.includes(curve))]
}

/** TLS 1.3, and of TLS 1.2 what has forward secrecy and authenticated encryption. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

/** No SHA-1. PKCS#1 is there for the signatures on certificates; TLS 1.3 itself never signs with it. */
const SIGNATURE_ALGORITHMS = [
  'ecdsa_secp256r1_sha256',
  'ecdsa_secp384r1_sha384',
  'ecdsa_secp521r1_sha512',
  'ed25519',
  'rsa_pss_rsae_sha256',
  'rsa_pss_rsae_sha384',
  'rsa_pss_rsae_sha512',
  'rsa_pss_pss_sha256',
  'rsa_pss_pss_sha384',
  'rsa_pss_pss_sha512',
  'rsa_pkcs1_sha256',
  'rsa_pkcs1_sha384',
  'rsa_pkcs1_sha512',
].join(':')

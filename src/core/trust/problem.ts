/** What can be wrong with a set of certificates: the key of metrics, tests and audit lines. */
export type TrustFault =
  | 'file_missing'
  | 'file_unreadable'
  | 'file_empty'
  | 'files_unsettled'
  | 'pem_truncated'
  | 'pem_garbage'
  | 'certificate_missing'
  | 'certificate_malformed'
  | 'certificate_expired'
  | 'certificate_not_yet_valid'
  | 'certificate_purpose'
  | 'certificate_temporary'
  | 'certificate_self_signed'
  | 'chain_broken'
  | 'key_missing'
  | 'key_ambiguous'
  | 'key_encrypted'
  | 'key_malformed'
  | 'key_unsuitable'
  | 'key_mismatch'
  | 'ca_missing'
  | 'ca_not_authority'
  | 'ca_expired'
  | 'crl_missing'
  | 'crl_malformed'
  | 'crl_unsupported'
  | 'crl_signature'
  | 'crl_expired'
  | 'crl_not_yet_valid'
  | 'context_refused'

/** What is not wrong, but will be, or should not be like that. */
export type TrustAdvice =
  | 'renewal_late'
  | 'no_names'
  | 'leaf_is_authority'
  | 'issuer_differs'
  | 'key_in_ca'
  | 'key_readable'
  | 'ca_expired'
  | 'ca_from_leaf_secret'
  | 'crl_stranger'
  | 'crl_superseded'
  | 'crl_expires_soon'
  | 'sub_path'

export type TrustSetting = 'tls.cert' | 'tls.key' | 'tls.clientCa' | 'tls.crl'

/** One thing that is wrong, in words: which file, which certificate, what, since when. */
export interface TrustFinding<Code extends string> {
  readonly setting: TrustSetting
  readonly path: string
  readonly code: Code
  /** Completes a sentence that begins with the file: `holds no certificate`. */
  readonly message: string
  /** Since when it is wrong (until when it was or is right), ms since the epoch. */
  readonly sinceMs?: number
}

export type TrustProblem = TrustFinding<TrustFault>
export type TrustWarning = TrustFinding<TrustAdvice>

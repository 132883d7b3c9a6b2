/**
 * A client certificate that the TLS layer has verified against the client CA, read once for each connection.
 * Times are milliseconds since the epoch.
 */
export interface ClientCertificate {
  readonly subject: string
  readonly issuer: string
  readonly serial: string
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint256: string
  readonly commonName: string | undefined
  /** Subject alternative names by type, exactly as encoded, never taken from a display string. */
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly ips: readonly string[]
  readonly notBeforeMs: number
  readonly notAfterMs: number
  readonly der: Buffer
  /** DER of the issuers as the peer was verified, leaf's issuer first, root last. */
  readonly chain: readonly Buffer[]
}

/** The workload at the other end of the connection: a certificate that an entry of `peers` names. */
export interface Peer {
  /** Name of the matching entry. */
  readonly name: string
  /** The name in the certificate that matched (a SAN, the CN or the fingerprint), typed: `uri:spiffe://…`. */
  readonly matched: string
  readonly certificate: ClientCertificate
}

/** The person or agent on whose behalf the call is made; a user is (org, id), never the id alone. */
export interface User {
  readonly id: string
  readonly org: string | undefined
  readonly email: string | undefined
  readonly scopes: readonly string[]
  readonly roles: readonly string[]
  readonly source: 'headers' | 'jwt' | 'both'
  /** Scopes that were asserted beyond the peer's ceiling and cut. */
  readonly scopesCut: readonly string[]
  /** When the token behind this user ends, ms since the epoch; undefined for users from headers. */
  readonly expiresAtMs: number | undefined
}

/** Peer and user together. Without a user the peer is the principal. */
export interface Caller {
  readonly peer: Peer
  readonly user: User | undefined
}

/**
 * The configuration after validation, with every unit resolved: durations are milliseconds, sizes are bytes, defaults
 * are filled in and `${NAME}` is replaced. The shape follows section 3 of the public contract; `schema.ts` produces it.
 */
export interface Config {
  listen: ListenConfig
  upstream: UpstreamConfig
  admin: AdminConfig
  tls: TlsConfig
  peers: PeerEntry[]
  /** Set when the operator has accepted in writing that any certificate of the client CA is a peer. */
  unsafeAnyPeer: boolean
  identity: IdentityConfig
  policy: PolicyConfig
  quotas: QuotaConfig[]
  quotaStore: QuotaStoreConfig
  quotaHeaders: 'always' | 'refused' | 'never'
  audit: AuditConfig
  limits: LimitsConfig
  drain: DrainConfig
}

export interface ListenConfig {
  address: SocketAddress
  hosts: string[]
  origins: string[]
}

/** `host:port` resolved; the port may be 0 in tests. */
export interface SocketAddress {
  host: string
  port: number
}

export interface UpstreamConfig {
  /** Where the MCP server is. */
  target: { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string }
  /** As written in the file, for messages. */
  url: string
  unsafeRemote: boolean
  paths: string[]
  host: 'rewrite' | 'preserve'
  timeouts: { connectMs: number; firstByteMs: number; streamIdleMs: number; tools: ToolTimeout[] }
  breaker: { errorPercent: number; minimum: number; windowMs: number; openForMs: number }
}

/** Longest time to the first byte of an answer for the tools that a glob names; the first match counts. */
export interface ToolTimeout {
  tool: string
  firstByteMs: number
}

export interface AdminConfig {
  address: SocketAddress
  /** Path of the operations socket, or undefined when it is off. */
  operationsSocket: string | undefined
}

export interface TlsConfig {
  /** PEM certificate chain, leaf first; holds the key as well when `key` is undefined. */
  cert: string
  key: string | undefined
  clientCa: string
  crl: string | undefined
  crlCoverage: 'full' | 'partial'
  minVersion: 'TLSv1.2' | 'TLSv1.3'
  groups: string[]
  maxConnectionAgeMs: number | undefined
}

export interface PeerEntry {
  name: string
  match: PeerMatch
  mayAssert: MayAssert
}

/** Every given condition must hold. Patterns: `*` stays within a segment, `**` crosses. */
export interface PeerMatch {
  uri?: string
  dns?: string
  cn?: string
  /** SHA-256 of the DER certificate, lower-case hex without separators. */
  fingerprint256?: string
}

/** What a certificate may claim about a user. An empty list: nothing of that kind. `*` is any run of characters. */
export interface MayAssert {
  users: string[]
  orgs: string[]
  /** A ceiling: scopes beyond it are cut. */
  scopes: string[]
  roles: string[]
  emails: string[]
  forwardedFor: boolean
}

export interface IdentityConfig {
  source: 'headers' | 'jwt' | 'both'
  required: boolean
  forward: { user: string; email: string; org: string; scopes: string; roles: string }
  clientCert: ('xfcc' | 'rfc9440' | 'xfcc-cert')[]
  pass: string[]
  jwt: JwtConfig | undefined
  /** Canonical URI of this MCP server (RFC 9728 `resource`). */
  resource: string | undefined
}

export interface JwtConfig {
  issuer: string
  /** One or several accepted audiences. */
  audience: string[]
  /** `https://…`, `http://…` on loopback, or a file path. */
  jwks: string
  algorithms: string[]
  requiredScopes: string[]
  /** Claim names in order of preference, for each field of the user. */
  claims: { user: string[]; email: string[]; org: string[]; scopes: string[]; roles: string[] }
  certificateBound: boolean
  clockSkewMs: number
}

export interface PolicyConfig {
  mode: 'enforce' | 'shadow'
  default: 'allow' | 'deny'
  denyStyle: 'explain' | 'hide'
  refusals: 'in-band' | 'http'
  rules: RuleConfig[]
}

export interface RuleConfig {
  id: string
  effect: 'allow' | 'deny'
  shadow: boolean
  when: { peers?: string[]; users?: string[]; orgs?: string[]; scopes?: string[]; roles?: string[] }
  methods?: string[]
  tools?: string[]
  resources?: string[]
  prompts?: string[]
  args?: Record<string, ArgumentConstraint>
}

/** A constraint on one argument of a tool; the key in `args` is the argument's name, or a dotted path into it. */
export interface ArgumentConstraint {
  required?: boolean
  equals?: string | number | boolean | null
  enum?: (string | number | boolean | null)[]
  min?: number
  max?: number
  minLength?: number
  maxLength?: number
  /** The argument, after normalisation as a path, begins with this path. */
  prefix?: string
  /** The argument is a URL whose host is one of these (`*` within a label, `**` across). */
  hosts?: string[]
  /** A linear-time regular expression (RE2 syntax) that the whole argument matches. */
  pattern?: string
}

export interface QuotaConfig {
  name: string
  key: QuotaKey[]
  match: { methods?: string[]; tools?: string[] }
  windows: { limit: number; perMs: number }[]
  /** Weight of a call by tool glob; the first match counts, 1 when none does. */
  cost: { tool: string; weight: number }[]
  concurrent: number | undefined
}

export type QuotaKey = 'user' | 'org' | 'peer' | 'tool' | 'session'

export type QuotaStoreConfig =
  | { kind: 'memory'; share: { kind: 'replicas'; replicas: number } | { kind: 'dns'; name: string } | undefined }
  | { kind: 'redis'; url: string; onFailure: 'local' | 'deny'; deadlineMs: number }

export interface AuditConfig {
  redact: { keys: string[]; patterns: RedactPattern[] }
  args: 'redacted' | 'digest' | 'none'
  /** Arguments of these tools that are written as they are; everything else follows `args`. */
  allow: { tool: string; args: string[] }[]
  maxLineBytes: number
  chain: boolean
  signingKey: string | undefined
  digestKey: string | undefined
  /** A signed checkpoint every so many lines. */
  checkpointEvery: number
  onBlocked: 'block' | 'drop'
}

export type RedactPattern = 'bearer' | 'jwt' | 'email' | 'card' | 'cloud-key' | 'private-key' | 'url-userinfo'

export interface LimitsConfig {
  bodyBytes: number
  headerBytes: number
  depth: number
  batch: number
  eventBytes: number
  connections: number
  handshakes: number
  streamsPerUser: number
  streamAgeMs: number
}

export interface DrainConfig {
  lameDuckMs: number
  graceMs: number
}

import type { IdentityConfig, UpstreamConfig } from '../../config/config.ts'
import { ownText } from '../own-text.ts'
import { type ClientCertificateHeaders, compileClientCertificateHeaders } from './client-cert-headers.ts'
import { foldName, isToken } from './fold.ts'

/**
 * What is done with each header of a request, made once for each generation of the configuration. The decision for a
 * spelling is remembered, so that a request costs one map look-up for each of its lines.
 */
export interface HeaderRules {
  readonly names: IdentityNames
  /** Host for the upstream; undefined when the caller's is kept. */
  readonly upstreamHost: string
  readonly preserveHost: boolean
  /** Credentials that reach the upstream, because `identity.pass` names them. */
  readonly pass: {
    readonly authorization: boolean
    readonly proxyAuthorization: boolean
    readonly dpop: boolean
    readonly cookie: boolean
  }
  readonly clientCertificate: ClientCertificateHeaders
  classOf(name: string): HeaderClass
}

/** Names under `identity.forward`, as they are written to the upstream. */
export type IdentityNames = Readonly<IdentityConfig['forward']>

export interface HeaderClass {
  readonly kind: HeaderKind
  /** As it is configured or, for other names with a meaning, in lower case; empty where the name does not matter. */
  readonly name: string
  /** For identity: spelt in a way that only folds onto the configured name. */
  readonly isAlias: boolean
}

/** One number for each way of being treated; `as const` stands in for an enum, which type stripping does not know. */
export const HeaderKind = {
  /** Has no meaning here and goes through, unless `Connection` names it. */
  other: 0,
  /** Means something to the message or the upstream and goes through whatever `Connection` says. */
  endToEnd: 1,
  /** Never goes through as it came. */
  dropped: 2,
  malformed: 3,
  connection: 4,
  host: 5,
  origin: 6,
  userAgent: 7,
  requestId: 8,
  forwardedFor: 9,
  traceparent: 10,
  authorization: 11,
  proxyAuthorization: 12,
  dpop: 13,
  cookie: 14,
  lastEventId: 15,
  /** From here on: who the user is. */
  identityUser: 16,
  identityEmail: 17,
  identityOrg: 18,
  identityScopes: 19,
  identityRoles: 20,
} as const
export type HeaderKind = (typeof HeaderKind)[keyof typeof HeaderKind]

export function compileHeaderRules(identity: IdentityConfig, upstream: UpstreamConfig): HeaderRules {
  const known = knownClasses(identity)
  const seed = new Map<string, HeaderClass>()
  for (const one of known.values()) {
    seed.set(one.name, one)
    seed.set(one.name.toLowerCase(), one)
    seed.set(titleCase(one.name), one)
  }
  let remembered = new Map(seed)
  const passes = new Set(identity.pass.map(foldName))

  function classOf(name: string): HeaderClass {
    const before = remembered.get(name)
    if (before !== undefined) return before
    const found = classify(known, name)
    if (name.length <= LONGEST_REMEMBERED) {
      // Somebody who invents names costs only the forgetting of other invented names.
      if (remembered.size >= MOST_REMEMBERED) remembered = new Map(seed)
      remembered.set(ownText(name), found)
    }
    return found
  }

  return {
    names: identity.forward,
    upstreamHost: authorityOf(upstream),
    preserveHost: upstream.host === 'preserve',
    pass: {
      authorization: passes.has('authorization'),
      proxyAuthorization: passes.has('proxy-authorization'),
      dpop: passes.has('dpop'),
      cookie: passes.has('cookie'),
    },
    clientCertificate: compileClientCertificateHeaders(identity.clientCert),
    classOf,
  }
}

const LONGEST_REMEMBERED = 64
const MOST_REMEMBERED = 1024

function classify(known: ReadonlyMap<string, HeaderClass>, name: string): HeaderClass {
  if (!isToken(name)) return MALFORMED
  const folded = foldName(name)
  const exact = known.get(folded)
  if (exact !== undefined) {
    if (name.toLowerCase() === exact.name.toLowerCase()) return exact
    return exact.kind >= HeaderKind.identityUser ? { ...exact, isAlias: true } : DROPPED
  }
  const isAlias = name.toLowerCase() !== folded
  if (folded.startsWith('mcp-')) return isAlias ? DROPPED : END_TO_END
  for (const prefix of DROPPED_PREFIXES) if (folded.startsWith(prefix)) return DROPPED
  return OTHER
}

function plain(kind: HeaderKind): HeaderClass {
  return { kind, name: '', isAlias: false }
}

const OTHER = plain(HeaderKind.other)
const END_TO_END = plain(HeaderKind.endToEnd)
const DROPPED = plain(HeaderKind.dropped)
const MALFORMED = plain(HeaderKind.malformed)

function knownClasses(identity: IdentityConfig): Map<string, HeaderClass> {
  const classes = new Map<string, HeaderClass>()
  for (const name of DROPPED_NAMES) classes.set(name, { ...DROPPED, name })
  for (const name of END_TO_END_NAMES) classes.set(name, { ...END_TO_END, name })
  for (const [name, kind] of Object.entries(READ_NAMES)) classes.set(name, { kind, name, isAlias: false })
  const { forward } = identity
  classes.set(foldName(forward.user), { kind: HeaderKind.identityUser, name: forward.user, isAlias: false })
  classes.set(foldName(forward.email), { kind: HeaderKind.identityEmail, name: forward.email, isAlias: false })
  classes.set(foldName(forward.org), { kind: HeaderKind.identityOrg, name: forward.org, isAlias: false })
  classes.set(foldName(forward.scopes), { kind: HeaderKind.identityScopes, name: forward.scopes, isAlias: false })
  classes.set(foldName(forward.roles), { kind: HeaderKind.identityRoles, name: forward.roles, isAlias: false })
  return classes
}

const READ_NAMES: Record<string, HeaderKind> = {
  connection: HeaderKind.connection,
  host: HeaderKind.host,
  origin: HeaderKind.origin,
  'user-agent': HeaderKind.userAgent,
  'x-request-id': HeaderKind.requestId,
  'x-forwarded-for': HeaderKind.forwardedFor,
  traceparent: HeaderKind.traceparent,
  authorization: HeaderKind.authorization,
  'proxy-authorization': HeaderKind.proxyAuthorization,
  dpop: HeaderKind.dpop,
  cookie: HeaderKind.cookie,
  'last-event-id': HeaderKind.lastEventId,
}

const END_TO_END_NAMES = ['accept', 'content-type', 'tracestate', 'baggage', 'cache-control']

const DROPPED_NAMES = [
  // The hop, and the framing of a body that is sent anew (RFC 9110 §7.6.1).
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
  'content-length',
  'content-encoding',
  'accept-encoding',
  // Names that the sidecar writes under its defaults, whatever they are configured to be.
  'x-user-id',
  'x-user-email',
  'x-org-id',
  'x-user-scopes',
  'x-user-roles',
  'client-cert',
  'client-cert-chain',
  'forwarded',
  // A certificate, a user or an address, as other proxies tell of them.
  'l5d-client-id',
  'x-arr-clientcert',
  'remote-user',
  'x-real-ip',
  'x-client-ip',
  'client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'fastly-client-ip',
  'x-cluster-client-ip',
  'x-originating-ip',
  'x-remote-ip',
  'x-remote-addr',
  // What makes a backend act on another method, path or host than the one that was checked, or use another proxy.
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'x-original-url',
  'x-original-uri',
  'x-rewrite-url',
  'x-original-host',
  'x-host',
  'x-http-host-override',
  'proxy',
  // A gateway's instruction to its own MCP back end.
  'mcp-init-host',
]

const DROPPED_PREFIXES = [
  'x-forwarded-',
  'x-envoy-',
  'ssl-client-',
  'x-ssl-',
  'x-client-cert',
  'x-amzn-mtls-',
  'x-amzn-oidc-',
  'x-auth-request-',
  'x-authenticated-',
  'x-remote-',
  'x-webauth-',
  'x-goog-authenticated-user-',
  'x-ms-client-principal',
  'impersonate-',
]

function authorityOf(upstream: UpstreamConfig): string {
  const { target } = upstream
  if (target.kind === 'unix') return 'localhost'
  const host = target.host.includes(':') ? `[${target.host}]` : target.host
  return target.port === 80 ? host : `${host}:${target.port}`
}

function titleCase(name: string): string {
  return name.toLowerCase().replace(/(^|-)[a-z]/g, start => start.toUpperCase())
}

import { foldName } from '../core/identity/fold.ts'
import type { JsonValue } from '../core/json.ts'
import { parseDuration } from './scalars.ts'
import { join } from './source.ts'
import { isLoopback, readTarget } from './target.ts'

/** What is wrong at a path; `load.ts` adds file and line. Messages never contain a value. */
export interface Finding {
  readonly path: string
  readonly message: string
}

/**
 * What no single key shows: things that must differ, that need or exclude one another. Works on the value as it was
 * parsed, whatever else is wrong with it, so that these problems are told together with all others.
 */
export function crossChecks(root: JsonValue): Finding[] {
  const findings: Finding[] = []
  const add = (path: string, message: string) => void findings.push({ path, message })
  const config = map(root)
  if (!config) return findings

  checkPeers(config, add)
  checkUpstream(config, add)
  checkIdentity(config, add)
  checkTls(config, add)
  checkPolicy(config, add)
  checkQuotas(config, add)
  checkAdmin(config, add)
  return findings
}

type Add = (path: string, message: string) => void
type Fields = Record<string, JsonValue>

function checkPeers(config: Fields, add: Add): void {
  const peers = list(config['peers'])
  const isAnyAccepted = flag(config['unsafeAnyPeer'])
  if (!isAnyAccepted && (config['peers'] === undefined || (peers && peers.length === 0))) {
    add('peers', 'at least one peer is needed: without an entry there is no service')
  }
  unique(peers, 'peers', 'name', 'another peer has this name', add)
  for (const [index, entry] of (peers ?? []).entries()) {
    const match = map(map(entry)?.['match'])
    if (!match || isAnyAccepted) continue
    const conditions = Object.entries(match).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    if (conditions.every(([, pattern]) => matchesAnything(pattern))) {
      const path = `peers[${index}].match`
      add(
        conditions.length === 1 ? join(path, conditions[0]?.[0] ?? '') : path,
        'any certificate of the client CA would match; name the peer, or set unsafeAnyPeer: true',
      )
    }
  }
}

/** Whether nothing is left of a pattern once stars, separators and the SPIFFE scheme are taken away. */
function matchesAnything(pattern: string): boolean {
  return pattern.includes('*') && /^(spiffe:)?[*/.:@-]*$/i.test(pattern)
}

function checkUpstream(config: Fields, add: Add): void {
  const upstream = map(config['upstream'])
  const url = upstream?.['url']
  if (typeof url === 'string' && !flag(upstream?.['unsafeRemote'])) {
    const target = readTarget(url)
    if (target?.kind === 'tcp' && !isLoopback(target.host)) {
      add(
        'upstream.url',
        'the upstream must be on loopback (127.0.0.1, localhost, [::1]) or a unix socket, unless unsafeRemote: true',
      )
    }
  }
  duplicates(list(upstream?.['paths']), 'upstream.paths', add)
}

function checkIdentity(config: Fields, add: Add): void {
  const identity = map(config['identity'])
  if (!identity) return
  const source = identity['source']
  const jwt = map(identity['jwt'])
  if ((source === 'jwt' || source === 'both') && identity['jwt'] === undefined) {
    add('identity.jwt', `needed because identity.source is ${source}`)
  }
  for (const key of ['issuer', 'jwks']) {
    const url = jwt?.[key]
    if (typeof url !== 'string' || !url.startsWith('http://')) continue
    if (!URL.canParse(url) || !isLoopback(new URL(url).hostname.replace(/^\[|\]$/g, ''))) {
      add(`identity.jwt.${key}`, 'must be https:// (http:// on loopback only)')
    }
  }
  const forward = map(identity['forward'])
  const seen = new Map<string, string>()
  for (const [field, name] of Object.entries({ ...FORWARD, ...forward })) {
    if (typeof name !== 'string') continue
    const folded = foldName(name)
    const path = forward && Object.hasOwn(forward, field) ? `identity.forward.${field}` : 'identity.forward'
    if (seen.has(folded)) add(path, `the same header as identity.forward.${seen.get(folded)}`)
    else if (RESERVED_HEADERS.has(folded) || folded.startsWith('mcp-'))
      add(path, 'this header has a meaning of its own and cannot carry the user')
    seen.set(folded, field)
  }
}

const FORWARD = {
  user: 'X-User-ID',
  email: 'X-User-Email',
  org: 'X-Org-ID',
  scopes: 'X-User-Scopes',
  roles: 'X-User-Roles',
}

const RESERVED_HEADERS = new Set(
  [
    'accept accept-encoding authorization client-cert client-cert-chain connection content-encoding content-length',
    'content-type cookie date dpop expect forwarded host http2-settings keep-alive last-event-id origin proxy',
    'proxy-authorization proxy-connection te traceparent tracestate trailer',
    'transfer-encoding upgrade user-agent x-forwarded-client-cert x-forwarded-for x-forwarded-host',
    'x-forwarded-proto x-request-id',
  ]
    .join(' ')
    .split(' '),
)

function checkTls(config: Fields, add: Add): void {
  const tls = map(config['tls'])
  if (tls && tls['crlCoverage'] !== undefined && tls['crl'] === undefined) {
    add('tls.crlCoverage', 'has no effect without tls.crl')
  }
  duplicates(list(tls?.['groups']), 'tls.groups', add)
}

function checkPolicy(config: Fields, add: Add): void {
  const rules = list(map(config['policy'])?.['rules'])
  unique(rules, 'policy.rules', 'id', 'another rule has this id', add)
  for (const [index, rule] of (rules ?? []).entries()) {
    const id = map(rule)?.['id']
    if (id === 'default' || id === 'implicit') {
      add(`policy.rules[${index}].id`, 'this id stands for calls that no rule decides; choose another')
    }
  }
}

function checkQuotas(config: Fields, add: Add): void {
  const quotas = list(config['quotas'])
  unique(quotas, 'quotas', 'name', 'another quota has this name', add)
  for (const [index, entry] of (quotas ?? []).entries()) {
    const quota = map(entry)
    if (!quota) continue
    const path = `quotas[${index}]`
    if (quota['windows'] === undefined && quota['concurrent'] === undefined) {
      add(path, 'a quota needs windows, concurrent, or both')
    }
    duplicates(list(quota['key']), `${path}.key`, add)
    const lengths = new Set<number>()
    let tightest = Number.POSITIVE_INFINITY
    for (const [at, window] of (list(quota['windows']) ?? []).entries()) {
      const { limit, per } = map(window) ?? {}
      const perMs = typeof per === 'string' ? parseDuration(per) : undefined
      if (perMs !== undefined && lengths.has(perMs)) {
        add(`${path}.windows[${at}].per`, 'another window of this quota has the same length')
      }
      if (perMs !== undefined) lengths.add(perMs)
      if (Number(limit) > 0) tightest = Math.min(tightest, Number(limit))
    }
    for (const [tool, weight] of Object.entries(map(quota['cost']) ?? {})) {
      if (Number(weight) > tightest) {
        add(join(`${path}.cost`, tool), 'such a call would never fit into the tightest window')
      }
    }
  }
}

function checkAdmin(config: Fields, add: Add): void {
  const address = map(config['admin'])?.['address']
  const port = (value: JsonValue | undefined, otherwise: number) =>
    typeof value === 'string' ? Number(/:(\d+)$/.exec(value)?.[1]) : otherwise
  const listenPort = port(map(config['listen'])?.['address'], 8443)
  if (port(address, 9090) === listenPort && listenPort !== 0) {
    add(address === undefined ? 'listen.address' : 'admin.address', 'listen and admin need ports of their own')
  }
}

function unique(items: JsonValue[] | undefined, path: string, key: string, message: string, add: Add): void {
  const seen = new Set<JsonValue>()
  for (const [index, item] of (items ?? []).entries()) {
    const value = map(item)?.[key]
    if (value === undefined) continue
    if (seen.has(value)) add(`${path}[${index}].${key}`, message)
    seen.add(value)
  }
}

function duplicates(items: JsonValue[] | undefined, path: string, add: Add): void {
  const seen = new Set<JsonValue>()
  for (const [index, item] of (items ?? []).entries()) {
    if (seen.has(item)) add(`${path}[${index}]`, 'listed twice')
    seen.add(item)
  }
}

function map(value: JsonValue | undefined): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
}

function list(value: JsonValue | undefined): JsonValue[] | undefined {
  return Array.isArray(value) ? value : undefined
}

function flag(value: JsonValue | undefined): boolean {
  return value === true || value === 'true'
}

import { performance } from 'node:perf_hooks'
import type { Exchange } from '../core/audit/exchange.ts'
import { readArrivalHeaders } from '../core/identity/arrival-headers.ts'
import { WELL_KNOWN } from '../core/identity/challenge.ts'
import type { Refusal } from '../core/refusal.ts'
import { matchPath, readTarget } from '../core/request-path.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { Snapshot } from '../live/live.ts'
import type { Settings } from '../live/settings.ts'
import type { Arrival } from './arrival.ts'
import type { Received, Route } from './call.ts'
import { newRequestId } from './request-id.ts'

/** Opens the record of one request: before anything is checked, so that whatever happens leaves its line. */
export function openExchange(
  arrival: Pick<Arrival, 'method' | 'connection'>,
  generation: { config: number; trust: number },
): Exchange {
  return {
    requestId: newRequestId(),
    startedAtMs: Date.now(),
    startedMono: performance.now(),
    httpMethod: arrival.method,
    route: 'other',
    connection: arrival.connection.facts,
    forwardedFor: undefined,
    userAgent: undefined,
    traceparent: undefined,
    peer: undefined,
    user: undefined,
    messages: [],
    session: undefined,
    verdict: undefined,
    quota: undefined,
    drawn: undefined,
    refusal: undefined,
    outcome: undefined,
    status: 0,
    rpcError: undefined,
    error: undefined,
    bytesIn: 0,
    bytesOut: 0,
    upstreamStartedMono: undefined,
    upstreamEndedMono: undefined,
    endedMono: undefined,
    streamed: false,
    generation,
  }
}

/** As many as an HTTP/2 head may have here. */
const MOST_HEADER_LINES = 200

/** What the checks of the HTTP request need besides the settings. */
export interface HostCheck {
  acceptsHost(host: string | undefined): boolean
  acceptsOrigin(origin: string): boolean
}

/** The request itself, before anybody is asked who sent it: target, method, headers, Host and Origin. */
export function receive(
  arrival: Arrival,
  exchange: Exchange,
  settings: Snapshot<Settings>,
  hosts: HostCheck,
): Result<Received, Refusal> {
  // The reader of HTTP/1.1 bounds bytes alone, and an HTTP/2 client may not have seen our settings yet.
  const { headerBytes } = settings.value.config.limits
  if (arrival.rawHeaders.length > MOST_HEADER_LINES * 2 || arrival.headBytes > headerBytes) {
    return err({ reason: 'request_headers_too_large' })
  }
  const headers = readArrivalHeaders(arrival.rawHeaders, settings.value.identity.rules)
  if (!headers.ok) return headers
  exchange.userAgent = headers.value.userAgent
  exchange.traceparent = headers.value.traceparent

  // Over HTTP/1.1 its target is none that the reader knows.
  if (arrival.method === 'CONNECT') return err({ reason: 'request_upgrade_refused' })
  const target = readTarget(arrival.target)
  if (!target.ok) return target
  const route = routeFor(target.value.path, arrival, settings.value)
  if (!route.ok) return route
  exchange.route = route.value.path

  if (hasUpgrade(arrival.rawHeaders)) return err({ reason: 'request_upgrade_refused' })
  // Here and not at the server: it gets its own authority as Host, which would hide a rebinding attack from it.
  if (!hosts.acceptsHost(headers.value.host)) {
    return err({ reason: 'request_host_not_accepted', host: headers.value.host ?? '' })
  }
  if (headers.value.origin !== undefined && !hosts.acceptsOrigin(headers.value.origin)) {
    return err({ reason: 'request_origin_not_accepted', origin: headers.value.origin })
  }
  return ok({ arrival, exchange, settings, route: route.value, target: target.value, headers: headers.value })
}

function routeFor(path: string, arrival: Arrival, settings: Settings): Result<Route, Refusal> {
  if (settings.config.identity.resource !== undefined && (path === WELL_KNOWN || path.startsWith(`${WELL_KNOWN}/`))) {
    return arrival.method === 'GET' || arrival.method === 'HEAD'
      ? ok({ path: WELL_KNOWN, kind: 'metadata' })
      : err({ reason: 'request_method_not_allowed', method: arrival.method, allow: 'GET' })
  }
  const matched = matchPath(settings.paths, path)
  if (matched === undefined) return err({ reason: 'request_path_unknown', path })
  switch (arrival.method) {
    case 'POST':
      return ok({ path: matched, kind: 'post' })
    case 'GET':
      // GET opens event streams and nothing else, so that no other page of the server can be had through here.
      if (acceptsEventStream(arrival.rawHeaders)) return ok({ path: matched, kind: 'stream' })
      return err({
        reason: 'request_method_not_allowed',
        method: 'GET without Accept: text/event-stream',
        allow: 'POST',
      })
    case 'DELETE':
      return ok({ path: matched, kind: 'delete' })
    default:
      return err({
        reason: 'request_method_not_allowed',
        method: arrival.method.slice(0, 16),
        allow: 'POST, GET, DELETE',
      })
  }
}

function acceptsEventStream(raw: readonly string[]): boolean {
  for (let i = 0; i < raw.length; i += 2) {
    if ((raw[i] as string).toLowerCase() === 'accept') {
      const value = (raw[i + 1] as string).toLowerCase()
      if (value.includes('text/event-stream')) return true
    }
  }
  return false
}

function hasUpgrade(raw: readonly string[]): boolean {
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string
    if (name.length === 7 && name.toLowerCase() === 'upgrade' && raw[i + 1] !== '') return true
  }
  return false
}

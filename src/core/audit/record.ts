import type { AuditConfig } from '../../config/config.ts'
import type { ClientCertificate, Peer, User } from '../identity/caller.ts'
import type { Message } from '../mcp/message.ts'
import { ownText } from '../own-text.ts'
import type { Verdict } from '../policy/verdict.ts'
import type { QuotaReading } from '../quota/reading.ts'
import type { Refusal } from '../refusal.ts'
import { AsciiJson } from './ascii-json.ts'
import { SEAL_BYTES } from './chain.ts'
import { argsDigest } from './digest.ts'
import type { ConnectionFacts, Exchange } from './exchange.ts'
import { ending, micros, OPENING, opening } from './pieces.ts'
import { compileRedactor } from './redact.ts'
import { refusalDetail } from './refusal-detail.ts'
import { type Called, type ClientSaid, ownUser, sameCalled, sameClient, samePeer, sameUser } from './same.ts'
import type { Generations, SidecarFact } from './sidecar-fact.ts'
import { isoTime } from './time.ts'
import { isUuid } from './uuid.ts'

export type ExchangeEvent = 'mcp.call' | 'mcp.started' | 'mcp.refused' | 'mcp.stream.open' | 'mcp.stream.close'

/** What is the same in every line of a process, or of one generation of its configuration. */
export interface Origin {
  readonly version: string
  readonly pod: { readonly name?: string; readonly namespace?: string; readonly node?: string }
  /** Names the policy that decides, for `decision.policy`: a digest of its text. */
  readonly policy: string | undefined
  /** Key of `argsDigest`. */
  readonly digestKey: Buffer
}

/**
 * Turns what happened into drafts of audit lines: JSON objects without their closing brace, which the chain seals.
 * One recorder serves one generation of the configuration. A draft is short enough for its sealed line to stay within
 * `maxLineBytes`, whatever callers name things.
 */
export interface Recorder {
  readonly maxLineBytes: number
  /**
   * @param message  The message that the line is about, one of `exchange.messages`; undefined when none was read.
   * @param brief    Leaves out what differs between refusals that are otherwise identical: ids, arguments, times.
   */
  exchange(event: ExchangeEvent, exchange: Exchange, message: Message | undefined, brief?: boolean): string
  fact(fact: SidecarFact, atMs: number): string
  /** The draft of several occurrences, from the brief draft of one. */
  coalesced(draft: string, count: number, firstAtMs: number, lastAtMs: number): string
}

/** `maxLine` is never taken to be less; the least line that still says who, what and how it ended, and a checkpoint, fit. */
const MIN_LINE_BYTES = 2048
/** What `coalesced` adds. */
const COALESCED_BYTES = 112

export function createRecorder(config: AuditConfig, origin: Origin, redactor = compileRedactor(config)): Recorder {
  const maxLineBytes = Math.max(config.maxLineBytes, MIN_LINE_BYTES)
  const maxDraft = maxLineBytes - SEAL_BYTES - COALESCED_BYTES
  const json = new AsciiJson()
  const pod = podMember(origin, json)
  const version = `,"sidecar":{"version":${json.string(origin.version, 64)},"config":`
  // What is the same for many calls is written once: of a connection, of a user, of a verdict, of a generation.
  const peers = new WeakMap<ConnectionFacts, { peer: Peer | undefined; member: string }>()
  const clients = new WeakMap<ConnectionFacts, { x: ClientSaid; member: string }>()
  const users = new Map<string, { user: User; member: string }>()
  const called = new Map<string, { said: Called; member: string }>()
  const decisions = new WeakMap<Verdict, string>()
  const quotas = new Map<string, { limit: number; member: string }>()
  let lastGeneration: Generations = { config: -1, trust: -1 }
  let tail = ''

  function exchangeDraft(event: ExchangeEvent, x: Exchange, message: Message | undefined, brief: boolean): string {
    json.truncated = false
    let draft = compose(event, x, message, brief, AMPLE)
    if (draft.length > maxDraft - TRUNCATED.length) draft = compose(event, x, message, brief, TIGHT)
    if (draft.length > maxDraft - TRUNCATED.length) draft = least(event, x, message)
    return json.truncated ? draft + TRUNCATED : draft
  }

  function compose(event: ExchangeEvent, x: Exchange, message: Message | undefined, brief: boolean, cap: Caps): string {
    const elapsed = (x.endedMono ?? x.upstreamEndedMono ?? x.upstreamStartedMono ?? x.startedMono) - x.startedMono
    let line = opening(event, x.startedAtMs + elapsed)
    if (!brief) {
      line = `${line},"requestId":${requestId(x, cap.name)}`
      const traceparent = message?.traceparent ?? x.traceparent
      if (traceparent !== undefined) {
        // As it is, like a UUID (`uuid.ts`); what a later version may add to it can be anything.
        const isPlain = traceparent.length === TRACEPARENT_LENGTH
        line += `,"traceparent":${isPlain ? `"${traceparent}"` : text(traceparent, cap.name)}`
      }
    }
    line += clientMember(x, message, cap) + peerMember(x, cap)
    if (x.user !== undefined) line += userMember(x.user, cap)
    line += mcpMember(x, message, brief, cap)
    line += decisionMember(x, cap)
    if (x.quota !== undefined && !brief) {
      const { remaining, resetMs } = x.quota
      line = `${line}${quotaOpening(x.quota, cap)}${remaining},"resetMs":${Math.round(resetMs)}}`
    }
    if (event !== 'mcp.started' && event !== 'mcp.stream.open') line = withEnd(line, x, brief, cap)
    line += sidecarMembers(x.generation)
    // Arguments come last, for they get the room that is left.
    if (message?.args !== undefined && !brief) line += argsMembers(message, maxDraft - TRUNCATED.length - line.length)
    return line
  }

  /** What is left when names are so hostile that nothing else fits. */
  function least(event: ExchangeEvent, x: Exchange, message: Message | undefined): string {
    json.truncated = true
    let line = `${opening(event, x.startedAtMs)},"requestId":${requestId(x, 40)}`
    if (x.peer !== undefined) line += `,"peer":{"name":${json.string(x.peer.name, 40)}}`
    if (x.user !== undefined) line += `,"user":{"id":${identity(x.user.id, 64)}}`
    if (message !== undefined) line += `,"mcp":{"method":${text(message.method, 40)}}`
    if (x.refusal !== undefined) line += `,"decision":{"reason":"${x.refusal.reason}"}`
    return `${line},"outcome":"${outcomeOf(x)}","status":${x.status}`
  }

  function clientMember(x: Exchange, message: Message | undefined, cap: Caps): string {
    const said = message?.clientInfo
    if (cap === TIGHT) return clientText(x, said, cap)
    const known = clients.get(x.connection)
    if (known !== undefined && sameClient(known.x, x, said)) return known.member
    const member = whole(() => clientText(x, said, cap))
    if (member.whole) {
      const { forwardedFor, userAgent } = x
      const kept = { forwardedFor, userAgent, name: said?.name, version: said?.version }
      clients.set(x.connection, { x: kept, member: ownText(member.text) })
    }
    return member.text
  }

  function clientText(x: Exchange, said: Message['clientInfo'], cap: Caps): string {
    let line = `,"client":{"address":${json.string(x.connection.remoteAddress, 64)}`
    if (x.forwardedFor !== undefined) line += `,"forwardedFor":${text(x.forwardedFor, cap.name)}`
    if (x.userAgent !== undefined) line += `,"userAgent":${text(x.userAgent, cap.name)}`
    if (said !== undefined) line += `,"name":${text(said.name, cap.name)},"version":${text(said.version, cap.name)}`
    return `${line}}`
  }

  /** A cut has to be told in every line, so only what was not cut may be kept for other lines. */
  function whole(write: () => string): { text: string; whole: boolean } {
    const before = json.truncated
    json.truncated = false
    const made = { text: write(), whole: !json.truncated }
    json.truncated ||= before
    return made
  }

  function peerMember(x: { connection: ConnectionFacts; peer: Peer | undefined }, cap: Caps): string {
    if (cap === TIGHT) return peerText(x.connection, x.peer, cap)
    const known = peers.get(x.connection)
    if (known !== undefined && samePeer(known.peer, x.peer)) return known.member
    const member = whole(() => peerText(x.connection, x.peer, cap))
    if (member.whole) peers.set(x.connection, { peer: x.peer, member: ownText(member.text) })
    return member.text
  }

  function peerText(connection: ConnectionFacts, peer: Peer | undefined, cap: Caps): string {
    const certificate: ClientCertificate | undefined = peer?.certificate ?? connection.certificate
    let line = ''
    if (peer !== undefined) line += `,"name":${json.string(peer.name, cap.name)}`
    if (certificate !== undefined) {
      const uri = certificate.uris[0]
      if (uri !== undefined) line += `,"uri":${identity(uri, cap.uri)}`
      line += `,"subject":${identity(certificate.subject, cap.name)},"issuer":${identity(certificate.issuer, cap.name)}`
      line += `,"serial":${json.string(certificate.serial, cap.name)}`
      line += `,"fingerprint256":${json.string(certificate.fingerprint256, 80)}`
    }
    if (connection.tls !== '') line += `,"tls":${json.string(connection.tls, cap.name)}`
    return line === '' ? '' : `,"peer":{${line.slice(1)}}`
  }

  function userMember(user: User, cap: Caps): string {
    if (cap === TIGHT) return userText(user, cap)
    const known = users.get(user.id)
    if (known !== undefined && (known.user === user || sameUser(known.user, user))) return known.member
    const member = whole(() => userText(user, cap))
    if (member.whole) {
      if (users.size >= MAX_KNOWN) users.clear()
      users.set(ownText(user.id), { user: ownUser(user), member: ownText(member.text) })
    }
    return member.text
  }

  function userText(user: User, cap: Caps): string {
    let line = `,"user":{"id":${identity(user.id, cap.name)}`
    if (user.email !== undefined) line += `,"email":${identity(user.email, cap.name)}`
    if (user.org !== undefined) line += `,"org":${identity(user.org, cap.name)}`
    line += `,"scopes":${list(user.scopes, cap.uri)},"roles":${list(user.roles, cap.uri)}`
    if (user.scopesCut.length > 0) line += `,"scopesCut":${list(user.scopesCut, cap.uri)}`
    return `${line},"source":"${user.source}"}`
  }

  function mcpMember(x: Exchange, message: Message | undefined, brief: boolean, cap: Caps): string {
    const session = x.session === undefined ? '' : `"session":${json.string(x.session, 80)}`
    if (message === undefined) return session === '' ? '' : `,"mcp":{${session}}`
    let line = `,"mcp":{${calledMembers(message, cap)}`
    if (message.id !== undefined && !brief) {
      line += `,"rpcId":${typeof message.id === 'number' ? message.id : text(message.id, cap.name)}`
    }
    return session === '' ? `${line}}` : `${line},${session}}`
  }

  function calledMembers(message: Message, cap: Caps): string {
    const [object] = message.objects
    if (cap === TIGHT || object === undefined || message.objects.length > 1) return calledText(message, cap)
    const known = called.get(object.name)
    if (known !== undefined && sameCalled(known.said, message, object)) return known.member
    const member = whole(() => calledText(message, cap))
    if (member.whole) {
      if (called.size >= MAX_KNOWN) called.clear()
      const { era, version, method } = message
      called.set(object.name, { said: { era, version, method, kind: object.kind }, member: ownText(member.text) })
    }
    return member.text
  }

  function calledText(message: Message, cap: Caps): string {
    let line = `"era":"${message.era}"`
    if (message.version !== undefined) line += `,"version":${text(message.version, cap.name)}`
    if (message.method !== '') line += `,"method":${text(message.method, cap.name)}`
    let seen = ''
    for (const object of message.objects) {
      // The first of each kind: a message of the protocol has no second one.
      if (seen.includes(object.kind)) continue
      seen += object.kind
      line += `,"${object.kind}":${text(object.name, object.kind === 'resource' ? cap.uri : cap.name)}`
    }
    return line
  }

  function decisionMember(x: Exchange, cap: Caps): string {
    const { verdict, refusal } = x
    if (verdict === undefined && refusal === undefined) return ''
    if (verdict === undefined || refusal !== undefined || cap === TIGHT) return decisionText(verdict, refusal, cap)
    let member = decisions.get(verdict)
    if (member === undefined) {
      member = ownText(decisionText(verdict, undefined, cap))
      decisions.set(verdict, member)
    }
    return member
  }

  function decisionText(verdict: Verdict | undefined, refusal: Refusal | undefined, cap: Caps): string {
    let line = `,"decision":{"effect":"${verdict?.effect ?? 'deny'}"`
    if (verdict !== undefined) line += `,"rule":${json.string(verdict.rule, cap.name)}`
    if (refusal !== undefined) line += `,"reason":"${refusal.reason}"`
    if (verdict !== undefined) line += `,"mode":"${verdict.mode}"`
    if (verdict !== undefined && origin.policy !== undefined) line += `,"policy":${json.string(origin.policy, 80)}`
    return `${line}}`
  }

  function requestId({ requestId: id }: Exchange, maxBytes: number): string {
    return isUuid(id) ? `"${id}"` : text(id, maxBytes)
  }

  function quotaOpening({ name, limit }: QuotaReading, cap: Caps): string {
    const known = quotas.get(name)
    if (known?.limit === limit) return known.member
    const member = ownText(`,"quota":{"name":${json.string(name, cap.name)},"limit":${limit},"remaining":`)
    quotas.set(name, { limit, member })
    return member
  }

  function withEnd(to: string, x: Exchange, brief: boolean, cap: Caps): string {
    let line = to + ending(outcomeOf(x), x.status)
    if (x.rpcError !== undefined) {
      line += `,"rpcError":{"code":${x.rpcError.code},"message":${text(x.rpcError.message, cap.name)}}`
    }
    const error = x.error ?? (x.refusal === undefined ? undefined : refusalDetail(x.refusal))
    if (error !== undefined) line += `,"error":${text(error, cap.uri)}`
    if (brief) return line
    if (x.endedMono !== undefined) line = `${line},"durationMs":${micros(x.endedMono - x.startedMono)}`
    if (x.upstreamStartedMono !== undefined && (x.upstreamEndedMono ?? x.endedMono) !== undefined) {
      const upstreamMs = ((x.upstreamEndedMono ?? x.endedMono) as number) - x.upstreamStartedMono
      line = `${line},"upstreamMs":${micros(upstreamMs)}`
    }
    return `${line},"bytesIn":${x.bytesIn},"bytesOut":${x.bytesOut}`
  }

  function sidecarMembers(generation: Generations): string {
    const { config: configGeneration, trust } = generation
    if (configGeneration !== lastGeneration.config || trust !== lastGeneration.trust) {
      tail = ownText(`${pod}${version}${generation.config},"trust":${generation.trust}}`)
      lastGeneration = generation
    }
    return tail
  }

  function argsMembers(message: Message, room: number): string {
    const args = message.args ?? {}
    const tool = message.objects[0]?.kind === 'tool' ? message.objects[0].name : undefined
    let line = config.args === 'digest' ? `,"argsDigest":"${argsDigest(args, origin.digestKey)}"` : ''
    if (line.length > room) line = ''
    const left = room - line.length - 8
    if (left < 64) {
      json.truncated = true
      return line
    }
    const shown =
      config.args === 'redacted' ? redactor.args(args, tool, left, json) : redactor.allowedArgs(args, tool, left, json)
    return shown === undefined ? line : `${line},"args":${shown}`
  }

  function factDraft(fact: SidecarFact, atMs: number): string {
    json.truncated = false
    let line = opening(fact.event, atMs)
    if ('connection' in fact && fact.connection !== undefined) {
      line += `,"client":{"address":${json.string(fact.connection.remoteAddress, 64)}}`
      line += peerMember({ connection: fact.connection, peer: fact.peer }, maxDraft < 4096 ? TIGHT : AMPLE)
    }
    if ('reason' in fact) line += `,"decision":{"effect":"deny","reason":${text(fact.reason, 128)}}`
    if ('details' in fact) line += `,"${fact.event.slice(fact.event.indexOf('.') + 1)}":${boundedDetails(fact.details)}`
    if ('count' in fact) {
      line += `,"count":${fact.count},"firstAt":"${isoTime(fact.firstAtMs)}","lastAt":"${isoTime(fact.lastAtMs)}"`
    }
    line += sidecarMembers(fact.generation)
    if ('error' in fact && fact.error !== undefined) {
      line += `,"error":${text(fact.error, Math.min(2048, Math.max(16, maxDraft - TRUNCATED.length - line.length - 10)))}`
    }
    return json.truncated ? line + TRUNCATED : line
  }

  /** Facts about the sidecar itself are ours, and small; their texts are bounded all the same. */
  function boundedDetails(details: Readonly<Record<string, string | number | undefined>>): string {
    let line = ''
    for (const [name, value] of Object.entries(details)) {
      if (value !== undefined) line += `,"${name}":${typeof value === 'number' ? value : json.string(value, 512)}`
    }
    return `{${line.slice(1)}}`
  }

  function text(value: string, maxBytes: number): string {
    return redactor.text(value, maxBytes, json)
  }

  function identity(value: string, maxBytes: number): string {
    return redactor.identity(value, maxBytes, json)
  }

  function list(values: readonly string[], maxBytes: number): string {
    if (values.length === 0) return '[]'
    let line = ''
    for (const value of values) {
      const item = identity(value, 128)
      if (line.length + item.length + 2 > maxBytes) {
        json.truncated = true
        break
      }
      line += line === '' ? item : `,${item}`
    }
    return `[${line}]`
  }

  return {
    maxLineBytes,
    exchange: (event, exchange, message, brief = false) => exchangeDraft(event, exchange, message, brief),
    fact: factDraft,
    coalesced(draft, count, firstAtMs, lastAtMs) {
      const rest = draft.slice(OPENING.length + 24)
      return `${OPENING}${isoTime(lastAtMs)}${rest},"count":${count},"firstAt":"${isoTime(firstAtMs)}","lastAt":"${isoTime(lastAtMs)}"`
    },
  }
}

/** How many bytes a name, and a URI, a list or a message, may have in a line. */
interface Caps {
  readonly name: number
  readonly uri: number
}
const AMPLE: Caps = { name: 320, uri: 1024 }
const TIGHT: Caps = { name: 48, uri: 64 }

const TRUNCATED = ',"truncated":true'

/** How an exchange ended; one that nobody ended was broken off. */
export function outcomeOf(exchange: Exchange): NonNullable<Exchange['outcome']> {
  return exchange.outcome ?? (exchange.refusal === undefined ? 'aborted' : 'refused')
}

function podMember(origin: Origin, json: AsciiJson): string {
  let line = ''
  for (const name of ['name', 'namespace', 'node'] as const) {
    const value = origin.pod[name]
    if (value !== undefined && value !== '') line += `,"${name}":${json.string(value, 96)}`
  }
  return line === '' ? '' : `,"pod":{${line.slice(1)}}`
}

const MAX_KNOWN = 2048

/** Version, trace, parent and flags, as W3C Trace Context §3.2.2 has them. */
const TRACEPARENT_LENGTH = 55

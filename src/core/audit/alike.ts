import type { Message } from '../mcp/message.ts'
import type { ConnectionFacts, Exchange } from './exchange.ts'
import { refusalDetail } from './refusal-detail.ts'

/**
 * What a refusal has to have in common with others to be counted with them, from everything that its brief line says to
 * what can always be said. Whatever is in a line but not in its key would be said of refusals of which it is not true.
 */
export interface Alike {
  readonly exactly: string
  readonly caller: string
  readonly reason: string
}

export function alikeBy(x: Exchange, message: Message | undefined): Alike {
  const { connection, peer, user, refusal, verdict, session } = x
  const certificate = peer?.certificate.fingerprint256 ?? connection.certificate?.fingerprint256 ?? ''
  const decided = verdict === undefined ? '' : `${verdict.effect}|${verdict.rule}|${verdict.mode}`
  const reason = `mcp.refused|${refusal?.reason}|${x.status}|${decided}`
  const caller = joined([reason, certificate, connection.remoteAddress, ...wordsOf(user)])
  const said = [x.forwardedFor, x.userAgent, session, message?.clientInfo?.name, message?.clientInfo?.version]
  const called = [message?.era, message?.version, message?.method, ...(message?.objects ?? []).map(({ name }) => name)]
  const detail = refusal === undefined ? undefined : refusalDetail(refusal)
  return { exactly: joined([caller, ...said, ...called, detail]), caller, reason }
}

/** What is true of all refusals of a caller for one reason. */
export function vague(x: Exchange): Exchange {
  const isDetailed = x.refusal !== undefined && refusalDetail(x.refusal) !== undefined
  return {
    ...x,
    error: isDetailed ? 'of several kinds' : undefined,
    // It names what was called.
    rpcError: undefined,
    session: undefined,
    userAgent: undefined,
    forwardedFor: undefined,
  }
}

/** What is true of all refusals for one reason. */
export function anonymous(x: Exchange): Exchange {
  return { ...vague(x), connection: ANYONE, peer: undefined, user: undefined }
}

/** Stands for callers of whom there are too many to name each. */
export const ANYONE: ConnectionFacts = { remoteAddress: 'other', certificate: undefined, tls: '', httpVersion: '1.1' }

function wordsOf(user: Exchange['user']): string[] {
  if (user === undefined) return []
  const { org, id, email, scopes, roles, scopesCut, source } = user
  return [org ?? '', id, email ?? '', source, scopes.join(' '), roles.join(' '), scopesCut.join(' ')]
}

/** As JSON, so that no name can pass for two others. */
function joined(words: readonly (string | undefined)[]): string {
  return JSON.stringify(words.map(word => word?.slice(0, MAX_WORD)))
}

const MAX_WORD = 512

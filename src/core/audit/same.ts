import type { Peer, User } from '../identity/caller.ts'
import type { McpObject, Message } from '../mcp/message.ts'
import { ownText } from '../own-text.ts'
import type { Exchange } from './exchange.ts'

/** What a message says of itself beside the name of its one object, by which the members that tell it are found. */
export type Called = Pick<Message, 'era' | 'version' | 'method'> & Pick<McpObject, 'kind'>

export function sameCalled(known: Called, message: Message, object: McpObject): boolean {
  return (
    known.kind === object.kind &&
    known.method === message.method &&
    known.version === message.version &&
    known.era === message.era
  )
}

/** What a client says of itself, which is the same for most calls of a connection. */
export interface ClientSaid {
  readonly forwardedFor: string | undefined
  readonly userAgent: string | undefined
  readonly name: string | undefined
  readonly version: string | undefined
}

export function sameClient(known: ClientSaid, x: Exchange, said: Message['clientInfo']): boolean {
  return (
    known.forwardedFor === x.forwardedFor &&
    known.userAgent === x.userAgent &&
    known.name === said?.name &&
    known.version === said?.version
  )
}

export function samePeer(a: Peer | undefined, b: Peer | undefined): boolean {
  return a === b || (a?.name === b?.name && a?.certificate === b?.certificate)
}

export function sameUser(a: User, b: User): boolean {
  return (
    a.id === b.id &&
    a.org === b.org &&
    a.email === b.email &&
    a.source === b.source &&
    sameList(a.scopes, b.scopes) &&
    sameList(a.roles, b.roles) &&
    sameList(a.scopesCut, b.scopesCut)
  )
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** A user to be remembered, without what its texts were cut from. */
export function ownUser(user: User): User {
  const { id, org, email, scopes, roles, scopesCut } = user
  return {
    ...user,
    id: ownText(id),
    org: org === undefined ? undefined : ownText(org),
    email: email === undefined ? undefined : ownText(email),
    scopes: scopes.map(ownText),
    roles: roles.map(ownText),
    scopesCut: scopesCut.map(ownText),
  }
}

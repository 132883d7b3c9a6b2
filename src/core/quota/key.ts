import { createHash } from 'node:crypto'
import type { QuotaKey } from '../../config/config.ts'
import type { Caller } from '../identity/caller.ts'

/**
 * The bucket that a call draws from, as text. Every part begins with a letter for its kind and carries the length of
 * each text in it, so no two different combinations are ever written alike, whatever characters they contain.
 *
 * | part | written | when absent |
 * |---|---|---|
 * | user | `u<len>:<org><len>:<id>`, `v<len>:<id>` without an org | the peer is the principal |
 * | org | `o<len>:<org>` | `-` : one bucket for all callers without an org |
 * | peer | `p<len>:<the name in the certificate that matched>` | |
 * | tool | `t<len>:<tool>` | |
 * | session | `s<len>:<session>` | the user's part: the modern era has no sessions |
 */
export function keyOf(
  parts: readonly QuotaKey[],
  caller: Caller,
  session: string | undefined,
  tool: string | undefined,
): string {
  let key = ''
  for (let i = 0; i < parts.length; i++) {
    switch (parts[i]!) {
      case 'user':
        key += userPart(caller)
        break
      case 'org':
        key += caller.user?.org === undefined ? '-' : `o${sized(caller.user.org)}`
        break
      case 'peer':
        key += `p${sized(caller.peer.matched)}`
        break
      case 'tool':
        key += tool === undefined ? '-' : `t${sized(tool)}`
        break
      case 'session':
        key += session === undefined ? userPart(caller) : `s${sized(session)}`
        break
    }
  }
  return bounded(key)
}

/** Task polls have a bucket of their own beside the one for calls. */
export function pollKey(key: string): string {
  return key.startsWith(DIGEST) ? `${POLL_DIGEST}${key.slice(1)}` : `${POLL}${key}`
}

/** A part of a key read back, for `explain`. `principal` is a peer that stands where a user would. */
export interface KeyPart {
  readonly kind: 'user' | 'org' | 'peer' | 'tool' | 'session' | 'none'
  readonly value: string
  readonly org?: string
}

/** Reads a key back; undefined when it was too long and only its digest is left. */
export function readKey(key: string): { readonly isPoll: boolean; readonly parts: readonly KeyPart[] } | undefined {
  if (key.startsWith(DIGEST) || key.startsWith(POLL_DIGEST)) return undefined
  const isPoll = key.startsWith(POLL)
  let at = isPoll ? 1 : 0
  const text = (): string => {
    const colon = key.indexOf(':', at)
    const length = Number(key.slice(at, colon))
    at = colon + 1 + length
    return key.slice(colon + 1, at)
  }
  const parts: KeyPart[] = []
  while (at < key.length) {
    const kind = key[at++]
    if (kind === 'u') {
      const org = text()
      parts.push({ kind: 'user', org, value: text() })
    } else if (kind === 'v') parts.push({ kind: 'user', value: text() })
    else if (kind === 'o') parts.push({ kind: 'org', value: text() })
    else if (kind === 'p') parts.push({ kind: 'peer', value: text() })
    else if (kind === 't') parts.push({ kind: 'tool', value: text() })
    else if (kind === 's') parts.push({ kind: 'session', value: text() })
    else parts.push({ kind: 'none', value: '' })
  }
  return { isPoll, parts }
}

/** Longest key that is kept as it is, in UTF-16 units. Callers choose names; they do not choose how much we store. */
export const MAX_KEY = 96

const POLL = '~'
const DIGEST = '#'
const POLL_DIGEST = '%'

function userPart(caller: Caller): string {
  const user = caller.user
  if (user === undefined) return `p${sized(caller.peer.matched)}`
  return user.org === undefined ? `v${sized(user.id)}` : `u${sized(user.org)}${sized(user.id)}`
}

function sized(text: string): string {
  return `${text.length}:${text}`
}

function bounded(key: string): string {
  return key.length <= MAX_KEY ? key : `${DIGEST}${createHash('sha256').update(key, 'utf16le').digest('base64url')}`
}

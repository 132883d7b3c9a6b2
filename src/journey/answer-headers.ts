import { ownText } from '../core/own-text.ts'
import type { Forwarded } from './call.ts'

/** Fields of one hop, and those that are set anew. @source RFC 9110 §7.6.1 */
const NOT_PASSED: ReadonlySet<string> = new Set([
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'content-length',
  'content-encoding',
  'date',
])

/**
 * Fields that have one value. HTTP/2 clients refuse them when they are repeated, and of two media types or sessions the
 * client has to see the one that was seen here.
 */
const SINGLE: ReadonlySet<string> = new Set([
  'access-control-allow-credentials',
  'access-control-max-age',
  'age',
  'content-language',
  'content-location',
  'content-range',
  'content-type',
  'etag',
  'expires',
  'last-modified',
  'location',
  'mcp-session-id',
  'retry-after',
  'tk',
  'x-content-type-options',
])

/**
 * Header lines for the client: the upstream's own, without those of its hop and without repeats of what has one value,
 * and the quota headers. The length is the body's as it will be sent; without one it is sent in chunks.
 */
export function answerHeaders(call: Forwarded, headers: readonly string[], bodyLength: number | undefined): string[] {
  const out: string[] = []
  let named: string | undefined
  let single: string[] | undefined
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string
    const fate = fateOf(name)
    if (fate === Fate.dropped) continue
    if (fate === Fate.connection) {
      named = `${named ?? ''},${(headers[i + 1] as string).toLowerCase()}`
      continue
    }
    if (fate === Fate.single) {
      const lower = name.toLowerCase()
      if (single?.includes(lower) === true) continue
      if (single === undefined) single = [lower]
      else single.push(lower)
    }
    out.push(name, headers[i + 1] as string)
  }
  if (named !== undefined && named !== ',close' && named !== ',keep-alive') removeNamed(out, named)
  for (let i = 0; i < call.quotaHeaders.length; i++) out.push(call.quotaHeaders[i] as string)
  if (bodyLength !== undefined) out.push('Content-Length', String(bodyLength))
  return out
}

const Fate = { passed: 0, single: 1, dropped: 2, connection: 3 } as const
type Fate = (typeof Fate)[keyof typeof Fate]

/** A server uses the same few names in the same spelling, so each is judged once. */
const fates = new Map<string, Fate>()
const MOST_REMEMBERED = 512
const LONGEST_REMEMBERED = 64

function fateOf(name: string): Fate {
  const known = fates.get(name)
  if (known !== undefined) return known
  const lower = name.toLowerCase()
  let fate: Fate = Fate.passed
  if (lower === 'connection') fate = Fate.connection
  else if (NOT_PASSED.has(lower)) fate = Fate.dropped
  else if (SINGLE.has(lower)) fate = Fate.single
  if (fates.size >= MOST_REMEMBERED) fates.clear()
  if (name.length <= LONGEST_REMEMBERED) fates.set(ownText(name), fate)
  return fate
}

function removeNamed(headers: string[], connection: string): void {
  const names = new Set(connection.split(',').map(name => name.trim()))
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    if (names.has((headers[i] as string).toLowerCase())) headers.splice(i, 2)
  }
}

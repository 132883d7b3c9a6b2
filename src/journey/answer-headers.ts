import type { Admitted } from './call.ts'
import type { Passage } from './passage.ts'

/** Fields of one hop, and those that are set anew. @source RFC 9110 §7.6.1 */
const NOT_PASSED: ReadonlySet<string> = new Set([
  'connection',
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
 * and the quota headers. The length is the
 * body's as it will be sent; without one it is sent in chunks.
 */
export function answerHeaders(
  call: Admitted,
  headers: readonly string[],
  _passage: Passage,
  bodyLength: number | undefined,
): string[] {
  const out: string[] = []
  let named: string | undefined
  let single: Set<string> | undefined
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] as string).toLowerCase()
    if (name === 'connection') named = `${named ?? ''},${(headers[i + 1] as string).toLowerCase()}`
    if (NOT_PASSED.has(name)) continue
    if (SINGLE.has(name)) {
      if (single?.has(name) === true) continue
      single = (single ?? new Set()).add(name)
    }
    out.push(headers[i] as string, headers[i + 1] as string)
  }
  if (named !== undefined && named !== ',close' && named !== ',keep-alive') removeNamed(out, named)
  for (let i = 0; i < call.quotaHeaders.length; i++) out.push(call.quotaHeaders[i] as string)
  if (bodyLength !== undefined) out.push('Content-Length', String(bodyLength))
  return out
}

function removeNamed(headers: string[], connection: string): void {
  const names = new Set(connection.split(',').map(name => name.trim()))
  for (let i = headers.length - 2; i >= 0; i -= 2) {
    if (names.has((headers[i] as string).toLowerCase())) headers.splice(i, 2)
  }
}

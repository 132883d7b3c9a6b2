import { performance } from 'node:perf_hooks'
import type { Exchange } from '../core/audit/exchange.ts'
import type { JsonObject } from '../core/json.ts'
import { errorBody } from '../core/mcp/error-body.ts'
import type { Message, RpcId } from '../core/mcp/message.ts'
import { retryAfterSeconds } from '../core/quota/headers.ts'
import { answerFor, type Refusal, type RefusalAnswer } from '../core/refusal.ts'
import type { Settings } from '../live/settings.ts'
import type { Arrival } from './arrival.ts'
import type { ExchangeBook } from './exchange-book.ts'

/** What a refusal is answered with besides its own words. */
export interface RefusalContext {
  readonly settings: Settings
  readonly book: ExchangeBook
  /** Id of the request, read from its body as far as that could be read. */
  readonly id: RpcId | undefined
  /** RateLimit headers, for a call that quotas cover. */
  readonly quotaHeaders: readonly string[]
}

/**
 * The one place where the sidecar answers by itself: contract section 6. The line of the refusal is with the kernel
 * before the answer leaves, as for every other call.
 */
export function refuse(arrival: Arrival, exchange: Exchange, refusal: Refusal, context: RefusalContext): void {
  const { policy, identity } = context.settings
  const answer = answerFor(refusal)
  // A GET and a DELETE are judged like requests, but there is no id that an answer in band could have.
  const isRequest =
    context.id !== undefined || exchange.messages.some(({ kind, id }) => kind === 'request' && id !== undefined)
  const isInBand = answer.inBand && isRequest && policy.refusals === 'in-band'
  const hides = policy.denyStyle === 'hide'
  const shown = hides ? hidden(refusal, answer) : answer
  const status = isInBand ? 200 : answer.status

  const data: JsonObject = hides
    ? { requestId: exchange.requestId }
    : { reason: refusal.reason, requestId: exchange.requestId, ...answer.data }
  if (!hides && answer.retryAfterMs !== undefined) data['retryAfterMs'] = Math.ceil(answer.retryAfterMs)

  const headers = ['Content-Type', 'application/json', 'Cache-Control', 'no-store', 'X-Content-Type-Options', 'nosniff']
  headers.push(...context.quotaHeaders)
  if (answer.retryAfterMs !== undefined && !context.quotaHeaders.includes('Retry-After')) {
    headers.push('Retry-After', retryAfterSeconds(answer.retryAfterMs))
  }
  if (answer.allow !== undefined) headers.push('Allow', answer.allow)
  if (answer.challenge !== undefined) headers.push('WWW-Authenticate', identity.challenge(answer.challenge))

  const body = bodyOf(exchange.messages, context.id, shown, data)
  headers.push('Content-Length', String(body.length))

  exchange.refusal = refusal
  exchange.outcome = 'refused'
  exchange.status = status
  exchange.rpcError = { code: shown.code, message: shown.message }
  exchange.bytesOut = body.length
  exchange.endedMono = performance.now()
  context.book.closed(exchange, () => {
    arrival.reply.head(status, headers, false)
    arrival.reply.end(body)
  })
}

/** The id that an error may have. That of a response is the server's: the client may have its own request under it. */
export function requestIdOf([message]: readonly Message[]): RpcId | undefined {
  return message?.kind === 'request' ? message.id : undefined
}

/** An error for each request of a batch, one for a single message; what is no request gets one without an id. */
function bodyOf(messages: readonly Message[], id: RpcId | undefined, answer: RefusalAnswer, data: JsonObject): Buffer {
  if (messages.length < 2) return errorBody(requestIdOf(messages) ?? id, answer, data)
  const requests = messages.filter(message => message.kind === 'request')
  if (requests.length === 0) return errorBody(undefined, answer, data)
  const errors = requests.map(message => errorBody(message.id, answer, data).toString())
  return Buffer.from(`[${errors.join(',')}]`)
}

/** With `hide` a denied object looks like one that does not exist. */
function hidden(refusal: Refusal, answer: RefusalAnswer): RefusalAnswer {
  switch (refusal.reason) {
    case 'tool_not_permitted':
      return { ...answer, code: -32602, message: `Unknown tool: ${refusal.name}` }
    case 'prompt_not_permitted':
      return { ...answer, code: -32602, message: `Unknown prompt: ${refusal.name}` }
    case 'resource_not_permitted':
      return { ...answer, code: -32602, message: `Resource not found: ${refusal.name}` }
    case 'method_not_permitted':
      return { ...answer, code: -32601, message: 'Method not found' }
    default:
      return answer
  }
}

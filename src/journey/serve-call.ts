import type { Exchange } from '../core/audit/exchange.ts'
import type { Refusal } from '../core/refusal.ts'
import type { Result } from '../core/result.ts'
import type { Arrival, ArrivalConnection } from './arrival.ts'
import type { Admitted, Called, Identified, Permitted, Received } from './call.ts'

/** The steps of a call, in their order. A step that needs to wait returns a promise, and only then does the call wait. */
export interface Steps {
  openExchange(arrival: Arrival): Exchange
  receive(arrival: Arrival, exchange: Exchange): Result<Received, Refusal>
  /** Answers with the RFC 9728 document, which is for every listed peer and needs no user. */
  serveMetadata(received: Received): Refusal | undefined
  identify(received: Received): MaybePromise<Result<Identified, Refusal>>
  readMessage(identified: Identified): MaybePromise<Result<Called, Refusal>>
  checkPolicy(called: Called): Result<Permitted, Refusal>
  /** Room for the call's audit lines; false after waiting in vain. */
  reserveRoom(exchange: Exchange): true | Promise<boolean>
  drawQuota(permitted: Permitted): MaybePromise<Result<Admitted, Refusal>>
  forward(admitted: Admitted): void
  /** For what never became a request: the connection has been answered on the bare socket, and the line is still owed. */
  refuseUnread(connection: ArrivalConnection, refusal: Refusal): void
  refuse(arrival: Arrival, exchange: Exchange, refusal: Refusal): MaybePromise<void>
}

export type MaybePromise<T> = T | Promise<T>

const AUDIT_BLOCKED: Refusal = { reason: 'audit_blocked', retryAfterMs: 5000 }

/**
 * The whole way of one request. Every answer that is not the upstream's leaves through `refuse`, and the exchange is
 * closed exactly once, by `refuse` or at the end of what `forward` has begun.
 */
export async function serveCall(steps: Steps, arrival: Arrival): Promise<void> {
  const exchange = steps.openExchange(arrival)
  try {
    const received = steps.receive(arrival, exchange)
    if (!received.ok) return await steps.refuse(arrival, exchange, received.error)

    if (received.value.route.kind === 'metadata') {
      const refusal = steps.serveMetadata(received.value)
      return refusal === undefined ? undefined : await steps.refuse(arrival, exchange, refusal)
    }

    // A cached token answers at once; only an unknown one waits for its issuer's keys.
    const pending = steps.identify(received.value)
    const identified = pending instanceof Promise ? await pending : pending
    if (!identified.ok) return await steps.refuse(arrival, exchange, identified.error)

    const reading = steps.readMessage(identified.value)
    const called = reading instanceof Promise ? await reading : reading
    if (!called.ok) return await steps.refuse(arrival, exchange, called.error)

    const permitted = steps.checkPolicy(called.value)
    if (!permitted.ok) return await steps.refuse(arrival, exchange, permitted.error)

    const room = steps.reserveRoom(exchange)
    if (room !== true && !(await room)) return await steps.refuse(arrival, exchange, AUDIT_BLOCKED)

    // After policy, so that a forbidden call cannot drain a window.
    const drawn = steps.drawQuota(permitted.value)
    const admitted = drawn instanceof Promise ? await drawn : drawn
    if (!admitted.ok) return await steps.refuse(arrival, exchange, admitted.error)

    steps.forward(admitted.value)
  } catch (fault) {
    // A bug must not take the process or leave a call without its line.
    exchange.error = fault instanceof Error ? (fault.stack ?? fault.message) : String(fault)
    await steps.refuse(arrival, exchange, { reason: 'sidecar_fault' })
  }
}

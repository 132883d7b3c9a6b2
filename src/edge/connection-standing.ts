import type { TrustBundle } from '../core/trust/bundle.ts'
import { judgeCertificate, standsUntilMs } from '../core/trust/standing.ts'
import type { Connection } from './connection.ts'

/** A revoked peer is cut within this time: its streams end at an event boundary, and nothing more is taken. */
const REVOKED_GRACE_MS = 500
/** What ends by its own time may finish what it is at. */
const EXPIRED_GRACE_MS = 1000

/**
 * Connections follow the credential that opened them. Each is judged again when the trust bundle or the list of peers
 * changes, and when the earliest certificate of its chain ends; what no longer stands is drained and then cut.
 */
export class ConnectionStanding {
  readonly #untilMs = new WeakMap<Connection, number>()

  opened(connection: Connection): void {
    const { certificate } = connection.facts
    if (certificate !== undefined) this.#untilMs.set(connection, standsUntilMs(certificate))
  }

  /** A new bundle is in use: certificates may be revoked, or their CA gone. */
  judgeByTrust(connections: Iterable<Connection>, bundle: TrustBundle, nowMs: number): void {
    for (const connection of connections) {
      const { certificate } = connection.facts
      if (certificate === undefined) continue
      const fault = judgeCertificate(certificate, bundle, nowMs)
      if (fault !== undefined) connection.retire(fault, REVOKED_GRACE_MS)
    }
  }

  /** Another list of peers is in use. */
  judgeByPeers(connections: Iterable<Connection>, isListed: (connection: Connection) => boolean): void {
    for (const connection of connections)
      if (!isListed(connection)) connection.retire('peer_not_listed', REVOKED_GRACE_MS)
  }

  /** Asked several times a second, so that no timer has to wait for weeks: Node fires those beyond 24.8 days at once. */
  sweep(connections: Iterable<Connection>, nowMs: number): void {
    for (const connection of connections) {
      if (nowMs >= (this.#untilMs.get(connection) ?? Number.POSITIVE_INFINITY))
        connection.retire('CERT_HAS_EXPIRED', EXPIRED_GRACE_MS)
    }
  }
}

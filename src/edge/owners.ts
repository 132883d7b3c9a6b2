import type { PassageParts } from '../journey/passage-for.ts'
import type { Owners } from '../journey/read-message.ts'
import { digestOf, type Ownership, ownerOf, serverRequestId } from './ownership.ts'

/** The ownership tables as the journey asks them: times filled in, ids of events and requests made unique by their session. */
export function ownersOf(ownership: Ownership, now: () => number): Owners & PassageParts['owners'] {
  return {
    ownerOf,
    digestOf,
    ownsSession: (kind, id, owner) => ownership.owns(kind, id, owner, now()),
    ownsEvent: (session, id, owner) => ownership.owns('event', eventKey(session, id), owner, now()),
    ownsTask: (id, owner) => ownership.owns('task', id, owner, now()),
    takesResponse: (session, message, owner) =>
      message.id !== undefined && ownership.take('request', serverRequestId(session ?? '', message.id), owner, now()),
    claimSession: (kind, id, owner) => ownership.claim(kind, id, owner, now()),
    claimEvent: (session, id, owner) => ownership.claim('event', eventKey(session, id), owner, now()),
    claimTask: (id, owner) => ownership.claim('task', id, owner, now()),
    expectResponse: (session, id, owner) => {
      ownership.claim('request', serverRequestId(session ?? '', id), owner, now())
    },
    forgetSession: id => ownership.forget('session', id),
  }
}

/** Servers number the events of each session from the beginning, so an id alone names nothing. */
function eventKey(session: string | undefined, id: string): string {
  return `${session ?? ''}\n${id}`
}

import type { Admitted } from './call.ts'
import { type Passage, PlainPassage } from './passage.ts'

/** What an answer may make somebody the owner of. */
export interface PassageParts {
  readonly owners: {
    ownerOf(caller: Admitted['caller']): string
    claimSession(kind: 'session' | 'sse', id: string, owner: string): boolean
    claimEvent(session: string | undefined, id: string, owner: string): boolean
    claimTask(id: string, owner: string): boolean
    expectResponse(session: string | undefined, id: string | number, owner: string): void
    forgetSession(id: string): void
  }
  readonly learnTools: (names: readonly string[]) => void
}

/** Chooses how an answer is read while it passes, by what was asked and what comes back. */
export function passageFor(
  _call: Admitted,
  status: number,
  _headers: readonly string[],
  _parts: PassageParts,
): Passage {
  return new PlainPassage(status)
}

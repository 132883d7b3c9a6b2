import { describe, expect, test } from 'vitest'
import type { SeenMessage } from '../../src/core/mcp/seen-message.ts'
import { type PendingCall, SessionCalls } from '../../src/journey/session-calls.ts'

interface Waiting extends PendingCall {
  readonly told: string[]
}

function waiting(what: 'list' | 'call', { giveUpMono = 1000, isAnswered = false } = {}): Waiting {
  const told: string[] = []
  return {
    told,
    isList: what === 'list',
    isAnswered,
    giveUpMono,
    shows: () => false,
    answered: seen => told.push(`answered ${seen.id}`),
    lost: why => told.push(`lost: ${why}`),
  }
}

function result(id: number, hasList: boolean): SeenMessage {
  return {
    kind: 'result',
    id,
    method: undefined,
    isError: false,
    errorCode: undefined,
    errorMessage: undefined,
    resultType: undefined,
    protocolVersion: undefined,
    createdTaskIds: [],
    hasList,
  }
}

describe('a list may come in a session', () => {
  test.each<{ name: string; may: boolean; after: (calls: SessionCalls) => void }>([
    { name: 'not before one is asked for', may: false, after: calls => calls.expect('s', 1, waiting('call')) },
    { name: 'while it is pending', may: true, after: calls => calls.expect('s', 1, waiting('list')) },
    {
      name: 'not in another session',
      may: false,
      after: calls => calls.expect('other', 1, waiting('list')),
    },
    {
      name: 'not once it has come',
      may: false,
      after: calls => {
        calls.expect('s', 1, waiting('list'))
        calls.answered('s', result(1, true))
      },
    },
    {
      name: 'when something else has come under its id',
      may: true,
      after: calls => {
        calls.expect('s', 1, waiting('list'))
        calls.answered('s', result(1, false))
      },
    },
    {
      name: 'when its id is used again',
      may: true,
      after: calls => {
        calls.expect('s', 1, waiting('list'))
        calls.expect('s', 1, waiting('call'))
        calls.answered('s', result(1, false))
      },
    },
    {
      name: 'when nobody waits for it any longer',
      may: true,
      after: calls => {
        calls.expect('s', 1, waiting('list', { giveUpMono: 10 }))
        calls.sweep(11)
      },
    },
    {
      name: 'when too many others have been asked for after it',
      may: true,
      after: calls => {
        calls.expect('s', 0, waiting('list'))
        for (let id = 1; id <= 1024; id++) calls.expect('s', id, waiting('call'))
      },
    },
    {
      name: 'when its client has left',
      may: true,
      after: calls => {
        const list = waiting('list')
        calls.expect('s', 1, list)
        calls.settle('s', 1, list)
      },
    },
    {
      name: 'not when it has come where it was asked for',
      may: false,
      after: calls => {
        const list = waiting('list', { isAnswered: true })
        calls.expect('s', 1, list)
        calls.settle('s', 1, list)
      },
    },
    {
      name: 'not when the session has ended',
      may: false,
      after: calls => {
        calls.expect('s', 1, waiting('list'))
        calls.expect('s', 1, waiting('list'))
        calls.end('s')
      },
    },
  ])('$name', ({ may, after }) => {
    const calls = new SessionCalls()
    after(calls)
    expect(calls.mayBringList('s')).toBe(may)
  })
})

test('the one that waited is told when its id is used again', () => {
  const calls = new SessionCalls()
  const first = waiting('call')
  const second = waiting('call')
  calls.expect('s', 1, first)
  calls.expect('s', 1, second)
  calls.answered('s', result(1, false))
  expect([first.told, second.told, calls.size]).toEqual([['lost: its id was used again'], ['answered 1'], 0])
})

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Caller, User } from '../../src/core/identity/caller.ts'
import { digestOf, Ownership, ownerOf, serverRequestId } from '../../src/edge/ownership.ts'
import { certificateWith, peerWith } from '../support/identity.ts'

function caller(
  changes: { id?: string; org?: string; name?: string; matched?: string; fingerprint256?: string } = {},
): Caller {
  const peer = peerWith({
    ...(changes.name === undefined ? {} : { name: changes.name }),
    ...(changes.matched === undefined ? {} : { matched: changes.matched }),
    certificate: certificateWith({ fingerprint256: changes.fingerprint256 ?? 'ab'.repeat(32) }),
  })
  const user: User | undefined =
    changes.id === undefined
      ? undefined
      : {
          id: changes.id,
          org: changes.org,
          email: undefined,
          scopes: [],
          roles: [],
          source: 'headers',
          scopesCut: [],
          expiresAtMs: undefined,
        }
  return { peer, user }
}

const alice = ownerOf(caller({ id: 'alice', org: 'acme' }))

describe('who a principal is', () => {
  test.each([
    { name: 'the same user', other: caller({ id: 'alice', org: 'acme' }), same: true },
    {
      name: 'the same user behind a rotated certificate',
      other: caller({ id: 'alice', org: 'acme', fingerprint256: 'cd'.repeat(32) }),
      same: true,
    },
    { name: 'another user', other: caller({ id: 'bob', org: 'acme' }), same: false },
    { name: 'the same id in another organisation', other: caller({ id: 'alice', org: 'other' }), same: false },
    { name: 'the same id in no organisation', other: caller({ id: 'alice' }), same: false },
    {
      name: 'another peer under the same entry',
      other: caller({ id: 'alice', org: 'acme', matched: 'uri:spiffe://example.org/ns/gateway/sa/envoy' }),
      same: false,
    },
    { name: 'another entry', other: caller({ id: 'alice', org: 'acme', name: 'other' }), same: false },
    { name: 'the peer itself', other: caller(), same: false },
  ])('$name', ({ other, same }) => {
    expect(ownerOf(other) === alice).toBe(same)
  })
})

describe('what is somebody’s', () => {
  const bob = ownerOf(caller({ id: 'bob', org: 'acme' }))

  test('unknown and somebody else’s answer the same, and naming an id does not make it one’s own', () => {
    const owned = new Ownership()
    expect(owned.claim('session', 's1', alice, 0)).toBe(true)
    expect(owned.owns('session', 's1', alice, 1)).toBe(true)
    expect(owned.owns('session', 's1', bob, 1)).toBe(false)
    expect(owned.owns('session', 's2', bob, 1)).toBe(false)
    expect(owned.owns('session', 's2', bob, 2)).toBe(false)
    expect(owned.standing('session', 's1', bob, 1)).toBe('foreign')
    expect(owned.standing('session', 's2', bob, 1)).toBe('unknown')
  })

  test('kinds do not mix', () => {
    const owned = new Ownership()
    owned.claim('task', 'x', alice, 0)
    expect(owned.owns('session', 'x', alice, 0)).toBe(false)
  })

  test('what is taken stays the first owner’s when the server gives it out twice', () => {
    const owned = new Ownership()
    owned.claim('session', 's1', alice, 0)
    expect(owned.claim('session', 's1', bob, 1)).toBe(false)
    expect(owned.claim('session', 's1', alice, 1)).toBe(true)
    expect(owned.owns('session', 's1', alice, 2)).toBe(true)
  })

  test('it ends with its last use', () => {
    const owned = new Ownership({ session: { most: 10, mostForOne: 10, idleMs: 100 } })
    owned.claim('session', 's1', alice, 0)
    expect(owned.owns('session', 's1', alice, 99)).toBe(true)
    expect(owned.owns('session', 's1', alice, 198)).toBe(true)
    expect(owned.owns('session', 's1', alice, 298)).toBe(false)
    expect(owned.size('session')).toBe(0)
  })

  test('somebody else’s attempts do not keep it alive', () => {
    const owned = new Ownership({ session: { most: 10, mostForOne: 10, idleMs: 100 } })
    owned.claim('session', 's1', alice, 0)
    owned.owns('session', 's1', bob, 99)
    expect(owned.owns('session', 's1', alice, 100)).toBe(false)
  })

  test('a response to a request of the server is accepted once', () => {
    const owned = new Ownership()
    const id = serverRequestId('s1', 7)
    owned.claim('request', id, alice, 0)
    expect(owned.take('request', serverRequestId('s1', '7'), alice, 1)).toBe(false)
    expect(owned.take('request', id, bob, 1)).toBe(false)
    expect(owned.take('request', id, alice, 1)).toBe(true)
    expect(owned.take('request', id, alice, 1)).toBe(false)
  })

  test('one owner with many pushes out his own, not another’s', () => {
    const owned = new Ownership({ session: { most: 100, mostForOne: 10, idleMs: 1000 } })
    owned.claim('session', 'bobs', bob, 0)
    for (let n = 0; n < 500; n++) owned.claim('session', `a${n}`, alice, 1)
    expect(owned.size('session')).toBe(11)
    expect(owned.owns('session', 'bobs', bob, 2)).toBe(true)
    expect(owned.owns('session', 'a489', alice, 2)).toBe(false)
    expect(owned.owns('session', 'a490', alice, 2)).toBe(true)
  })

  test('a sweep drops what is over', () => {
    const owned = new Ownership({ task: { most: 100, mostForOne: 100, idleMs: 100 } })
    for (let n = 0; n < 50; n++) owned.claim('task', `t${n}`, alice, n)
    owned.sweep(120)
    expect(owned.size('task')).toBe(29)
  })

  test('the digest is not the id, and the same each time', () => {
    expect(digestOf('session-1')).toMatch(/^[0-9a-f]{32}$/)
    expect(digestOf('session-1')).toBe(digestOf('session-1'))
    expect(digestOf('session-1')).not.toBe(digestOf('session-2'))
  })

  test('property: like a plain list of who claimed what first, within its bounds', () => {
    const step = fc.record({
      what: fc.constantFrom('claim' as const, 'owns' as const, 'take' as const, 'forget' as const),
      id: fc.constantFrom('a', 'b', 'c'),
      owner: fc.constantFrom(alice, bob),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const owned = new Ownership()
        const plain = new Map<string, string>()
        for (const { what, id, owner } of steps) {
          const holder = plain.get(id)
          if (what === 'claim') {
            expect(owned.claim('session', id, owner, 0)).toBe(holder === undefined || holder === owner)
            if (holder === undefined) plain.set(id, owner)
          } else if (what === 'forget') {
            owned.forget('session', id)
            plain.delete(id)
          } else {
            expect(owned[what]('session', id, owner, 0)).toBe(holder === owner)
            if (what === 'take' && holder === owner) plain.delete(id)
          }
          expect(owned.size('session')).toBe(plain.size)
        }
      }),
      { numRuns: 200 },
    )
  })
})

import { describe, expect, test } from 'vitest'
import type { Posted } from '../../src/core/mcp/message.ts'
import { readPostedHeaders } from '../../src/core/mcp/posted-headers.ts'
import { readPosted } from '../../src/core/mcp/read-posted.ts'
import { bodyOf, type CorpusRequest, readCorpus } from '../support/corpus.ts'

const corpus = readCorpus()

describe.each([...corpus.keys()])('corpus %s', file => {
  test.each(corpus.get(file)!)('$name', request => {
    const read = readPosted(bodyOf(request), readPostedHeaders(request.headers.flat()), request.limits ?? LIMITS)

    expect(read.ok ? 'read' : read.error.refusal.reason).toBe(request.verdict)
    if (read.ok && request.reads !== undefined) expect(seen(read.value, request)).toEqual(request.reads)
  })
})

test('the corpus has at least 300 requests, each with a name of its own', () => {
  const names = [...corpus.values()].flat().map(request => request.name)
  expect(new Set(names).size).toBe(names.length)
  expect(names.length).toBeGreaterThanOrEqual(300)
})

test('whatever is read, the bytes that go on are the bytes that came', () => {
  for (const request of [...corpus.values()].flat()) {
    const bytes = bodyOf(request)
    const before = Buffer.from(bytes)
    const read = readPosted(bytes, readPostedHeaders(request.headers.flat()), request.limits ?? LIMITS)
    if (read.ok) expect(read.value.bytes).toBe(bytes)
    expect(bytes.equals(before)).toBe(true)
  }
})

const LIMITS = { depth: 64, batch: 0 }

/** As much of the reading as the corpus states. */
function seen(posted: Posted, request: CorpusRequest): object {
  const message = posted.messages[0]!
  const all = {
    method: message.method,
    methods: posted.messages.map(one => one.method),
    id: message.id,
    era: message.era,
    version: message.version,
    objects: message.objects.map(object => `${object.kind} ${object.normalized}`),
    taskIds: [...message.taskIds],
  }
  return Object.fromEntries(Object.keys(request.reads!).map(key => [key, all[key as keyof typeof all]]))
}

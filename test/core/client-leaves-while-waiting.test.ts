import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import type { TokenOutcome } from '../../src/core/identity/token.ts'
import { compileQuotas } from '../../src/core/quota/compile.ts'
import type { QuotaDecision } from '../../src/core/quota/decision.ts'
import { ok, type Result } from '../../src/core/result.ts'
import { Breaker } from '../../src/core/upstream/breaker.ts'
import { ownersOf } from '../../src/edge/owners.ts'
import { Ownership } from '../../src/edge/ownership.ts'
import type { Arrival, ArrivalConnection, Reply } from '../../src/journey/arrival.ts'
import { ExchangeBook } from '../../src/journey/exchange-book.ts'
import { OpenStreams } from '../../src/journey/open-streams.ts'
import { serveCall } from '../../src/journey/serve-call.ts'
import { SessionCalls } from '../../src/journey/session-calls.ts'
import { makeSteps } from '../../src/journey/steps.ts'
import { Live } from '../../src/live/live.ts'
import { compileSettings } from '../../src/live/settings.ts'
import { certificateWith } from '../support/identity.ts'

const CONFIG = `
upstream: { url: "http://127.0.0.1:3000" }
tls: { cert: /tls/tls.crt, key: /tls/tls.key, clientCa: /tls/ca.crt }
peers:
  - name: gateway
    match: { uri: "spiffe://example.org/ns/gateway/sa/kong" }
    mayAssert: { users: ["*"] }
identity:
  source: jwt
  jwt: { issuer: "https://login.example.org", audience: mcp, jwks: "https://login.example.org/keys" }
policy: { rules: [{ id: all, effect: allow, methods: ["tools/call"], tools: ["*"] }] }
quotas: [{ name: one-at-a-time, key: user, concurrent: 1 }]
`
const BODY = Buffer.from('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}')
const USER = { id: 'ada', org: undefined, email: undefined, scopes: [], roles: [] }

type Place = 'key' | 'body' | 'room' | 'quota' | 'upstream'

/** A call that stops at one place until it is told how that went on. */
function callThatWaitsAt(place: Place) {
  const loaded = loadConfig(CONFIG, { path: '/sidecar.yaml', env: {}, readFile: () => '' })
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.error))
  const settings = compileSettings(loaded.value.config, undefined)
  if (!settings.ok) throw new Error(JSON.stringify(settings.error))

  let release: () => void = () => {}
  let fail: () => void = () => {}
  const gate = new Promise<void>((resolve, reject) => {
    release = resolve
    fail = () => reject(new Error('a bug'))
  })
  const at = <T>(here: Place, value: T): T | Promise<T> => (here === place ? gate.then(() => value) : value)

  const seen = { lines: 0, rooms: 0, leases: 0, sent: 0, answered: 0 }
  const book = new ExchangeBook(
    {
      admit() {
        seen.rooms++
        return place === 'room' ? gate.then(() => true) : true
      },
      release: () => void seen.rooms--,
      begin: () => {},
      record() {
        seen.lines++
        return true
      },
      written: () => true,
    },
    { closed: () => {} },
  )
  const streams = new OpenStreams(
    () => 'ada',
    () => ({ perCaller: 1, inAll: 1, ageMs: 1000 }),
  )
  const sessionCalls = new SessionCalls()
  const steps = makeSteps({
    settings: new Live(settings.value),
    trustGeneration: () => 1,
    hosts: () => ({ acceptsHost: () => true, acceptsOrigin: () => true }),
    verifier: () => ({
      verify: () => at<TokenOutcome>('key', ok({ user: USER, expiresAtMs: 4e12, boundTo: undefined })),
    }),
    owners: ownersOf(new Ownership(), () => 0),
    quota: {
      quotas: compileQuotas(settings.value.config.quotas, 1),
      draw() {
        return at<QuotaDecision>('quota', {
          admitted: true,
          reading: undefined,
          get lease() {
            seen.leases++
            let held = true
            return {
              release() {
                if (held) seen.leases--
                held = false
              },
            }
          },
        })
      },
    },
    upstream: {
      send() {
        if (place === 'upstream') throw new Error('a bug')
        seen.sent++
        return { resume() {}, cancel() {} }
      },
      close() {},
    },
    breaker: new Breaker(settings.value.config.upstream.breaker),
    book,
    streams,
    sessionCalls,
    metadata: () => undefined,
    closedFor: () => undefined,
    learn: () => {},
  })

  const connection: ArrivalConnection = {
    facts: { remoteAddress: '10.0.0.1', certificate: certificateWith(), tls: '', httpVersion: '2' },
    peer: undefined,
    retiring: false,
    calls: new Set(),
    done(call) {
      this.calls.delete(call)
    },
  }
  const reply = {
    isGone: false,
    headSent: false,
    bytesWritten: 0,
    listener: undefined,
    head() {},
    write: () => true,
    end: () => void seen.answered++,
    break() {},
  } as Reply & { isGone: boolean }
  const arrival: Arrival & { isBodyRead: boolean } = {
    method: 'POST',
    target: '/mcp',
    rawHeaders: ['host', 'localhost', 'content-type', 'application/json', 'authorization', 'Bearer x'],
    headBytes: 0,
    connection,
    reply,
    quotaHeaders: [],
    forgetHead() {},
    forgetBody() {},
    isBodyRead: false,
    async readBody(): Promise<Result<Buffer, never>> {
      this.isBodyRead = true
      return ok(await at('body', BODY))
    },
  }
  const leave = (): void => {
    reply.isGone = true
    reply.listener?.left('the client left')
  }
  return { served: serveCall(steps, arrival), seen, leave, release, fail, connection, streams, sessionCalls }
}

const nothingHeld = { lines: 1, rooms: 0, leases: 0 }

describe('a client that leaves while its call waits', () => {
  test.each<Place>(['key', 'body', 'room', 'quota'])(
    'for its %s: nothing is sent, one line, nothing held',
    async place => {
      const { served, seen, leave, release, connection, streams, sessionCalls } = callThatWaitsAt(place)
      await new Promise(setImmediate)
      leave()
      release()
      await served
      expect(seen).toMatchObject({ ...nothingHeld, sent: 0 })
      expect([connection.calls.size, streams.size, sessionCalls.size]).toEqual([0, 0, 0])
    },
  )

  test('for the server: one line, nothing held', async () => {
    const { served, seen, leave, release, connection } = callThatWaitsAt('key')
    release()
    await served
    expect(seen).toMatchObject({ lines: 0, sent: 1, leases: 1 })
    leave()
    expect(seen).toMatchObject(nothingHeld)
    expect(connection.calls.size).toBe(0)
  })
})

describe('a bug while a call waits', () => {
  test.each<Place>(['key', 'body', 'room', 'quota'])('for its %s: one line, an answer, nothing held', async place => {
    const { served, seen, fail } = callThatWaitsAt(place)
    fail()
    await served
    expect(seen).toMatchObject({ lines: 1, leases: 0, sent: 0, answered: 1 })
  })

  test('for the server: one line, an answer, nothing held', async () => {
    const { served, seen, streams } = callThatWaitsAt('upstream')
    await served
    expect(seen).toMatchObject({ ...nothingHeld, answered: 1 })
    expect(streams.size).toBe(0)
  })
})

import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { Writable } from 'node:stream'
import { Chain } from '../../src/core/audit/chain.ts'
import { createRecorder } from '../../src/core/audit/record.ts'
import { AnswerReader } from '../../src/core/http1/answer-reader.ts'
import { compileHosts } from '../../src/core/identity/host-origin.ts'
import { ok } from '../../src/core/result.ts'
import { readClientCertificate } from '../../src/core/trust/certificate.ts'
import { Breaker } from '../../src/core/upstream/breaker.ts'
import { AuditSink } from '../../src/edge/audit-sink.ts'
import { Bag } from '../../src/edge/bag.ts'
import { readSettings } from '../../src/edge/config-source.ts'
import { tuneHeap } from '../../src/edge/heap.ts'
import { Metrics } from '../../src/edge/metrics.ts'
import { ownersOf } from '../../src/edge/owners.ts'
import { Ownership, ownerOf } from '../../src/edge/ownership.ts'
import { mintDevPki } from '../../src/edge/pki.ts'
import { openQuotaStore } from '../../src/edge/quota-store.ts'
import type { Arrival, Reply } from '../../src/journey/arrival.ts'
import { ExchangeBook } from '../../src/journey/exchange-book.ts'
import { OpenStreams } from '../../src/journey/open-streams.ts'
import { serveCall } from '../../src/journey/serve-call.ts'
import { SessionCalls } from '../../src/journey/session-calls.ts'
import { makeSteps } from '../../src/journey/steps.ts'
import type { AnswerSink } from '../../src/journey/upstream.ts'
import { Live } from '../../src/live/live.ts'
import { callBody } from '../load.ts'
import { answerFor } from '../peers/answers.ts'
import { sidecarConfig } from '../peers/sidecar-config.ts'

/**
 * The sidecar's own work for one call, from its header lines to its audit line and its answer, with everything on and
 * without sockets: what is left when Node's HTTP and TLS and the kernel are taken away. The least of many batches is
 * what the code costs; the median also shows garbage collection and whatever else the machine does.
 *
 *   node bench/micro/journey.ts [calls]
 */
tuneHeap()
const total = Number(process.argv[2] ?? 400_000)
const BATCH = 16
const dir = mkdtempSync(path.join(os.tmpdir(), 'bench-journey-'))
await mintDevPki(dir)
const file = path.join(dir, 'sidecar.yaml')
const pki = {
  ca: path.join(dir, 'ca.crt'),
  serverCert: path.join(dir, 'server/tls.crt'),
  serverKey: path.join(dir, 'server/tls.key'),
}
writeFileSync(file, sidecarConfig({ port: 1, admin: 2, upstreamPort: 3, pki, operationsSocket: '/tmp/none.sock' }))
const read = await readSettings(file, {})
if (!read.ok) throw new Error(read.error.problems.join('\n'))
const { settings } = read.value
const { config } = settings
const certificate = readClientCertificate(new X509Certificate(readFileSync(path.join(dir, 'gateway/tls.crt'))).raw, [])
if (!certificate.ok) throw new Error(certificate.error.detail)
rmSync(dir, { recursive: true })

let written = 0
const sink = new AuditSink({
  stream: new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      written += chunk.length
      done()
    },
  }),
  recorder: createRecorder(config.audit, { version: '0', pod: {}, policy: 'x', digestKey: Buffer.alloc(32) }),
  chain: new Chain('bench'),
  onBlocked: 'block',
  checkpointEvery: 1000,
  now: Date.now,
  generation: () => ({ config: 1, trust: 1 }),
})
const quota = await openQuotaStore(config.quotaStore, config.quotas)
const metrics = new Metrics({
  now: Date.now,
  policyTools: ['search_docs'],
  sources: {
    activeConnections: () => 0,
    activeStreams: () => 0,
    audit: () => sink.stats(),
    tlsGroups: () => [],
    notAfter: () => ({}),
    generations: () => ({}),
    quotaStoreUp: () => true,
    upstreamUp: () => true,
    upstreamExposed: () => undefined,
    breaker: () => 'closed',
  },
})
const hosts = compileHosts(config.listen, { dns: ['localhost'] }, undefined)
const asked: AnswerSink[] = []
const call = { resume() {}, cancel() {} }
const steps = makeSteps({
  settings: new Live(settings),
  trustGeneration: () => 1,
  hosts: () => hosts,
  verifier: () => undefined,
  owners: ownersOf(new Ownership(), Date.now),
  quota,
  upstream: {
    send(_request, answer) {
      asked.push(answer)
      return call
    },
    close() {},
  },
  breaker: new Breaker(config.upstream.breaker),
  book: new ExchangeBook(sink, { closed: exchange => metrics.observe(exchange) }),
  streams: new OpenStreams(
    admitted => ownerOf(admitted.caller),
    () => ({ perCaller: 32, inAll: 1000, ageMs: 3_600_000 }),
  ),
  sessionCalls: new SessionCalls(),
  metadata: () => undefined,
  closedFor: () => undefined,
  learn: () => {},
})

const lines = [
  ...['Host', 'localhost', 'Content-Type', 'application/json', 'Accept', 'application/json, text/event-stream'],
  ...['Content-Length', '200', 'X-User-ID', 'ada@acme.example', 'X-Org-ID', 'acme'],
  ...['X-User-Scopes', 'mcp.read mcp.write', 'MCP-Protocol-Version', '2025-11-25'],
].map(text => Buffer.from(text))
const body = Buffer.from(callBody(7, 200))
const answerBody = answerFor(200)
const answer = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${answerBody.length}\r\n` +
    `Date: Sat, 21 Nov 2026 00:00:00 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=60\r\n\r\n${answerBody.toString()}`,
)
const connection = {
  facts: { remoteAddress: '127.0.0.1', certificate: certificate.value, tls: 'TLSv1.3', httpVersion: '1.1' as const },
  peer: undefined,
  retiring: false,
  calls: new Bag<never>(),
  done(open: never) {
    connection.calls.delete(open)
  },
}

let ended = 0
class StubArrival implements Arrival, Reply {
  readonly method = 'POST'
  readonly target = '/mcp'
  /** Strings as fresh as those that Node's parser makes. */
  readonly rawHeaders = lines.map(line => line.toString('latin1'))
  readonly connection = connection as unknown as Arrival['connection']
  readonly reply = this
  quotaHeaders: readonly string[] = []
  isBodyRead = false
  listener: Reply['listener']
  bytesWritten = 0
  headSent = false
  readonly isGone = false
  readonly headBytes = 300
  forgetHead(): void {}
  forgetBody(): void {}
  readBody() {
    this.isBodyRead = true
    return Promise.resolve(ok(body))
  }
  head(status: number) {
    if (status !== 200) throw new Error(`refused with ${status}`)
    this.headSent = true
  }
  write() {
    return true
  }
  end() {
    ended++
  }
  break() {}
}

const reader = new AnswerReader()
const batches: number[] = []
for (let done = 0; done < total; done += BATCH) {
  const from = performance.now()
  for (let i = 0; i < BATCH; i++) void serveCall(steps, new StubArrival())
  // Steps that are promises all the same go on in a few turns of the microtask queue.
  for (let i = 0; i < 8; i++) await Promise.resolve()
  for (const sinkOfAnswer of asked.splice(0)) {
    reader.begin()
    const chunk = Buffer.allocUnsafe(answer.length)
    answer.copy(chunk)
    const fault = reader.feed(chunk, sinkOfAnswer)
    if (fault !== undefined) throw new Error(fault)
  }
  await new Promise(setImmediate)
  batches.push(((performance.now() - from) * 1000) / BATCH)
}
if (ended < total) throw new Error(`${ended} of ${total} calls ended`)
const warm = batches.slice(batches.length >> 1).sort((a, b) => a - b)
const at = (q: number): string => (warm[Math.floor(warm.length * q)] ?? 0).toFixed(2)
process.stdout.write(
  `own work of a call: least ${at(0)} µs, tenth ${at(0.1)} µs, median ${at(0.5)} µs; ${written} bytes of audit lines\n`,
)
process.exit()

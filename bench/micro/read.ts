import { AnswerScan } from '../../src/core/mcp/answer-scan.ts'
import { readPostedHeaders } from '../../src/core/mcp/posted-headers.ts'
import { readPosted } from '../../src/core/mcp/read-posted.ts'
import { worstBodies } from '../../test/support/worst-bodies.ts'

/**
 * What reading costs, beside `JSON.parse` of the same bytes (which includes making a string of them):
 * `node bench/micro/read.ts`. Nothing is asserted.
 */

const LIMITS = { depth: 64, batch: 0 }
const RAW = [
  ['Host', 'mcp.example.org'],
  ['Content-Type', 'application/json'],
  ['Accept', 'application/json, text/event-stream'],
  ['User-Agent', 'client/1.0'],
  ['MCP-Protocol-Version', '2025-11-25'],
  ['Mcp-Session-Id', '0b7a7c1e-6b1d-4a55-9c0e-3f1f6b1d2a55'],
  ['Content-Length', '200'],
  ['X-User-ID', 'alice'],
  ['X-Org-ID', 'acme'],
].flat()
const HEADERS = readPostedHeaders(RAW)
/** What was read last goes here, so that no reading can be left out. */
export let sink: unknown

const call = (args: unknown) =>
  Buffer.from(
    JSON.stringify({
      jsonrpc: '2.0',
      id: 17,
      method: 'tools/call',
      params: { name: 'search_documents', arguments: args, _meta: { progressToken: 17 } },
    }),
  )

const small = call({ query: 'quarterly report', limit: 10, path: '/srv/docs/a/b' })
const rows = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    id: i,
    name: `user ${i}`,
    email: `user${i}@example.org`,
    active: i % 2 === 0,
    score: i * 1.5,
    tags: ['a', 'bb'],
  }))

const large: Record<string, Buffer> = {
  'one long string': call({ text: 'x'.repeat(1 << 20) }),
  'rows of objects': call({ rows: rows(9500) }),
  'rows, indented': Buffer.from(JSON.stringify(JSON.parse(call({ rows: rows(5500) }).toString()), null, 2)),
  numbers: call({ numbers: Array.from({ length: 150_000 }, (_, i) => i * 7) }),
  prose: call({ pages: Array.from({ length: 1000 }, () => `${'lorem ipsum dolor sit amet '.repeat(38)}\n`) }),
  'source code': call({ text: 'const x = "hello";\n  if (a < b) { return 1 }\n'.repeat(21_000) }),
  'not ASCII': call({ rows: Array.from({ length: 26_000 }, (_, i) => ({ 名前: `日本語テキスト${i}` })) }),
}

/** CPU time of this thread for one run, in ns: a mean, because the clock of CPU time ticks in milliseconds. */
const ns = (rounds: number, run: () => unknown) => {
  for (let i = 0; i < Math.min(rounds, 20_000); i++) sink = run()
  const before = process.threadCpuUsage()
  for (let i = 0; i < rounds; i++) sink = run()
  const { user, system } = process.threadCpuUsage(before)
  return ((user + system) * 1000) / rounds
}
const SMALL_ROUNDS = 400_000
const LARGE_ROUNDS = 40

const parsed = ns(SMALL_ROUNDS, () => JSON.parse(small.toString()))
const read = ns(SMALL_ROUNDS, () => readPosted(small, HEADERS, LIMITS))
const headers = ns(SMALL_ROUNDS, () => readPostedHeaders(RAW))
console.log(
  `a call of ${small.length} bytes: JSON.parse ${parsed.toFixed(0)} ns, reading ${read.toFixed(0)} ns, its headers ${headers.toFixed(0)} ns`,
)

const answer = Buffer.from(
  JSON.stringify({
    jsonrpc: '2.0',
    id: 17,
    result: { content: [{ type: 'text', text: 'found: '.repeat(16) }], isError: false },
  }),
)
const scan = new AnswerScan(message => {
  sink = message
})
const scanned = ns(SMALL_ROUNDS, () => {
  scan.reset()
  scan.push(answer)
})
console.log(
  `an answer of ${answer.length} bytes: JSON.parse ${ns(SMALL_ROUNDS, () => JSON.parse(answer.toString())).toFixed(0)} ns, scanning ${scanned.toFixed(0)} ns`,
)

console.log('\nbodies of about 1 MiB           JSON.parse ms   reading ms   ratio   scanned as an answer ms')
for (const [name, bytes] of Object.entries(large)) report(name, bytes)
console.log('\nbodies of 1 MiB at their worst  JSON.parse ms   reading ms   ratio   scanned as an answer ms')
for (const [name, bytes] of Object.entries(worstBodies(1 << 20))) report(name, bytes)

function report(name: string, bytes: Buffer): void {
  const plain = ns(LARGE_ROUNDS, () => tryParse(bytes)) / 1e6
  const ours = ns(LARGE_ROUNDS, () => readPosted(bytes, HEADERS, LIMITS)) / 1e6
  const passing =
    ns(LARGE_ROUNDS, () => {
      scan.reset()
      scan.push(bytes)
    }) / 1e6
  console.log(
    `${name.padEnd(32)}${plain.toFixed(2).padStart(12)}${ours.toFixed(2).padStart(13)}${(ours / plain).toFixed(2).padStart(8)}${passing.toFixed(2).padStart(12)}`,
  )
}

function tryParse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
}

import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import https from 'node:https'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { cli } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { type RequestOptions, send, toolCall, USER_HEADERS } from '../support/request.ts'
import { type ScriptedServer, startScriptedServer } from '../support/scripted-server.ts'
import type { AuditLine } from '../support/sidecar.ts'
import { inParallel, linesOf, SidecarProcess } from '../support/sidecar-process.ts'

const CALLS = 10_000
const ABORTED = 100
const STRANGERS = 5
const has = (program: string): boolean => spawnSync(program, ['--version']).status === 0

let server: ScriptedServer
let running: SidecarProcess
/** What the clients have seen, by the word of the answer. */
const seen = new Map<string, number>()
let metrics = ''
let lines: AuditLine[] = []

const count = (counts: Map<string, number>, key: string, n = 1) => counts.set(key, (counts.get(key) ?? 0) + n)

beforeAll(async () => {
  server = await startScriptedServer()
  running = await SidecarProcess.start(server.url, config => {
    config['quotas'] = [
      { name: 'few', key: 'user', match: { tools: ['search_few'] }, windows: [{ limit: 100, per: '1h' }] },
      { name: 'many', key: 'user', match: { methods: ['tools/call'] }, windows: [{ limit: 100_000, per: '1h' }] },
    ]
  })
  const agent = new https.Agent({ keepAlive: true })
  await Promise.all([
    inParallel(CALLS - ABORTED, 32, async i => {
      const answer = await send(running, { agent, ...mixed(i) })
      count(seen, wordOf(answer.status, answer.text))
    }),
    abortSome(agent),
  ])
  await inParallel(STRANGERS, 1, () => send(running, { identity: running.pki.stranger }).catch(() => undefined))
  metrics = await eventually(async () => {
    const { text } = await running.probe('/metrics')
    return sum(samples(text, 'mcp_http_request_duration_seconds_count')) === CALLS ? text : undefined
  }, 20_000)
}, 240_000)
afterAll(async () => {
  running.end()
  await server.stop()
})

/** Every kind of call and of answer, in a fixed mixture. */
function mixed(i: number): RequestOptions {
  switch (i % 20) {
    case 0:
      return { body: toolCall('fail') }
    case 1:
      return { body: toolCall('get_user', { say: 'no such user' }) }
    case 2:
      return { body: toolCall('count') }
    case 3:
      return { body: toolCall('search_few') }
    case 4:
      return { body: toolCall('delete_row') }
    case 5:
      return { body: toolCall('search_docs'), headers: { 'X-User-ID': [], 'X-Org-ID': [], 'X-User-Scopes': [] } }
    case 6:
      return { body: ['{"jsonrpc":', '{"jsonrpc":"2.0","id":1}', '[]', '"x"'][(i / 20) & 3] as string }
    case 7:
      return { body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri: 'file:///x' } }) }
    case 8:
      return { body: JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }) }
    case 9:
      return [
        { body: toolCall('search_docs'), path: '/elsewhere' },
        { method: 'GET', headers: { Accept: 'text/html' } },
        { body: toolCall('search_docs'), headers: { 'Mcp-Session-Id': 'of-nobody' } },
        { body: toolCall('search_docs'), headers: { Origin: 'https://evil.example' } },
      ][(i / 20) & 3] as RequestOptions
    default:
      return { body: toolCall(i % 3 === 0 ? 'big' : 'search_docs') }
  }
}

/** Clients that leave while the server still works, one after the other. */
async function abortSome(agent: https.Agent): Promise<void> {
  for (let i = 0; i < ABORTED; i++) {
    const request = https.request({
      agent,
      host: '127.0.0.1',
      port: running.port,
      servername: 'localhost',
      ca: running.pki.ca.cert,
      ...running.pki.gateway.tls,
      path: '/mcp',
      method: 'POST',
      headers: { Host: 'localhost', 'Content-Type': 'application/json', Accept: 'application/json', ...USER_HEADERS },
    })
    request.on('error', () => {})
    request.end(toolCall('search_later'))
    await eventually(() => server.waiting() > 0, 30_000)
    request.destroy()
    // The server is told, and does not have to answer.
    await eventually(() => server.cancelled.length > i, 30_000)
    server.release()
    count(seen, 'aborted')
  }
}

function wordOf(status: number, text: string): string {
  if (text.includes('"reason":"')) return /"reason":"(\w+)"/.exec(text)?.[1] ?? ''
  if (text.includes('"error":')) return 'error'
  if (text.includes('"isError":true')) return 'tool_error'
  return status < 400 ? 'success' : `status ${status}`
}

interface Sample {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

function samples(text: string, name: string): Sample[] {
  return [...text.matchAll(new RegExp(`^${name}(?:\\{(.*)\\})? (\\S+)$`, 'gm'))].map(([, labels = '', value]) => ({
    labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, word]) => [key, word])),
    value: Number(value),
  }))
}

const sum = (all: readonly Sample[]): number => all.reduce((total, { value }) => total + value, 0)

/** Samples as counts by some of their labels; what is zero is left out. */
function measured(name: string, ...labels: string[]): Record<string, number> {
  const counts = new Map<string, number>()
  for (const sample of samples(metrics, name)) {
    if (sample.value > 0) count(counts, labels.map(label => sample.labels[label]).join(' '), sample.value)
  }
  return Object.fromEntries(counts)
}

/** Audit lines as counts by what `key` says of them; lines that stand for several count as often. */
function audited(key: (line: AuditLine) => string | undefined): Record<string, number> {
  const counts = new Map<string, number>()
  for (const line of lines) {
    const word = ENDS.has(line['event']) ? key(line) : undefined
    if (word !== undefined) count(counts, word, line['count'] ?? 1)
  }
  return Object.fromEntries(counts)
}

/** Lines that end an exchange; one for each, or one for several that are the same. */
const ENDS = new Set(['mcp.call', 'mcp.refused', 'mcp.stream.close'])

describe(`after ${CALLS} mixed calls`, () => {
  test.skipIf(!has('promtool'))('promtool finds no fault in what the sidecar says', () => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: metrics, encoding: 'utf8' })
    expect(`${stdout}${stderr}`).toBe('')
    expect(status).toBe(0)
  })

  test.skipIf(!has('prometheus'))(
    'a real Prometheus scrapes it and has the same sums',
    async () => {
      const prometheus = await startPrometheus()
      try {
        const wanted = String(sum(samples(metrics, 'mcp_tool_calls_total')))
        await eventually(async () => (await prometheus.ask('sum(mcp_tool_calls_total)')) === wanted, 30_000)
        expect(await prometheus.ask('sum(mcp_http_request_duration_seconds_count)')).toBe(String(CALLS))
        expect(await prometheus.ask('max(mcp_sidecar_generation{what="config"})')).toBe('1')
      } finally {
        prometheus.stop()
      }
    },
    60_000,
  )

  test('the log is whole, and its last line counts what the metrics count', async () => {
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    lines = linesOf(await running.allText())
    expect((await cli(['audit', 'verify', running.auditFile])).stdout).toContain('intact')
    const last = samples(metrics, 'mcp_sidecar_audit_last_seq')[0]?.value ?? 0
    expect(lines[last - 1]?.['seq']).toBe(last)
    expect(sum(samples(metrics, 'mcp_sidecar_audit_records_total'))).toBe(last)
    const refused = sum(samples(metrics, 'mcp_sidecar_refusals_total'))
    expect(lines.at(-1)?.['stopped']).toMatchObject({
      reason: 'SIGTERM',
      records: lines.length - 1,
      calls: CALLS - refused,
      refused,
      dropped: 0,
    })
  })

  test('tool calls by tool and outcome', () => {
    const known = new Set(samples(metrics, 'mcp_tool_calls_total').map(({ labels }) => labels['tool']))
    const label = (tool: string): string => (known.has(tool) ? tool : 'other')
    const wanted = audited(({ mcp, outcome }) =>
      mcp?.method === 'tools/call' ? `${label(mcp.tool)} ${outcome}` : undefined,
    )
    expect(measured('mcp_tool_calls_total', 'tool', 'status')).toEqual(wanted)
    expect(Object.keys(wanted)).toEqual(
      expect.arrayContaining(['fail tool_error', 'get_user error', 'count success', 'other aborted', 'other refused']),
    )
  })

  test('refusals by reason, which are those that clients were told', () => {
    const wanted = audited(({ decision }) => decision?.reason)
    expect(measured('mcp_sidecar_refusals_total', 'reason')).toEqual(wanted)
    const told = Object.fromEntries([...seen].filter(([word]) => word in wanted))
    expect(told).toEqual(wanted)
    expect(Object.keys(wanted).length).toBeGreaterThanOrEqual(10)
  })

  test('requests by status', () => {
    expect(measured('mcp_http_request_duration_seconds_count', 'status_code')).toEqual(
      audited(({ status = 0 }) => String(status)),
    )
  })

  test('decisions of policy by rule', () => {
    expect(measured('mcp_sidecar_policy_decisions_total', 'effect', 'rule', 'mode')).toEqual(
      audited(({ decision }) =>
        decision?.rule === undefined ? undefined : `${decision.effect} ${decision.rule} ${decision.mode}`,
      ),
    )
  })

  test('decisions of quotas: a line names the tightest, and what `few` admits draws from `many` too', () => {
    const refused = audited(({ decision }) => (decision?.reason === 'quota_exhausted' ? 'few refused' : undefined))
    const { few, many } = audited(({ decision, quota }) =>
      decision?.reason === 'quota_exhausted' ? undefined : quota?.name,
    )
    expect(measured('mcp_sidecar_quota_decisions_total', 'quota', 'result')).toEqual({
      'few admitted': 100,
      'many admitted': (few ?? 0) + (many ?? 0),
      ...refused,
    })
    expect(few).toBe(100)
  })

  test('requests for resources, and connections that were turned away', () => {
    expect(measured('mcp_resource_requests_total', 'status')).toEqual(
      audited(({ mcp, outcome }) => (mcp?.method?.startsWith('resources/') ? outcome : undefined)),
    )
    const turnedAway = lines.filter(({ event }) => event === 'connection.refused')
    expect(turnedAway.reduce((total, line) => total + (line['count'] ?? 1), 0)).toBe(STRANGERS)
    expect(measured('mcp_sidecar_tls_handshakes_total', 'result')['refused']).toBe(STRANGERS)
  })

  test('outcomes are those that clients have seen', () => {
    const outcomes = audited(({ outcome }) => outcome)
    for (const outcome of ['success', 'tool_error', 'error', 'aborted'])
      expect(outcomes[outcome]).toBe(seen.get(outcome))
    expect(Object.values(outcomes).reduce((total, n) => total + n)).toBe(CALLS)
  })
})

async function startPrometheus(): Promise<{ ask(query: string): Promise<string | undefined>; stop(): void }> {
  const config = {
    global: { scrape_interval: '500ms', scrape_timeout: '500ms' },
    scrape_configs: [{ job_name: 'sidecar', static_configs: [{ targets: [running.admin.slice('http://'.length)] }] }],
  }
  const file = join(running.dir, 'prometheus.yml')
  writeFileSync(file, stringify(config))
  const free = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => free.once('listening', resolve))
  const address = `127.0.0.1:${(free.address() as { port: number }).port}`
  await new Promise(resolve => free.close(resolve))
  const child = spawn(
    'prometheus',
    [`--config.file=${file}`, `--storage.tsdb.path=${running.dir}/data`, `--web.listen-address=${address}`],
    { stdio: 'ignore' },
  )
  return {
    async ask(query) {
      const response = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(query)}`)
      const { data } = (await response.json()) as { data: { result: { value: [number, string] }[] } }
      return data.result[0]?.value[1]
    },
    stop: () => void child.kill('SIGKILL'),
  }
}

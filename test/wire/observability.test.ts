import { spawn, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PodMonitor, PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { Metrics } from '../../src/edge/metrics.ts'
import { exchangeWith } from '../support/audit.ts'

const folder = 'k8s/observability'
const dir = mkdtempSync(join(tmpdir(), 'observability-'))
afterAll(() => rmSync(dir, { recursive: true }))
const rules = parse(readFileSync(`${folder}/prometheus-rules.yaml`, 'utf8'))
const has = (tool: string): boolean => spawnSync(tool, ['--version']).status === 0

const metrics = new Metrics({
  now: Date.now,
  policyTools: ['search'],
  sources: {
    activeConnections: () => 1,
    activeStreams: () => 0,
    audit: () => ({
      state: 'blocked',
      records: 5,
      dropped: 0,
      lastSeq: 5,
      pendingBytes: 0,
      waiting: 0,
      reserved: 0,
      failure: undefined,
    }),
    tlsGroups: () => ['X25519'],
    notAfter: () => ({ server: Date.now() + 9e9 }),
    generations: () => ({ config: 1, trust: 1 }),
    quotaStoreUp: () => true,
    upstreamUp: () => true,
    upstreamExposed: () => false,
    breaker: () => 'closed',
  },
})
metrics.observe(exchangeWith())
metrics.observe(exchangeWith({ outcome: 'refused', refusal: { reason: 'user_missing' } }))
metrics.observe(exchangeWith({ messages: [{ ...exchangeWith().messages[0], method: 'resources/read' } as never] }))
metrics.handshake('ok', 'TLSv1.3')

test('the objects are what the operator takes', () => {
  new PrometheusRule(rules).validate()
  new PodMonitor(parse(readFileSync(`${folder}/pod-monitor.yaml`, 'utf8'))).validate()
})

describe.skipIf(!has('promtool'))('promtool', () => {
  writeFileSync(join(dir, 'rules.yaml'), stringify(rules.spec))
  copyFileSync(`${folder}/prometheus-rules.test.yaml`, join(dir, 'rules.test.yaml'))
  const promtool = (...argv: string[]) => spawnSync('promtool', argv, { cwd: dir, encoding: 'utf8' })

  test('the rules are in order', () => expect(promtool('check', 'rules', 'rules.yaml').stdout).toContain('SUCCESS'))

  test('each alert fires when it should and only then', () => {
    const { stdout, stderr, status } = promtool('test', 'rules', 'rules.test.yaml')
    expect(`${stdout}${stderr}`).toContain('SUCCESS')
    expect(status).toBe(0)
  })

  test('a rule that is wrong would be found', () => {
    writeFileSync(
      join(dir, 'rules.yaml'),
      stringify(rules.spec).replace('mcp_sidecar_breaker_state == 2', 'mcp_sidecar_breaker_state == 3'),
    )
    const { status } = promtool('test', 'rules', 'rules.test.yaml')
    writeFileSync(join(dir, 'rules.yaml'), stringify(rules.spec))
    expect(status).toBe(1)
  })
})

test('rules and dashboard ask only for metrics that there are', async () => {
  const { body } = await metrics.render(false)
  const there = new Set(body.match(/^[a-z_][a-z0-9_]*/gm))
  const asked = new Set<string>()
  for (const file of ['prometheus-rules.yaml', 'grafana-dashboard.json']) {
    for (const name of readFileSync(`${folder}/${file}`, 'utf8').match(/\b(?:mcp|process|nodejs)_[a-z0-9_]+\b/g) ?? [])
      asked.add(name)
  }
  asked.delete('mcp_sidecar_version')
  expect([...asked].filter(name => !there.has(name))).toEqual([])
  expect(asked.size).toBeGreaterThan(15)
})

test('the dashboard has panels that do not lie on each other', () => {
  const { panels } = JSON.parse(readFileSync(`${folder}/grafana-dashboard.json`, 'utf8'))
  const taken = new Set<string>()
  for (const { gridPos, title } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken.has(`${x},${y}`), title).toBe(false)
        expect(x).toBeLessThan(24)
        taken.add(`${x},${y}`)
      }
    }
  }
})

test.skipIf(!has('prometheus'))(
  'a real Prometheus scrapes both formats and fires the alert',
  async () => {
    const server = createServer(async (request, response) => {
      const { body, contentType } = await metrics.render(
        (request.headers.accept ?? '').includes('application/openmetrics-text'),
      )
      response.setHeader('content-type', contentType).end(body)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const fast = stringify(rules.spec).replace(/for: .*/g, 'for: 0s')
    writeFileSync(join(dir, 'fast.yaml'), fast)
    const config = {
      global: { scrape_interval: '200ms', scrape_timeout: '200ms', evaluation_interval: '200ms' },
      rule_files: ['fast.yaml'],
      scrape_configs: [
        {
          job_name: 'sidecar',
          static_configs: [{ targets: [`127.0.0.1:${port}`], labels: { namespace: 'tools', pod: 'a' } }],
        },
      ],
    }
    writeFileSync(join(dir, 'prometheus.yml'), stringify(config))
    const probe = createServer().listen(0, '127.0.0.1')
    await new Promise(resolve => probe.once('listening', resolve))
    const address = `127.0.0.1:${(probe.address() as AddressInfo).port}`
    await new Promise(resolve => probe.close(resolve))
    const prometheus = spawn(
      'prometheus',
      [
        `--config.file=${dir}/prometheus.yml`,
        `--storage.tsdb.path=${dir}/data`,
        `--web.listen-address=${address}`,
        '--enable-feature=exemplar-storage',
      ],
      { stdio: 'ignore' },
    )
    const ask = async (
      path: string,
    ): Promise<{ data: { result?: unknown[]; alerts?: { labels: { alertname: string } }[] } }> => {
      for (;;) {
        const response = await fetch(`http://${address}${path}`).catch(() => undefined)
        if (response?.ok) return (await response.json()) as never
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    }
    try {
      let alerts: string[] = []
      while (!alerts.includes('McpSidecarAuditBlocked')) {
        alerts = (await ask('/api/v1/alerts')).data.alerts?.map(({ labels }) => labels.alertname) ?? []
        await new Promise(resolve => setTimeout(resolve, 100))
      }
      expect(alerts).toEqual(['McpSidecarAuditBlocked'])
      const { data } = await ask(`/api/v1/query?query=${encodeURIComponent('mcp_tool_calls_total{tool="search"}')}`)
      expect(data.result).toHaveLength(2)
      const exemplars = await ask(
        `/api/v1/query_exemplars?query=mcp_tool_duration_seconds_bucket&start=${Date.now() / 1000 - 600}&end=${Date.now() / 1000 + 600}`,
      )
      expect(JSON.stringify(exemplars)).toContain('4bf92f3577b34da6a3ce929d0e0e4736')
    } finally {
      prometheus.kill('SIGKILL')
      server.closeAllConnections()
      server.close()
    }
  },
  60_000,
)

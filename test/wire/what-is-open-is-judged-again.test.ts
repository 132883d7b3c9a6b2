import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { mintCrl } from '../../src/edge/pki.ts'
import { openStream } from '../support/event-stream.ts'
import { eventually } from '../support/eventually.ts'
import { listen } from '../support/mcp-upstreams.ts'
import { testPki } from '../support/pki.ts'
import { send, toolCall } from '../support/request.ts'
import { type RunningSidecar, startTestSidecar } from '../support/sidecar.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function ticking(change: (config: Record<string, unknown>) => void = () => {}): Promise<RunningSidecar> {
  const upstream = await listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    let n = 0
    const timer = setInterval(
      () => response.write(`data: {"jsonrpc":"2.0","method":"notifications/message","params":{"n":${n++}}}\n\n`),
      10,
    )
    response.on('close', () => clearInterval(timer))
  })
  const running = await startTestSidecar(upstream.url, change)
  cleanups.push(
    () => upstream.stop(),
    () => running.stop(),
  )
  return running
}

type Peers = { name: string; match: Record<string, string>; mayAssert: Record<string, unknown> }[]

function bothGateways(config: Record<string, unknown>): void {
  const peers = config['peers'] as Peers
  const [first] = peers
  peers.push({
    ...(first as Peers[number]),
    name: 'second',
    match: { uri: 'spiffe://example.org/ns/gateway/sa/envoy' },
  })
}

describe('a certificate that is revoked', () => {
  test('cuts its own connection in the middle of a stream, at an event boundary, and no other', async () => {
    const pki = await testPki()
    const doomed = await pki.mint('doomed', {
      cn: 'doomed',
      uris: ['spiffe://example.org/ns/gateway/sa/kong'],
      usages: ['clientAuth'],
    })
    const crl = (serials: string[]) =>
      mintCrl(pki.ca, {
        revoked: serials,
        thisUpdate: new Date(Date.now() - 60_000),
        nextUpdate: new Date(Date.now() + 3_600_000),
      })
    let crlFile = ''
    const running = await ticking(config => {
      bothGateways(config)
      crlFile = join((config['admin'] as { operations: string }).operations.replace('unix:', ''), '..', 'ca.crl')
      writeFileSync(crlFile, crl([]))
      ;(config['tls'] as Record<string, unknown>)['crl'] = crlFile
    })
    const [cut, kept] = [
      await openStream(running, { identity: doomed }),
      await openStream(running, { identity: running.pki.secondGateway }),
    ]
    await eventually(() => cut.text().includes('"n":3') && kept.text().includes('"n":3'))
    writeFileSync(crlFile, crl([doomed.serial]))
    expect(await cut.ended).toBe('complete')
    expect(cut.text().endsWith('\n\n')).toBe(true)
    expect(await eventually(() => running.lines.find(line => line['event'] === 'connection.closed'))).toMatchObject({
      decision: { reason: 'CERT_REVOKED' },
      peer: { name: 'gateway' },
    })
    const seen = kept.text().length
    await eventually(() => kept.text().length > seen)
    expect(kept.ending()).toBeUndefined()
    await expect(send(running, { identity: doomed, body: toolCall('search_docs') })).rejects.toThrow()
    kept.leave()
  })
})

test('a certificate that expires takes its open stream with it, and the line says why', async () => {
  const pki = await testPki()
  const brief = await pki.mint('brief', {
    cn: 'brief',
    uris: ['spiffe://example.org/ns/gateway/sa/kong'],
    usages: ['clientAuth'],
    notAfter: new Date(Math.ceil(Date.now() / 1000) * 1000 + 3000),
  })
  const running = await ticking()
  const stream = await openStream(running, { identity: brief })
  await eventually(() => stream.text().includes('"n":3'))
  expect(await stream.ended).toBe('complete')
  expect(await eventually(() => running.lines.find(line => line['event'] === 'connection.closed'))).toMatchObject({
    decision: { reason: 'CERT_HAS_EXPIRED' },
  })
})

describe('another configuration', () => {
  test('that denies a user ends that user\u2019s streams and no other\u2019s', async () => {
    const running = await ticking()
    const [mallory, ada] = [
      await openStream(running, { headers: { 'X-User-ID': 'mallory' } }),
      await openStream(running),
    ]
    await eventually(() => mallory.text().includes('"n":1') && ada.text().includes('"n":1'))
    running.rewrite(config => {
      ;(config['policy'] as { rules: unknown[] }).rules.push({
        id: 'kill',
        effect: 'deny',
        when: { users: ['mallory'] },
      })
    })
    expect(await mallory.ended).toBe('complete')
    const line = await eventually(() => running.lines.find(entry => entry['event'] === 'mcp.stream.close'))
    expect(line).toMatchObject({ user: { id: 'mallory' }, error: 'stream ended: method_not_permitted' })
    const seen = ada.text().length
    await eventually(() => ada.text().length > seen)
    expect(ada.ending()).toBeUndefined()
    ada.leave()
  })

  test('that strikes a peer off the list cuts its connections', async () => {
    const running = await ticking(bothGateways)
    const [second, first] = [
      await openStream(running, { identity: running.pki.secondGateway }),
      await openStream(running),
    ]
    await eventually(() => second.text().includes('"n":1') && first.text().includes('"n":1'))
    running.rewrite(config => {
      ;(config['peers'] as Peers).pop()
    })
    expect(await second.ended).toBe('complete')
    expect(await eventually(() => running.lines.find(line => line['event'] === 'connection.closed'))).toMatchObject({
      decision: { reason: 'peer_not_listed' },
    })
    expect(first.ending()).toBeUndefined()
    first.leave()
  })

  test('that is wrong changes nothing, and says so in the audit, in /readyz and in the metrics', async () => {
    const running = await ticking()
    running.rewrite(config => {
      ;(config['policy'] as Record<string, unknown>)['rulez'] = []
    })
    const line = await eventually(() => running.lines.find(entry => entry['event'] === 'config.kept'))
    expect(line['error']).toContain('policy')
    expect(await (await fetch(`${running.admin}/readyz`)).json()).toMatchObject({ checks: { config: { ok: false } } })
    expect(await (await fetch(`${running.admin}/metrics`)).text()).toContain(
      'mcp_sidecar_reloads_total{what="config",result="kept"} 1',
    )
    running.rewrite(config => {
      delete (config['policy'] as Record<string, unknown>)['rulez']
      config['audit'] = { args: 'digest' }
    })
    expect(await eventually(() => running.lines.find(entry => entry['event'] === 'config.reloaded'))).toMatchObject({
      sidecar: { config: 2 },
    })
  })
})

import http from 'node:http'
import { performance } from 'node:perf_hooks'
import type { HandshakeOptions, HandshakeResult } from './handshakes.ts'
import { anonymousKib, cpuNanos, type Lab, type Pki, sleep } from './lab.ts'
import type { Peer } from './peers/start.ts'
import type { StreamOptions } from './streams.ts'
import { HEADERS } from './turns.ts'

export interface HandshakeSample {
  readonly perSecond: number
  /** CPU µs of one full handshake with a client certificate. */
  readonly cpu: number
}

/** Handshakes by a generator that says `measuring` and `measured`; the peer's CPU clocks are read at both. */
export async function measureHandshakes(lab: Lab, peer: Peer, pki: Pki, seconds: number): Promise<HandshakeSample> {
  const options: HandshakeOptions = { port: peer.port, pki, parallel: 8, seconds }
  const child = lab.spawn(process.execPath, ['bench/handshakes.ts', JSON.stringify(options)])
  let before: number | undefined
  let after: number | undefined
  let text = ''
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk)
    if (before === undefined && text.includes('measuring\n')) before = cpuNanos(peer.pid)
    if (after === undefined && text.includes('measured\n')) after = cpuNanos(peer.pid)
  }
  const result = JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as HandshakeResult
  const cpu = ((after ?? 0) - (before ?? 0)) / 1000
  return { perSecond: result.handshakes / result.seconds, cpu: cpu / Math.max(1, result.handshakes) }
}

/** Anonymous memory that the peer takes for each of `count` streams on which nothing happens, KiB. */
export async function measureStreams(
  lab: Lab,
  peer: Peer,
  pki: Pki,
  count: number,
  isHttp2: boolean,
): Promise<{ open: number; kibEach: number }> {
  const before = anonymousKib(peer.pid)
  const options: StreamOptions = { port: peer.port, pki, count, isHttp2, headers: HEADERS }
  const child = lab.spawn(process.execPath, ['bench/streams.ts', JSON.stringify(options)])
  let text = ''
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk)
    if (text.includes('\n')) break
  }
  await sleep(3000)
  const open = Number(text)
  const kibEach = (anonymousKib(peer.pid) - before) / Math.max(1, open)
  await lab.stop(child)
  await sleep(500)
  return { open, kibEach }
}

/**
 * Asks until it answers 200; then the ms since `from`. Each question costs the process that is starting a few ms of its time:
 * once it answers at all it is asked every 10 ms, on one connection (every 2 ms on new ones a start took a tenth longer).
 */
export async function untilReady(url: string, from: number, isOver: () => boolean): Promise<number> {
  const agent = new http.Agent({ keepAlive: true })
  for (;;) {
    const status = await statusOf(url, agent)
    if (status === 200) break
    if (isOver() || performance.now() - from > 30_000) throw new Error(`${url} did not become ready`)
    await sleep(status === undefined ? 2 : 10)
  }
  agent.destroy()
  return performance.now() - from
}

/** Undefined when nobody answers. */
function statusOf(url: string, agent: http.Agent): Promise<number | undefined> {
  return new Promise(resolve => {
    const request = http.get(url, { agent }, answer => {
      answer.resume()
      answer.on('end', () => resolve(answer.statusCode))
    })
    request.on('error', () => resolve(undefined))
    request.on('close', () => resolve(undefined))
  })
}

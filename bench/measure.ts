import http from 'node:http'
import { performance } from 'node:perf_hooks'
import type { HandshakeOptions, HandshakeResult } from './handshakes.ts'
import { anonymousKib, cpuMicros, type Lab, type Pki, sleep } from './lab.ts'
import type { LoadOptions, LoadResult } from './load.ts'
import type { Peer } from './peers/start.ts'
import type { StreamOptions } from './streams.ts'

/** What the gateway says about the user of each call. */
export const HEADERS = {
  'X-User-ID': 'ada@acme.example',
  'X-Org-ID': 'acme',
  'X-User-Scopes': 'mcp.read mcp.write',
  'MCP-Protocol-Version': '2025-11-25',
}

export interface CallSample extends LoadResult {
  /** CPU µs of one call: user and system time of all processes of the peer. */
  readonly cpu: number
}

export type Load = Pick<LoadOptions, 'connections' | 'seconds' | 'bodyBytes' | 'isHttp2'> & {
  readonly rate?: number
  readonly warmupCalls?: number
}

export async function measureCalls(lab: Lab, peer: Peer, pki: Pki, load: Load): Promise<CallSample> {
  const options: LoadOptions = { port: peer.port, pki, headers: HEADERS, warmupMs: 300, warmupCalls: 0, ...load }
  const { result, cpu } = await underClocks<LoadResult>(lab, 'bench/load.ts', options, peer)
  return { ...result, cpu: cpu / Math.max(1, result.requests) }
}

export interface HandshakeSample {
  readonly perSecond: number
  /** CPU µs of one full handshake with a client certificate. */
  readonly cpu: number
}

export async function measureHandshakes(lab: Lab, peer: Peer, pki: Pki, seconds: number): Promise<HandshakeSample> {
  const options: HandshakeOptions = { port: peer.port, pki, parallel: 8, seconds }
  const { result, cpu } = await underClocks<HandshakeResult>(lab, 'bench/handshakes.ts', options, peer)
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

/** Runs a generator that says `measuring` and `measured`, and reads the peer's CPU clocks at both. */
async function underClocks<T>(
  lab: Lab,
  script: string,
  options: object,
  peer: Peer,
): Promise<{ result: T; cpu: number }> {
  const child = lab.spawn(process.execPath, [script, JSON.stringify(options)])
  let before: number | undefined
  let cpu: number | undefined
  let text = ''
  for await (const chunk of child.stdout ?? []) {
    text += String(chunk)
    if (before === undefined && text.includes('measuring\n')) before = cpuMicros(peer.pid)
    if (cpu === undefined && text.includes('measured\n')) cpu = cpuMicros(peer.pid) - (before ?? 0)
  }
  return { result: JSON.parse(text.trim().split('\n').at(-1) ?? '{}') as T, cpu: cpu ?? 0 }
}

/** Asks until it answers 200; then the ms since `from`. */
export async function untilReady(url: string, from: number, isOver: () => boolean): Promise<number> {
  while (!(await answersOk(url))) {
    if (isOver() || performance.now() - from > 30_000) throw new Error(`${url} did not become ready`)
    await sleep(2)
  }
  return performance.now() - from
}

function answersOk(url: string): Promise<boolean> {
  return new Promise(resolve => {
    const request = http.get(url, { agent: false }, answer => {
      answer.resume()
      resolve(answer.statusCode === 200)
    })
    request.on('error', () => resolve(false))
  })
}

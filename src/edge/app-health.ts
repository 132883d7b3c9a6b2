import { request as httpRequest } from 'node:http'
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2'
import { request as httpsRequest } from 'node:https'
import { connect, type Socket } from 'node:net'
import type { UpstreamConfig } from '../config/config.ts'
import type { AppProbe, AppProbes, ProbePath, ProbePort } from '../core/manifest/app-probes.ts'

export interface AppHealthOptions {
  /** From `readAppProbes(env.MCP_SIDECAR_APP_PROBES)`. */
  readonly probes: AppProbes
  /** Where `port: "upstream"` leads: the configured upstream, a unix socket too. */
  readonly target: UpstreamConfig['target']
  /** While true, the application is not ready whatever it says; it still lives. */
  readonly isDraining?: () => boolean
}

export interface ProbeAnswer {
  readonly status: 200 | 503
  readonly body: string
}

/**
 * Runs the application's own probes for the kubelet, which cannot reach a server that listens on the loopback or on a
 * unix socket. Only probes that the injector handed over exist; nothing of an answer but its status gets out.
 *
 * HTTP succeeds with 200 to 399, as for the kubelet, without following redirects; HTTPS takes any certificate; TCP
 * succeeds when the connection opens; gRPC asks `grpc.health.v1.Health/Check` in clear text and wants SERVING.
 */
export class AppHealth {
  readonly #options: AppHealthOptions
  /** One run of a probe at a time: whoever asks meanwhile gets the same answer, so that nobody can multiply them. */
  readonly #running = new Map<AppProbe, Promise<ProbeAnswer>>()

  constructor(options: AppHealthOptions) {
    this.#options = options
  }

  /** @returns undefined when there is no such probe. Never rejects. */
  check(container: string, path: string): Promise<ProbeAnswer | undefined> {
    const ofContainer = Object.hasOwn(this.#options.probes, container) ? this.#options.probes[container] : undefined
    const probe = ofContainer && Object.hasOwn(ofContainer, path) ? ofContainer[path as ProbePath] : undefined
    if (!probe) return Promise.resolve(undefined)
    if (path === 'readyz' && this.#options.isDraining?.() === true) {
      return Promise.resolve({ status: 503, body: 'the sidecar is draining\n' })
    }
    const running = this.#running.get(probe)
    if (running) return running
    const run = this.#run(probe).finally(() => this.#running.delete(probe))
    this.#running.set(probe, run)
    return run
  }

  async #run(probe: AppProbe): Promise<ProbeAnswer> {
    const place = this.#placeOf(probe.port)
    try {
      const detail = await PROBERS[probe.kind](probe as never, place)
      return { status: 200, body: `${detail}\n` }
    } catch (error) {
      return { status: 503, body: `${(error as Error).message}\n` }
    }
  }

  #placeOf(port: ProbePort): Place {
    const { target } = this.#options
    if (port === 'upstream') {
      return target.kind === 'unix' ? { socketPath: target.path } : { host: target.host, port: target.port }
    }
    return { host: target.kind === 'tcp' ? target.host : '127.0.0.1', port }
  }
}

type Place = { readonly socketPath: string } | { readonly host: string; readonly port: number }
type Prober<Kind extends AppProbe['kind']> = (probe: Extract<AppProbe, { kind: Kind }>, place: Place) => Promise<string>

const PROBERS: { [Kind in AppProbe['kind']]: Prober<Kind> } = { http: probeHttp, tcp: probeTcp, grpc: probeGrpc }

/**
 * The kubelet counts the same seconds from its own side; answering a little earlier tells it why instead of leaving it
 * with a timeout.
 */
function deadline(timeoutMs: number): number {
  return Math.max(10, timeoutMs - Math.min(100, timeoutMs / 10))
}

function probeHttp(probe: Extract<AppProbe, { kind: 'http' }>, place: Place): Promise<string> {
  const headers: Record<string, string> = { 'User-Agent': 'mcp-sidecar/app-health', Accept: '*/*', Connection: 'close' }
  for (const [name, value] of probe.headers) {
    const known = Object.keys(headers).find(candidate => candidate.toLowerCase() === name.toLowerCase())
    headers[known ?? name] = value
  }
  return new Promise((resolve, reject) => {
    const options = { ...place, method: 'GET', path: probe.path, headers, agent: false as const }
    const request =
      probe.scheme === 'HTTPS' ? httpsRequest({ ...options, rejectUnauthorized: false }) : httpRequest(options)
    const timer = setTimeout(() => request.destroy(new Error('no answer in time')), deadline(probe.timeoutMs))
    request.on('response', response => {
      const status = response.statusCode ?? 0
      // The head says it all; the rest is not worth its memory.
      response.destroy()
      clearTimeout(timer)
      if (status >= 200 && status < 400) resolve(`HTTP ${status}`)
      else reject(new Error(`HTTP ${status}`))
    })
    request.on('error', error => {
      clearTimeout(timer)
      reject(new Error(words(error)))
    })
    request.end()
  })
}

function probeTcp(probe: Extract<AppProbe, { kind: 'tcp' }>, place: Place): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = open(place)
    const timer = setTimeout(() => socket.destroy(new Error('no connection in time')), deadline(probe.timeoutMs))
    socket.on('connect', () => {
      clearTimeout(timer)
      socket.destroy()
      resolve('connected')
    })
    socket.on('error', error => {
      clearTimeout(timer)
      reject(new Error(words(error)))
    })
  })
}

const SERVING = 1

function probeGrpc(probe: Extract<AppProbe, { kind: 'grpc' }>, place: Place): Promise<string> {
  return new Promise((resolve, reject) => {
    const session: ClientHttp2Session = http2Connect('http://localhost', {
      createConnection: () => open(place),
      settings: { enablePush: false },
    })
    const timer = setTimeout(() => end(new Error('no answer in time')), deadline(probe.timeoutMs))
    const end = (outcome: Error | string) => {
      clearTimeout(timer)
      session.destroy()
      if (typeof outcome === 'string') resolve(outcome)
      else reject(outcome)
    }
    session.on('error', error => end(new Error(words(error))))
    const call = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'mcp-sidecar/app-health',
    })
    let status: string | undefined
    const body: Buffer[] = []
    let size = 0
    call.on('response', headers => {
      status = headers['grpc-status']?.toString()
      if (headers[':status'] !== 200) end(new Error(`HTTP ${headers[':status']}`))
    })
    call.on('trailers', trailers => {
      status = trailers['grpc-status']?.toString() ?? status
    })
    call.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > 1024) end(new Error('the answer is no health check'))
      else body.push(chunk)
    })
    call.on('error', error => end(new Error(words(error))))
    call.on('end', () => {
      if (status !== undefined && status !== '0') return end(new Error(`gRPC status ${status}`))
      const served = readServingStatus(Buffer.concat(body))
      end(served === SERVING ? 'SERVING' : new Error(`not serving (status ${served ?? 'unreadable'})`))
    })
    call.end(healthRequest(probe.service))
  })
}

/** `HealthCheckRequest { string service = 1 }` in one gRPC frame: flag, length, message. */
function healthRequest(service: string): Buffer {
  const name = Buffer.from(service, 'utf8')
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name])
  const frame = Buffer.alloc(5)
  frame.writeUInt32BE(message.length, 1)
  return Buffer.concat([frame, message])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}

/** `HealthCheckResponse { ServingStatus status = 1 }`; an empty message is UNKNOWN (0). */
function readServingStatus(frame: Buffer): number | undefined {
  if (frame.length < 5 || frame[0] !== 0 || frame.readUInt32BE(1) !== frame.length - 5) return undefined
  if (frame.length === 5) return 0
  return frame[5] === 0x08 && frame.length >= 7 ? frame[6] : undefined
}

function open(place: Place): Socket {
  return 'socketPath' in place ? connect({ path: place.socketPath }) : connect({ host: place.host, port: place.port })
}

function words(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  switch (code) {
    case 'ECONNREFUSED':
      return 'the application does not listen (connection refused)'
    case 'ENOENT':
      return 'the application has not made its socket yet'
    case 'EACCES':
      return 'the application does not let us connect to its socket'
    case 'ECONNRESET':
      return 'the application closed the connection'
    default:
      return message
  }
}

import { once } from 'node:events'
import net from 'node:net'
import tls from 'node:tls'
import { USER_HEADERS } from './request.ts'
import type { RunningSidecar } from './sidecar.ts'

/** A TLS connection of the gateway on which a test writes what it likes. */
export interface RawPeer {
  readonly socket: tls.TLSSocket
  /** All bytes that came back so far. */
  received(): Buffer
  readonly closed: Promise<void>
}

export function rawPeer(
  running: Pick<RunningSidecar, 'port' | 'pki'>,
  alpn: 'http/1.1' | 'h2' = 'http/1.1',
  localAddress = '127.0.0.1',
  carrier?: net.Socket,
): Promise<RawPeer> {
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port: running.port,
      localAddress,
      servername: 'localhost',
      ca: running.pki.ca.cert,
      ALPNProtocols: [alpn],
      ...running.pki.gateway.tls,
      ...(carrier === undefined ? {} : { socket: carrier }),
    }
    const socket = tls.connect(options)
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.on('error', reject)
    const closed = new Promise<void>(done => socket.once('close', () => done()))
    socket.once('secureConnect', () => resolve({ socket, received: () => Buffer.concat(chunks), closed }))
  })
}

/** A connection of which nothing but the TCP handshake has been made. */
export async function tcpTo(running: Pick<RunningSidecar, 'port'>): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port: running.port })
  await once(socket, 'connect')
  return socket
}

/** The head of a request with a user, as text. */
export function requestHead(method: string, more: Record<string, string> = {}, path = '/mcp'): string {
  const headers = {
    Host: 'localhost',
    'Content-Type': 'application/json',
    Accept: 'application/json, text/event-stream',
    ...USER_HEADERS,
    ...more,
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`
}

/** RFC 9113 §6. */
export const Frame = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const Flag = { endStream: 1, ack: 1, endHeaders: 4 } as const

/** RFC 9113 §4.1. */
export function frame(type: number, flags: number, stream: number, payload: Buffer = EMPTY): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** What an HTTP/2 client sends first: the preface and its settings, as pairs of number and value. */
export function preface(settings: readonly (readonly [number, number])[] = []): Buffer {
  const payload = Buffer.alloc(settings.length * 6)
  for (const [i, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, i * 6)
    payload.writeUInt32BE(value, i * 6 + 2)
  }
  return Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(Frame.settings, 0, 0, payload)])
}

/** A header block without compression (RFC 7541 §6.2.2, no Huffman), lengths of less than 127 bytes. */
export function headerBlock(headers: Record<string, string>): Buffer {
  const parts: Buffer[] = []
  for (const [name, value] of Object.entries(headers)) {
    parts.push(Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value))
  }
  return Buffer.concat(parts)
}

/** Head of a POST to the MCP endpoint with a user. */
export function postHead(more: Record<string, string> = {}): Buffer {
  const user = Object.fromEntries(Object.entries(USER_HEADERS).map(([name, value]) => [name.toLowerCase(), value]))
  return headerBlock({
    ':method': 'POST',
    ':scheme': 'https',
    ':authority': 'localhost',
    ':path': '/mcp',
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...user,
    ...more,
  })
}

/** The frames in these bytes. */
export function framesOf(bytes: Buffer): { type: number; flags: number; stream: number; payload: Buffer }[] {
  const frames: { type: number; flags: number; stream: number; payload: Buffer }[] = []
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3)
    const payload = bytes.subarray(at + 9, at + 9 + length)
    frames.push({ type: bytes[at + 3] ?? 0, flags: bytes[at + 4] ?? 0, stream: bytes.readUInt32BE(at + 5), payload })
    at += 9 + length
  }
  return frames
}

const EMPTY = Buffer.alloc(0)

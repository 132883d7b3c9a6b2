import net from 'node:net'
import tls from 'node:tls'

/** Whom the attackers attack. */
export interface Target {
  readonly port: number
  readonly ca: string
  readonly gateway: { readonly cert: string; readonly key: string }
  readonly stranger: { readonly cert: string; readonly key: string }
}

/** Attackers come from a few addresses, none of them the honest callers'. */
function addressOf(i: number): string {
  return `127.0.1.${1 + (i % 8)}`
}

export function plainFrom(target: Target, i: number): net.Socket {
  const socket = net.connect({ port: target.port, host: '127.0.0.1', localAddress: addressOf(i) })
  return socket.on('error', () => {})
}

export function connectFrom(
  target: Target,
  i: number,
  ALPNProtocols: string[],
  secrets: { cert?: string; key?: string } = target.gateway,
): tls.TLSSocket {
  const socket = tls.connect({
    socket: plainFrom(target, i),
    servername: 'localhost',
    ca: target.ca,
    ALPNProtocols,
    ...secrets,
  })
  socket.on('error', () => {})
  socket.on('data', () => {})
  return socket
}

export function opened(socket: tls.TLSSocket): Promise<void> {
  return new Promise(resolve => {
    socket.once('secureConnect', () => resolve())
    socket.once('close', () => resolve())
  })
}

/** Waits until the other side has closed, but not for ever. */
export async function closed(socket: net.Socket, withinMs: number): Promise<void> {
  if (!socket.destroyed) {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, withinMs)
      socket.once('close', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
  socket.destroy()
}

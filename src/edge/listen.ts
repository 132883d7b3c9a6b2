import type { AddressInfo, Server } from 'node:net'
import type { SocketAddress } from '../config/config.ts'

/** An address that cannot be listened on, in words for whoever has configured it. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
}

/**
 * @param setting  Where the address comes from: `listen.address`.
 * @returns the port that is listened on; rejects with `ListenError`.
 */
export function listenOn(server: Server, { host, port }: SocketAddress, setting: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void => {
      const why = WHY[error.code ?? ''] ?? error.message
      reject(new ListenError(`${setting}: cannot listen on ${host}:${port}: ${why}`, { cause: error }))
    }
    server.once('error', fail)
    server.listen(port, host, () => {
      server.off('error', fail)
      resolve((server.address() as AddressInfo).port)
    })
  })
}

const WHY: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else in this pod or on this machine listens there (EADDRINUSE)',
  EADDRNOTAVAIL: 'this pod or machine has no such address (EADDRNOTAVAIL)',
  EACCES: 'ports below 1024 need the capability NET_BIND_SERVICE (EACCES)',
}

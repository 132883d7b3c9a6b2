import { type ChildProcess, spawn } from 'node:child_process'
import net from 'node:net'
import { join } from 'node:path'
import { eventually } from '../../test/support/eventually.ts'

/** The misbehaving server as a process that can be killed, frozen and started again on the same port. */
export class MisbehavingServer {
  readonly url: string
  readonly #port: number
  readonly #seenFile: string
  child!: ChildProcess

  constructor(port: number, seenFile: string) {
    this.#port = port
    this.#seenFile = seenFile
    this.url = `http://127.0.0.1:${port}`
  }

  async start(): Promise<void> {
    const program = join(import.meta.dirname, 'upstream.ts')
    this.child = spawn(process.execPath, [program, String(this.#port), this.#seenFile], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    await eventually(() => this.#accepts())
  }

  kill(): void {
    this.child.kill('SIGKILL')
  }

  #accepts(): Promise<boolean> {
    return new Promise(resolve => {
      const socket = net.connect(this.#port, '127.0.0.1')
      const done = (up: boolean): void => {
        socket.destroy()
        resolve(up)
      }
      socket.once('connect', () => done(true))
      socket.once('error', () => done(false))
    })
  }
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BINARY = process.env['REDIS_SERVER'] ?? '/usr/bin/redis-server'

/** Whether a real Redis can be started here. */
export const hasRedis = existsSync(BINARY)

/** What a test that needs Redis says when it is skipped. */
export const redisTitle = (title: string): string =>
  hasRedis ? title : `${title} (skipped: there is no ${BINARY}; install redis-server or set REDIS_SERVER)`

/** A Redis of its own on a free port of loopback, without persistence. */
export interface TestRedis {
  readonly port: number
  readonly url: string
  /** Starts it again on the same port, empty, after `kill`. */
  start(): Promise<void>
  kill(): Promise<void>
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void
  /** Sends one command as it would be typed and returns the raw reply. */
  command(...words: string[]): Promise<string>
  close(): Promise<void>
}

export async function startRedis(...options: string[]): Promise<TestRedis> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'mcp-sidecar-redis-'))
  let child: ChildProcess | undefined
  const redis: TestRedis = {
    port,
    url: `redis://127.0.0.1:${port}`,
    async start() {
      child = spawn(
        BINARY,
        [
          '--port',
          `${port}`,
          '--bind',
          '127.0.0.1',
          '--save',
          '',
          '--appendonly',
          'no',
          '--dir',
          directory,
          ...options,
        ],
        { stdio: 'ignore' },
      )
      for (let tries = 0; tries < 200; tries++) {
        if (
          await redis.command('PING').then(
            reply => /PONG|NOAUTH/.test(reply),
            () => false,
          )
        )
          return
        await new Promise(resolve => setTimeout(resolve, 20))
      }
      throw new Error('redis-server did not start')
    },
    async kill() {
      const running = child
      if (running === undefined || running.exitCode !== null || running.signalCode !== null) return
      const gone = new Promise(resolve => running.once('exit', resolve))
      running.kill('SIGKILL')
      await gone
    },
    signal(signal) {
      child?.kill(signal)
    },
    command: (...words) => exchange(port, `*${words.length}\r\n${words.map(bulk).join('')}`),
    async close() {
      await redis.kill()
      rmSync(directory, { recursive: true, force: true })
    },
  }
  await redis.start()
  return redis
}

const bulk = (word: string): string => `$${Buffer.byteLength(word)}\r\n${word}\r\n`

function exchange(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, '127.0.0.1', () => socket.write(text))
    socket.once('data', data => {
      socket.destroy()
      resolve(data.toString())
    })
    socket.once('error', reject)
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

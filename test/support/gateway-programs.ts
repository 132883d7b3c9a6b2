import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { temporaryFolder } from './pki.ts'
import { programPath } from './programs.ts'

/** A gateway that runs, in front of the sidecar or as the end of TLS by itself. */
export interface GatewayProgram {
  readonly port: number
  /** What it has complained of. */
  readonly log: string[]
  stop(): Promise<void>
}

/** @param server  What stands inside `http { }`, given the port to listen on. */
export async function startNginx(server: (port: number) => string): Promise<GatewayProgram> {
  const dir = temporaryFolder('mcp-sidecar-nginx-')
  const port = await freePort()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${join(dir, name)};`,
  )
  const file = join(dir, 'nginx.conf')
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${join(dir, 'pid')}; error_log stderr warn;
events { worker_connections 256; }
http { access_log off; ${temporary.join(' ')}
${server(port)}
}
`,
  )
  return run('nginx', ['-p', dir, '-c', file, '-e', 'stderr'], port)
}

/** @param sections  Frontends and backends, given the port to listen on. */
export async function startHaproxy(sections: (port: number) => string): Promise<GatewayProgram> {
  const dir = temporaryFolder('mcp-sidecar-haproxy-')
  const port = await freePort()
  const file = join(dir, 'haproxy.cfg')
  writeFileSync(
    file,
    `global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
${sections(port)}
`,
  )
  return run('haproxy', ['-db', '-f', file], port)
}

/** @returns the body, then the status and the HTTP version in a last line: `200 2`. */
export function curl(args: readonly string[]): Promise<{ body: string; status: string; code: number }> {
  return new Promise(resolve => {
    const all = [
      '--silent',
      '--show-error',
      '--max-time',
      '15',
      '--write-out',
      '\n%{http_code} %{http_version}',
      ...args,
    ]
    execFile(programPath('curl') ?? '', all, (error, stdout, stderr) => {
      const at = stdout.lastIndexOf('\n')
      const code = error === null ? 0 : Number(error.code)
      resolve({ body: at < 0 ? stderr : stdout.slice(0, at), status: stdout.slice(at + 1), code })
    })
  })
}

export interface PlainAnswer {
  readonly status: number
  readonly text: string
}

/** One plain request to a gateway, as its own clients send it. */
export function ask(port: number, body: string, headers: Record<string, string> = {}): Promise<PlainAnswer> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: '127.0.0.1', port, method: 'POST', path: '/mcp', agent: false, headers: { ...PLAIN, ...headers } },
      response => {
        let text = ''
        response.on('data', chunk => (text += String(chunk)))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

export interface PlainStream {
  text(): string
  readonly ended: Promise<void>
  leave(): void
}

/** The same, resolved at the head of the answer. */
export function askForStream(port: number, body: string, headers: Record<string, string> = {}): Promise<PlainStream> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: '127.0.0.1', port, method: 'POST', path: '/mcp', agent: false, headers: { ...PLAIN, ...headers } },
      response => {
        let text = ''
        response.on('data', chunk => (text += String(chunk)))
        response.on('error', () => {})
        const ended = new Promise<void>(done => response.on('close', () => done()))
        resolve({ text: () => text, ended, leave: () => request.destroy() })
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

const PLAIN = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }

async function run(program: 'nginx' | 'haproxy', args: string[], port: number): Promise<GatewayProgram> {
  const log: string[] = []
  const child = spawn(programPath(program) ?? '', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => log.push(String(chunk)))
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`${program} has ended: ${log.join('')}`)
    return accepts(port)
  }, 10_000)
  return { port, log, stop: () => end(child, exited) }
}

async function end(child: ChildProcess, exited: Promise<void>): Promise<void> {
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 2000)
  await exited
  clearTimeout(timer)
}

function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

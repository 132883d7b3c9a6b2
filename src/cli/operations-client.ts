import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { readSource } from '../config/source.ts'
import type { JsonObject, JsonValue } from '../core/json.ts'
import { CliError, type CliIo } from './io.ts'

export interface SocketFlags {
  socket?: string
  config?: string
}

const DEFAULT_SOCKET = '/run/mcp-sidecar/ops.sock'
const ANSWER_MS = 10_000
const MAX_ANSWER_BYTES = 16 * 1024 * 1024

/** Adds the options that say where the running sidecar is. */
export function addSocketOptions(command: Command): Command {
  return command
    .option('-s, --socket <path>', `operations socket of the sidecar (default: as configured, else ${DEFAULT_SOCKET})`)
    .option('-c, --config <file>', 'configuration file that names the socket (or MCP_SIDECAR_CONFIG)')
}

/**
 * Asks the running sidecar over its operations socket.
 *
 * @throws CliError  With the reason in words when nobody is there, access is denied or the answer is an error.
 */
export async function callOperations(
  flags: SocketFlags,
  io: Pick<CliIo, 'env' | 'cwd'>,
  method: 'GET' | 'POST',
  path: string,
): Promise<JsonValue> {
  const { status, body } = await askOperations(socketPath(flags, io), method, path)
  if (status < 300) return body
  const error = (body as JsonObject | null)?.['error']
  throw new CliError(1, `the sidecar answered ${status}${typeof error === 'string' ? `: ${error}` : ''}`)
}

/** The same for those who tell statuses apart. */
export function askOperations(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
): Promise<{ status: number; body: JsonValue }> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new CliError(1, why))
    const headers = { host: 'operations', connection: 'close' }
    const call = request({ socketPath, method, path, headers, timeout: ANSWER_MS }, answer => {
      const chunks: Buffer[] = []
      let bytes = 0
      answer.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > MAX_ANSWER_BYTES) return void call.destroy(new Error('an endless answer'))
        chunks.push(chunk)
      })
      answer.on('error', error => fail(`${socketPath}: ${error.message}`))
      answer.on('end', () => {
        try {
          const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as JsonValue
          resolve({ status: answer.statusCode ?? 0, body })
        } catch {
          fail(`${socketPath}: what answers there is not a sidecar`)
        }
      })
    })
    call.on('timeout', () => call.destroy(new Error(`no answer in ${ANSWER_MS / 1000} s`)))
    call.on('error', (error: NodeJS.ErrnoException) => fail(`${socketPath}: ${inWords(error)}`))
    call.end()
  })
}

/** Where the socket is: as said, else as the configuration says, else where it is by default. */
export function socketPath(flags: SocketFlags, io: Pick<CliIo, 'env' | 'cwd'>): string {
  if (flags.socket !== undefined) return resolve(io.cwd, flags.socket)
  const file = flags.config ?? io.env['MCP_SIDECAR_CONFIG']
  if (!file) return DEFAULT_SOCKET
  const path = resolve(io.cwd, file)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new CliError(1, `${path}: the file cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  // Not validated: the file may be broken by now, and it is the running sidecar that was asked for.
  const admin = (readSource(text, path, io.env).value as JsonObject | null)?.['admin'] as JsonObject | undefined
  const operations = admin?.['operations']
  if (operations === 'off') throw new CliError(1, 'admin.operations is off, so there is no socket to ask')
  return typeof operations === 'string' ? operations.replace(/^unix:/, '') : DEFAULT_SOCKET
}

function inWords(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return 'there is no such socket; is the sidecar running, and is this its container?'
    case 'ECONNREFUSED':
      return 'nobody serves this socket; the sidecar that made it is gone'
    case 'EACCES':
    case 'EPERM':
      return 'access denied; the socket belongs to the user that the sidecar runs as'
    default:
      return error.message
  }
}

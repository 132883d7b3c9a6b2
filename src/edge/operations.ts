import { mkdtempSync, rmdirSync, statSync } from 'node:fs'
import { chmod, rename, unlink } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import type { JsonValue } from '../core/json.ts'
import { json, type PlainAnswer, type PlainHandler, type PlainRequest, plainListener } from './plain-http.ts'

/** What the operations socket can ask of the sidecar; `sidecar.ts` hands these in. */
export interface OperationsHandlers {
  /** Begins to drain and returns at once; the process stays until SIGTERM. */
  drain(): void
  /** Reads everything again that can be reloaded, and says of each what came of it. */
  reload(): Promise<readonly ReloadOutcome[]>
  /** The configuration in force, as `describeConfig` tells it. */
  config(): JsonValue | Promise<JsonValue>
  /** What each quota that concerns this caller holds. */
  explainQuotas(query: QuotaQuery): JsonValue | Promise<JsonValue>
  health(): { readonly ok: boolean; readonly checks: JsonValue }
}

export interface ReloadOutcome {
  readonly what: string
  /** `kept`: what was there before still serves, because of the problems. */
  readonly result: 'loaded' | 'kept' | 'unchanged'
  readonly generation: number
  readonly problems: readonly string[]
  /** Settings that the file has otherwise than they are in force; they take effect at the next start. */
  readonly waiting: readonly string[]
}

export interface QuotaQuery {
  readonly user: string
  readonly org: string | undefined
  readonly tool: string | undefined
  readonly peer: string | undefined
  readonly session: string | undefined
}

/**
 * HTTP on a unix socket that only its owner may open (mode 0600): drain, reload and explain. It is no TCP port because
 * every container of a pod shares the pod's loopback, and none but the sidecar's own may stop it.
 */
export class OperationsServer {
  readonly #path: string
  readonly #server: Server
  #inode: bigint | undefined

  constructor(path: string, handlers: OperationsHandlers) {
    this.#path = path
    this.#server = createServer(
      plainListener(operationsHandler(handlers), error => json({ error: error.message }, 500)),
    )
    this.#server.maxConnections = 32
    this.#server.requestTimeout = 10_000
  }

  /** Rejects when the folder is not there or another process answers on the socket. */
  async start(): Promise<void> {
    if (await isAnswering(this.#path)) throw new Error(`another process serves ${this.#path}`)
    // Bound in a folder that nobody else may enter and moved when its mode is right, so that there is no moment in
    // which the socket is open to others. The move also replaces a socket that a killed process has left behind.
    const folder = mkdtempSync(join(dirname(this.#path), '.ops-'))
    const socket = join(folder, 's')
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject)
        this.#server.listen(socket, () => {
          this.#server.off('error', reject)
          resolve()
        })
      })
      await chmod(socket, 0o600)
      this.#inode = statSync(socket, { bigint: true }).ino
      await rename(socket, this.#path)
    } catch (error) {
      this.#server.close()
      throw error
    } finally {
      await unlink(socket).catch(() => undefined)
      rmdirSync(folder)
    }
  }

  /** Takes the socket away, unless it is a newer process's by now, and ends what is connected. */
  async stop(): Promise<void> {
    const inode = statSync(this.#path, { bigint: true, throwIfNoEntry: false })?.ino
    if (inode !== undefined && inode === this.#inode) await unlink(this.#path).catch(() => undefined)
    await new Promise<void>(resolve => {
      this.#server.close(() => resolve())
      this.#server.closeAllConnections()
    })
  }
}

function operationsHandler(handlers: OperationsHandlers): PlainHandler {
  const operations = new Map<string, { method: string; answer: PlainHandler }>([
    ['/drain', { method: 'POST', answer: () => drainAnswer(handlers) }],
    ['/reload', { method: 'POST', answer: async () => json({ outcomes: await handlers.reload() }) }],
    ['/config', { method: 'GET', answer: async () => json(await handlers.config()) }],
    ['/quotas/explain', { method: 'GET', answer: request => explainAnswer(handlers, request) }],
    ['/health', { method: 'GET', answer: () => healthAnswer(handlers.health()) }],
  ])
  return request => {
    const operation = operations.get(request.path)
    if (operation === undefined) return json({ error: `there is no ${request.path}` }, 404)
    const { method, answer } = operation
    if (request.method === method) return answer(request)
    return json({ error: `${request.method} is not allowed` }, 405, { Allow: method })
  }
}

function drainAnswer(handlers: OperationsHandlers): PlainAnswer {
  handlers.drain()
  return json({ draining: true }, 202)
}

function healthAnswer({ ok, checks }: ReturnType<OperationsHandlers['health']>): PlainAnswer {
  return json({ ok, checks }, ok ? 200 : 503)
}

async function explainAnswer(handlers: OperationsHandlers, { query }: PlainRequest): Promise<PlainAnswer> {
  const user = query.get('user')
  if (!user) return json({ error: 'user is needed' }, 400)
  const of = (name: string): string | undefined => query.get(name) ?? undefined
  const [org, tool, peer, session] = [of('org'), of('tool'), of('peer'), of('session')]
  return json(await handlers.explainQuotas({ user, org, tool, peer, session }))
}

function isAnswering(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

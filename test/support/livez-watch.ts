import http from 'node:http'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export interface LivezTimes {
  /** ms. */
  readonly median: number
  readonly most: number
  readonly asked: number
  /** Answers other than 200. */
  readonly failures: readonly string[]
}

/**
 * Asks `/livez` every 10 ms, from a thread of its own: in the thread that makes the load, how long an answer takes would
 * be how busy that thread is.
 *
 * @param admin  Such as `http://127.0.0.1:9090`.
 * @returns      Stops, and says how long the answers took.
 */
export async function watchLivez(admin: string): Promise<() => Promise<LivezTimes>> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { admin } })
  await new Promise((resolve, reject) => worker.once('online', resolve).once('error', reject))
  return () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
      worker.postMessage('stop')
    })
}

if (!isMainThread && parentPort !== null && (workerData as { admin?: string } | null)?.admin !== undefined) {
  const port = parentPort
  const { admin } = workerData as { admin: string }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const times: number[] = []
  const failures: string[] = []
  let isOver = false
  port.once('message', () => {
    isOver = true
  })
  while (!isOver) {
    const from = performance.now()
    const ended = await ask(`${admin}/livez`, agent)
    if (ended !== '200') failures.push(ended)
    times.push(performance.now() - from)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
  agent.destroy()
  times.sort((a, b) => a - b)
  port.postMessage({ median: times[times.length >> 1] ?? 0, most: times.at(-1) ?? 0, asked: times.length, failures })
}

function ask(url: string, agent: http.Agent): Promise<string> {
  return new Promise(resolve => {
    http
      .get(url, { agent }, response => {
        response.resume()
        response.on('end', () => resolve(String(response.statusCode)))
      })
      .on('error', error => resolve(error.message))
  })
}

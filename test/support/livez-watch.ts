import http from 'node:http'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads'

export interface LivezTimes {
  /** ms. */
  readonly median: number
  readonly most: number
  readonly asked: number
  /** What was not answered with 200, before something that was. */
  readonly failures: readonly string[]
}

/**
 * Asks `/livez` again and again on one connection, from a thread of its own: in the thread that makes the load, how long
 * an answer takes would be how busy that thread is. It has asked a few times before it begins to measure, for a thread's
 * first question takes its code to be loaded and its connection to be made: 15 to 43 ms beside a load, next to 1 to 6.
 *
 * @param admin    Such as `http://127.0.0.1:9090`.
 * @param pauseMs  Between an answer and the next question.
 * @returns        Stops, at the first call, and says how long the answers took.
 */
export async function watchLivez(admin: string, pauseMs = 10): Promise<() => Promise<LivezTimes>> {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { admin, pauseMs } })
  const message = <T>() => new Promise<T>((resolve, reject) => worker.once('message', resolve).once('error', reject))
  await message<'asking'>()
  const times = message<LivezTimes>()
  return () => {
    worker.postMessage('stop')
    return times
  }
}

const WARM_UP = 10

if (!isMainThread && parentPort !== null && (workerData as { admin?: string } | null)?.admin !== undefined) {
  await ask(parentPort, workerData as { admin: string; pauseMs: number })
}

async function ask(port: MessagePort, { admin, pauseMs }: { admin: string; pauseMs: number }): Promise<void> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const times: number[] = []
  const failures: string[] = []
  let pending: string[] = []
  let isOver = false
  port.once('message', () => {
    isOver = true
  })
  for (let i = 0; i < WARM_UP; i++) await once(`${admin}/livez`, agent)
  port.postMessage('asking')
  while (!isOver) {
    const from = performance.now()
    const ended = await once(`${admin}/livez`, agent)
    // What fails last is the end of the process; only what is followed by an answer was a gap.
    if (ended !== '200') pending.push(ended)
    else {
      failures.push(...pending)
      pending = []
      times.push(performance.now() - from)
    }
    await new Promise(resolve => setTimeout(resolve, pauseMs))
  }
  agent.destroy()
  times.sort((a, b) => a - b)
  port.postMessage({ median: times[times.length >> 1] ?? 0, most: times.at(-1) ?? 0, asked: times.length, failures })
}

function once(url: string, agent: http.Agent): Promise<string> {
  return new Promise(resolve => {
    const request = http
      .get(url, { agent, timeout: 5000 }, response => {
        response.resume()
        response.on('close', () => resolve(String(response.statusCode)))
      })
      .on('timeout', () => request.destroy(new Error('no answer in 5 s')))
      .on('error', error => {
        // A kept connection that was closed for its idleness just as it was used again says nothing; a new one does.
        if (request.reusedSocket && (error as NodeJS.ErrnoException).code === 'ECONNRESET') resolve(once(url, agent))
        else resolve(error.message)
      })
  })
}

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** What a process holds at one moment. */
export interface Held {
  readonly anonMiB: number
  readonly files: number
  readonly sockets: number
  readonly watches: number
}

export function heldBy(pid: number): Held {
  const proc = `/proc/${pid}`
  const held = { files: 0, sockets: 0, watches: 0 }
  for (const fd of readdirSync(`${proc}/fd`)) {
    const target = tryRead(() => readlinkSync(`${proc}/fd/${fd}`))
    held.files += 1
    if (target.startsWith('socket:')) held.sockets += 1
    if (target.includes('inotify')) {
      held.watches += tryRead(() => readFileSync(`${proc}/fdinfo/${fd}`, 'utf8')).split('\ninotify ').length - 1
    }
  }
  const anon = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`${proc}/status`, 'utf8'))
  return { ...held, anonMiB: Number(anon?.[1] ?? 0) / 1024 }
}

function tryRead(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}

/** One series of the metrics, without labels or with any. */
export async function metric(admin: string, name: string): Promise<number> {
  const page = await (await fetch(`${admin}/metrics`)).text()
  let sum = Number.NaN
  for (const [, value] of page.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, 'gm'))) {
    sum = (Number.isNaN(sum) ? 0 : sum) + Number(value)
  }
  return sum
}

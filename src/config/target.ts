import type { UpstreamConfig } from './config.ts'

/** Reads `upstream.url`: `http://host[:port]` or `unix:/path`; undefined when it is neither. */
export function readTarget(url: string): UpstreamConfig['target'] | undefined {
  if (url.startsWith('unix:')) {
    const path = url.slice('unix:'.length)
    return path.startsWith('/') && path.length > 1 && Buffer.byteLength(path) <= 107
      ? { kind: 'unix', path }
      : undefined
  }
  const match = /^http:\/\/(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::(\d{1,5}))?\/?$/.exec(url)
  const port = Number(match?.[3] ?? 80)
  if (!match || port < 1 || port > 65_535) return undefined
  return { kind: 'tcp', host: match[1] ?? match[2] ?? '', port }
}

/** Whether a host is this machine and nothing else, by its spelling: no name is looked up but `localhost`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/.test(host)
}

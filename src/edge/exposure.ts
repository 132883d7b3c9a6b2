import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { UpstreamConfig } from '../config/config.ts'

/** Where the upstream can be reached around the sidecar. */
export interface Exposure {
  readonly address: string
  readonly port: number
}

/**
 * Tries to reach the upstream's port on addresses that others can reach too. An MCP server that listens on all
 * addresses serves everybody in the cluster without certificate, policy and audit, so `check --pod` and the metric
 * `mcp_sidecar_upstream_exposed` ask. A unix socket cannot be reached from outside.
 *
 * @param addresses  Addresses of this pod, from `podAddresses`.
 * @returns          Those on which somebody answers; an answer that takes longer than `timeoutMs` counts as none.
 */
export async function probeExposure(
  target: UpstreamConfig['target'],
  addresses: readonly string[],
  timeoutMs: number,
): Promise<Exposure[]> {
  if (target.kind === 'unix') return []
  const { port } = target
  const found = await Promise.all(addresses.map(address => isOpen(address, port, timeoutMs)))
  return addresses.filter((_, index) => found[index]).map(address => ({ address, port }))
}

/**
 * The addresses of this machine or pod that are not loopback. Link-local IPv6 addresses carry their zone.
 *
 * @param podIps  Those that Kubernetes gives the pod, with commas between; taken instead when there are any.
 */
export function podAddresses(podIps = ''): string[] {
  const given = podIps.split(',').filter(address => address !== '')
  if (given.length > 0) return given
  return Object.entries(networkInterfaces()).flatMap(([name, entries]) =>
    (entries ?? [])
      .filter(({ internal }) => !internal)
      .map(({ address }) => (address.startsWith('fe80:') ? `${address}%${name}` : address)),
  )
}

function isOpen(host: string, port: number, timeoutMs: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host, port })
    const settle = (isReached: boolean) => {
      socket.destroy()
      resolve(isReached)
    }
    socket.setTimeout(timeoutMs, () => settle(false))
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
  })
}

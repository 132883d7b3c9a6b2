import type { JsonObject } from '../json.ts'
import type { Report } from './obstacles.ts'
import { ANNOTATION_PREFIX, type InjectOptions } from './options.ts'
import { objectAt, objectsAt, own, textAt } from './tree.ts'

/** The container that the MCP server runs in, and its port. */
export interface Server {
  readonly container: JsonObject
  readonly port: number
}

/**
 * Finds the MCP server among the containers of a pod: by what was said, else by the one port that it can only be. What
 * would let callers reach it past the sidecar is a problem.
 */
export function findServer(spec: JsonObject, options: InjectOptions, report: Report): Server | undefined {
  const containers = objectsAt(spec, 'containers')
  const { upstreamContainer, upstreamPort } = options
  let candidates = containers
  if (upstreamContainer !== undefined) {
    candidates = containers.filter(container => own(container, 'name') === upstreamContainer)
    if (candidates.length === 0) {
      report.problem(['spec', 'containers'], `there is no container named ${upstreamContainer}`)
      return undefined
    }
  }
  if (containers.length === 0) {
    report.problem(['spec', 'containers'], 'there is no container')
    return undefined
  }
  const found =
    upstreamPort === undefined
      ? onlyPort(candidates)
      : { port: upstreamPort, container: holderOf(candidates, upstreamPort) }
  if (!found) {
    report.problem(
      ['spec', 'containers'],
      `which port does the MCP server listen on? Name one container port "mcp", or give --upstream-port or ${ANNOTATION_PREFIX}upstream-port`,
    )
    return undefined
  }
  if (!found.container) {
    report.problem(
      ['spec', 'containers'],
      `which container is the MCP server? None declares port ${found.port}; give --upstream-container or ${ANNOTATION_PREFIX}upstream-container`,
    )
    return undefined
  }
  const name = textAt(found.container, 'name') ?? ''
  if (found.port === options.listenPort || found.port === options.adminPort) {
    report.problem(
      ['spec', 'containers', name, 'ports'],
      `the server's port ${found.port} is one that the sidecar listens on; give the sidecar another with ${ANNOTATION_PREFIX}listen-port or admin-port`,
    )
  }
  const declared = objectsAt(found.container, 'ports').find(port => own(port, 'containerPort') === found.port)
  if (declared && own(declared, 'hostPort') !== undefined) {
    report.problem(
      ['spec', 'containers', name, 'ports'],
      `hostPort opens the server's port ${found.port} on the node, past the sidecar`,
    )
  }
  const postStart = objectAt(objectAt(found.container, 'lifecycle') ?? {}, 'postStart')
  const told = options.listenEnv ?? options.socketEnv
  if (told !== undefined && postStart && (objectAt(postStart, 'httpGet') || objectAt(postStart, 'tcpSocket'))) {
    report.problem(
      ['spec', 'containers', name, 'lifecycle', 'postStart'],
      "calls the server on the pod's own address, where it will not listen any more; use exec",
    )
  }
  if (told !== undefined && objectsAt(found.container, 'env').filter(entry => own(entry, 'name') === told).length > 1) {
    report.problem(['spec', 'containers', name, 'env'], `${told} is set twice`)
  }
  return { container: found.container, port: found.port }
}

/** The one TCP port among these containers that can only be the server's: the one named mcp, or the only one. */
function onlyPort(containers: readonly JsonObject[]): Server | undefined {
  const all: { container: JsonObject; port: number; name: string | undefined }[] = []
  for (const container of containers) {
    for (const port of objectsAt(container, 'ports')) {
      const number = own(port, 'containerPort')
      if (typeof number !== 'number' || (textAt(port, 'protocol') ?? 'TCP') !== 'TCP') continue
      all.push({ container, port: number, name: textAt(port, 'name') })
    }
  }
  const named = all.filter(candidate => candidate.name === 'mcp')
  if (named.length === 1) return named[0]
  return all.length === 1 ? all[0] : undefined
}

function holderOf(containers: readonly JsonObject[], port: number): JsonObject | undefined {
  const holders = containers.filter(container =>
    objectsAt(container, 'ports').some(entry => own(entry, 'containerPort') === port),
  )
  if (holders.length > 0) return holders[0]
  return containers.length === 1 ? containers[0] : undefined
}

import { isIP, isIPv6 } from 'node:net'
import { ownText } from '../own-text.ts'

/** Which Host and Origin values are served. Immutable but for what it remembers. */
export interface HostRules {
  /** @param host  The Host header as it came; undefined when there was none. */
  acceptsHost(host: string | undefined): boolean
  /** @param origin  The Origin header as it came; a request without one is no browser's and always accepted. */
  acceptsOrigin(origin: string | undefined): boolean
}

/** Names in the server certificate, as they are written there. */
export interface CertificateNames {
  readonly dns: readonly string[]
}

/**
 * Compiles what `listen.hosts` and `listen.origins` say and what goes without saying: the server certificate's names,
 * the short forms of a service among them (`svc`, `svc.ns`, `svc.ns.svc`), IP addresses, and the host of
 * `identity.resource`.
 *
 * Names are compared without their port, in lower case, and without the dot at their end. An IP address is always
 * accepted: a page that rebinds a name to the sidecar's address still sends that name.
 *
 * @param hosts  `*.example.org` accepts one label more, `*` everything.
 */
export function compileHosts(
  listen: { readonly hosts: readonly string[]; readonly origins: readonly string[] },
  certificate: CertificateNames,
  resource: string | undefined,
): HostRules {
  const exact = new Set<string>()
  const wildcards = new Set<string>()
  let any = false
  const add = (written: string): void => {
    if (written === '*') any = true
    else if (written.startsWith('*.')) wildcards.add(normalName(written.slice(2)) ?? '')
    else exact.add(hostName(written) ?? '')
  }
  for (const name of listen.hosts) add(name)
  for (const name of certificate.dns) for (const form of serviceForms(name.toLowerCase())) add(form)
  if (resource !== undefined) add(new URL(resource).host)
  exact.delete('')
  wildcards.delete('')

  const judge = (host: string): boolean => {
    const name = hostName(host)
    if (name === undefined) return false
    if (any || exact.has(name) || isIP(name) !== 0) return true
    const dot = name.indexOf('.')
    return dot > 0 && wildcards.has(name.slice(dot + 1))
  }
  let remembered = new Map<string, boolean>()
  const origins = new Set(listen.origins.map(normalOrigin))
  const anyOrigin = listen.origins.includes('*')

  return {
    acceptsHost(host) {
      if (host === undefined) return false
      const before = remembered.get(host)
      if (before !== undefined) return before
      const accepted = judge(host)
      if (remembered.size >= MOST_REMEMBERED) remembered = new Map()
      if (host.length <= LONGEST_NAME) remembered.set(ownText(host), accepted)
      return accepted
    },
    acceptsOrigin: origin => origin === undefined || anyOrigin || origins.has(normalOrigin(origin)),
  }
}

const MOST_REMEMBERED = 256
const LONGEST_NAME = 262

/**
 * The host of `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`, in lower case and without a dot at its end; IPv6
 * without brackets. Undefined when it is none of these. Underscores are let in: nginx sends the names of its upstreams.
 */
function hostName(host: string): string | undefined {
  if (host.startsWith('[')) {
    const end = host.indexOf(']')
    const address = host.slice(1, end)
    return end > 0 && isIPv6(address) && PORT.test(host.slice(end + 1)) ? address.toLowerCase() : undefined
  }
  const colon = host.indexOf(':')
  if (colon < 0) return normalName(host)
  return PORT.test(host.slice(colon)) ? normalName(host.slice(0, colon)) : undefined
}

function normalName(name: string): string | undefined {
  const lower = name.toLowerCase()
  const bare = lower.endsWith('.') ? lower.slice(0, -1) : lower
  return NAME.test(bare) ? bare : undefined
}

const PORT = /^(?::[0-9]{1,5})?$/
const NAME = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*$/

/**
 * `svc.ns.svc.cluster.local` is also reached as `svc.ns.svc`, `svc.ns` and `svc`, and certificates often hold only
 * one of them. @source Kubernetes, DNS for Services and Pods
 */
function serviceForms(name: string): string[] {
  const labels = name.split('.')
  if (labels[2] !== 'svc' || name.startsWith('*')) return [name]
  const [service, namespace] = labels
  return [name, `${service}.${namespace}.svc`, `${service}.${namespace}`, service as string]
}

/** Scheme and host in lower case, without the scheme's own port. @source RFC 6454 §6.2 */
function normalOrigin(origin: string): string {
  const lower = origin.toLowerCase()
  if (lower.startsWith('https://')) return lower.replace(/:443$/, '')
  if (lower.startsWith('http://')) return lower.replace(/:80$/, '')
  return lower
}

import type { TlsConfig } from '../../config/config.ts'
import type { Result } from '../result.ts'
import { label } from './authorities.ts'
import type { TrustBundle } from './bundle.ts'
import type { TrustProblem, TrustSetting, TrustWarning } from './problem.ts'

/** What a file is like besides its content. */
export interface TrustFileFacts {
  readonly setting: TrustSetting
  readonly path: string
  /** Permission bits of the file that the path leads to; undefined when it does not exist. */
  readonly mode: number | undefined
  /** The path is a mount point itself: a `subPath` mount, which the kubelet never updates. */
  readonly isMountPoint: boolean
}

/** What `mcp-sidecar check` says about certificates: each line one finding, ready to print. */
export interface TrustExplanation {
  readonly problems: readonly string[]
  readonly warnings: readonly string[]
  /** What is there when nothing is wrong: our certificate, the CAs, the lists. */
  readonly facts: readonly string[]
}

/**
 * Explains a set of certificates in words: which file, which certificate, what is wrong and since when.
 *
 * @param bundle  What `readTrustBundle` made of the files, or its problems.
 * @param nowMs   Wall clock, ms since the epoch.
 */
export function explainTrust(
  bundle: Result<TrustBundle, readonly TrustProblem[]>,
  tls: TlsConfig,
  files: readonly TrustFileFacts[],
  nowMs: number,
): TrustExplanation {
  const warnings = [...(bundle.ok ? bundle.value.warnings : []), ...fileWarnings(tls, files)]
  return {
    problems: bundle.ok ? [] : bundle.error.map(problem => explainFinding(problem, nowMs)),
    warnings: warnings.map(warning => explainFinding(warning, nowMs)),
    facts: bundle.ok ? factsOf(bundle.value, nowMs) : [],
  }
}

/** One problem or warning as a sentence: `tls.cert /tls/tls.crt: CN=x (serial 0A) has expired, 3 days ago (2026-…)`. */
function explainFinding({ setting, path, message, sinceMs }: TrustProblem | TrustWarning, nowMs: number): string {
  const since = sinceMs === undefined ? '' : `, ${distance(sinceMs, nowMs)} (${isoSecond(sinceMs)})`
  return `${setting} ${path}: ${message}${since}`
}

/** Paths of `/proc/self/mountinfo` at which something is mounted (proc(5): field 5, octal escapes). */
export function mountPoints(mountinfo: string): Set<string> {
  const points = new Set<string>()
  for (const line of mountinfo.split('\n')) {
    const point = line.split(' ')[4]
    if (point === undefined) continue
    points.add(point.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))))
  }
  return points
}

function fileWarnings(tls: TlsConfig, files: readonly TrustFileFacts[]): TrustWarning[] {
  const warnings: TrustWarning[] = []
  for (const { setting, path, mode, isMountPoint } of files) {
    const holdsKey = setting === 'tls.key' || (setting === 'tls.cert' && tls.key === undefined)
    if (holdsKey && mode !== undefined && (mode & 0o007) !== 0) {
      const octal = (mode & 0o777).toString(8).padStart(4, '0')
      const message = `holds a private key that everybody in this container may read (mode ${octal}; use 0440 or 0400)`
      warnings.push({ setting, path, code: 'key_readable', message })
    }
    if (isMountPoint) {
      const message = 'is mounted with subPath, so that it never changes while the pod lives; mount the directory'
      warnings.push({ setting, path, code: 'sub_path', message })
    }
  }
  if (directoryOf(tls.clientCa) === directoryOf(tls.cert)) {
    const message =
      "comes from the same directory as tls.cert; the ca.crt of a certificate's own Secret follows its issuer and is " +
      'no list of whom to trust (trust-manager makes one)'
    warnings.push({ setting: 'tls.clientCa', path: tls.clientCa, code: 'ca_from_leaf_secret', message })
  }
  return warnings
}

function factsOf(bundle: TrustBundle, nowMs: number): string[] {
  const { leaf, intermediates, authorities, lists } = bundle
  const names = [...leaf.names.dnsNames, ...leaf.names.ips, ...leaf.names.uris]
  return [
    `serves as ${label(leaf)}, names ${names.join(', ') || 'none'}, until ${isoSecond(leaf.notAfterMs)} (${distance(leaf.notAfterMs, nowMs)})`,
    ...intermediates.map(facts => `sends the intermediate ${label(facts)}, until ${isoSecond(facts.notAfterMs)}`),
    ...authorities.map(({ facts }) => `accepts clients of ${label(facts)}, until ${isoSecond(facts.notAfterMs)}`),
    ...lists.map(
      ({ issuer, revoked, nextUpdateMs }) =>
        `refuses ${revoked.size} revoked by ${issuer.text}, next list due ${isoSecond(nextUpdateMs)}`,
    ),
  ]
}

/** `3 days ago`, `in 2 h`. */
function distance(ms: number, nowMs: number): string {
  const seconds = Math.floor(Math.abs(nowMs - ms) / 1000)
  const days = Math.floor(seconds / 86_400)
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60)
  let words = `${seconds} s`
  if (days >= 2) words = `${days} days`
  else if (hours >= 2) words = `${hours} h`
  else if (minutes >= 2) words = `${minutes} min`
  return ms <= nowMs ? `${words} ago` : `in ${words}`
}

function isoSecond(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z')
}

function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1)
}

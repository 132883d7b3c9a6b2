import type { PeerEntry, PeerMatch } from '../../config/config.ts'
import { compileGlob, compileSegmentGlob, type Glob } from '../glob.ts'
import type { ClientCertificate, Peer } from '../identity/caller.ts'

/** The list of peers, ready to be matched. Immutable; a reload makes a new one. */
export interface CompiledPeers {
  readonly entries: readonly CompiledPeer[]
}

export interface CompiledPeer {
  readonly entry: PeerEntry
  readonly conditions: readonly Condition[]
}

/** One condition of an entry: which names of a certificate it looks at, and what they have to be. */
interface Condition {
  readonly type: keyof PeerMatch
  readonly glob: Glob
}

/** Compiles the list of peers. Entries keep their order, because the first one that matches counts. */
export function compilePeers(entries: readonly PeerEntry[]): CompiledPeers {
  return { entries: entries.map(entry => ({ entry, conditions: compileConditions(entry.match) })) }
}

/**
 * Finds the entry that names a certificate: the first one of which every condition holds. An entry without conditions
 * names nobody.
 *
 * @returns the peer, with the name in the certificate that the first condition matched, or undefined.
 */
export function matchPeer(peers: CompiledPeers, certificate: ClientCertificate): Peer | undefined {
  for (const { entry, conditions } of peers.entries) {
    const matched = matchConditions(conditions, certificate)
    if (matched !== undefined) return { name: entry.name, matched, certificate }
  }
  return undefined
}

/** The entry that a peer came from, by its name: what it may assert is there. */
export function entryOf(peers: CompiledPeers, name: string): PeerEntry | undefined {
  return peers.entries.find(({ entry }) => entry.name === name)?.entry
}

/**
 * Names that a certificate presents, for messages about one that is on no list. Bounded, and plain ASCII.
 */
export function presentedNames(certificate: ClientCertificate): string {
  const names = [
    ...certificate.uris.map(uri => `uri:${uri}`),
    ...certificate.dnsNames.map(dns => `dns:${dns}`),
    `subject:${certificate.subject}`,
  ]
  const text = names.slice(0, 8).join(' ')
  return text.length > 512 ? `${text.slice(0, 512)}...` : text
}

function compileConditions(match: PeerMatch): Condition[] {
  const conditions: Condition[] = []
  if (match.uri !== undefined) conditions.push({ type: 'uri', glob: compileSegmentGlob(match.uri, '/') })
  // DNS names have no case (RFC 4343); the names of the certificate are folded too.
  if (match.dns !== undefined) conditions.push({ type: 'dns', glob: compileSegmentGlob(match.dns.toLowerCase(), '.') })
  if (match.cn !== undefined) conditions.push({ type: 'cn', glob: compileGlob(match.cn) })
  if (match.fingerprint256 !== undefined) {
    conditions.push({
      type: 'fingerprint256',
      glob: compileGlob(match.fingerprint256.replaceAll(':', '').toLowerCase()),
    })
  }
  return conditions
}

function matchConditions(conditions: readonly Condition[], certificate: ClientCertificate): string | undefined {
  let matched: string | undefined
  for (const { type, glob } of conditions) {
    const name = namesOf(type, certificate).find(glob)
    if (name === undefined) return undefined
    matched ??= `${type}:${name}`
  }
  return matched
}

function namesOf(type: keyof PeerMatch, certificate: ClientCertificate): readonly string[] {
  switch (type) {
    case 'uri':
      return certificate.uris
    case 'dns':
      return certificate.dnsNames.map(name => name.toLowerCase())
    case 'cn':
      return certificate.commonName === undefined ? [] : [certificate.commonName]
    case 'fingerprint256':
      return [certificate.fingerprint256]
  }
}

import https from 'node:https'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'node:tls'
import { type CertificateAuthority, type Identity, mintCa, mintLeaf } from '../../src/edge/pki.ts'
import type { Credential, GatewayLoad } from './gateway-load.ts'
import { KubeletVolume } from './kubelet.ts'
import { listen, type TestUpstream } from './mcp-upstreams.ts'
import { GATEWAY_URI } from './pki.ts'
import { toolCall, USER_HEADERS } from './request.ts'

/** How long each step of one rotation took from the swap of the volume until a new connection showed it, ms. */
export interface RotationTimes {
  /** A client of the new CA is served. */
  readonly caAdded: number
  /** The new certificate and key are presented. */
  readonly leafReplaced: number
  /** A client of the old CA is refused. */
  readonly caRemoved: number
}

/** Common name of who looks whether a step is live; the gateways of the load have another. */
const PROBE = 'probe'

/**
 * Certificates that rotate as they do in a cluster: a Secret with the sidecar's certificate and key, a bundle of client
 * CAs in a volume of its own, both kept by the kubelet, and gateways that get theirs from the same issuer.
 *
 * Each rotation replaces all of it in the only order that leaves nobody out: the bundle learns the new CA, then the
 * sidecar and the gateways get leaves of it with new keys, and the old CA leaves the bundle last.
 */
export class RotatingTrust {
  readonly #leaf: KubeletVolume
  readonly #cas: KubeletVolume
  #ca: CertificateAuthority = mintCa({ name: 'rotating CA 0' })
  #client: Identity = clientOf(this.#ca)
  #probe: Identity = clientOf(this.#ca, PROBE)
  #count = 0

  constructor(dir: string) {
    this.#leaf = new KubeletVolume(join(dir, 'tls'))
    this.#cas = new KubeletVolume(join(dir, 'ca'))
  }

  /** The `tls` section of a configuration. */
  get files(): { cert: string; key: string; clientCa: string } {
    return { cert: this.#leaf.path('tls.crt'), key: this.#leaf.path('tls.key'), clientCa: this.#cas.path('ca.crt') }
  }

  /** What a gateway presents and trusts now. */
  get credential(): Credential {
    return credentialOf(this.#client, this.#ca.cert)
  }

  async publish(): Promise<void> {
    await this.#cas.publish({ 'ca.crt': this.#ca.cert })
    await this.#leaf.publish(keysOf(serverOf(this.#ca)))
  }

  /** One whole rotation under load. With `renew: false` the gateways only learn of it when they are cut. */
  async rotate(
    port: number,
    load: Pick<GatewayLoad, 'offer' | 'reconnect'>,
    { renew = true } = {},
  ): Promise<RotationTimes> {
    const [oldCa, oldClient, oldProbe] = [this.#ca, this.#client, this.#probe]
    const newCa = mintCa({ name: `rotating CA ${++this.#count}` })
    const newServer = serverOf(newCa)
    const both = oldCa.cert + newCa.cert
    this.#ca = newCa
    this.#client = clientOf(newCa)
    this.#probe = clientOf(newCa, PROBE)
    const renewed = { ...this.credential, ca: both }
    const probe = credentialOf(this.#probe, both)

    const caAdded = await timed(this.#cas, { 'ca.crt': both }, () => isServed(port, probe))
    // Whoever connects from here on has to know the CA of the certificate that comes next.
    load.offer(renew ? renewed : credentialOf(oldClient, both))
    const leafReplaced = await timed(
      this.#leaf,
      keysOf(newServer),
      async () => (await presentedSerial(port, probe)) === newServer.serial,
    )
    if (renew) await load.reconnect()
    else load.offer(renewed)
    const left = credentialOf(oldProbe, newCa.cert)
    const caRemoved = await timed(this.#cas, { 'ca.crt': newCa.cert }, async () => !(await isServed(port, left)))
    load.offer(this.credential)
    return { caAdded, leafReplaced, caRemoved }
  }
}

/** A server that answers each call by its id, with next to no work of its own. */
export function startAnsweringServer(): Promise<TestUpstream> {
  return listen(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { id } = JSON.parse(Buffer.concat(chunks).toString()) as { id: unknown }
    const body = JSON.stringify({ jsonrpc: '2.0', id, result: { content: [{ type: 'text', text: 'found: x' }] } })
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }).end(body)
  })
}

async function timed(
  volume: KubeletVolume,
  keys: Record<string, string>,
  isLive: () => Promise<boolean>,
): Promise<number> {
  let swappedAt = 0
  await volume.publish(keys, { jitterMs: 2, afterSwap: () => void (swappedAt = performance.now()) })
  while (!(await isLive())) {
    if (performance.now() - swappedAt > 15_000) throw new Error('not live within 15 s')
    await sleep(10)
  }
  return performance.now() - swappedAt
}

/** A call on a connection of its own is answered with 200; refused connections are `false`. */
function isServed(port: number, { cert, key, ca }: Credential): Promise<boolean> {
  return new Promise(resolve => {
    const to = { host: '127.0.0.1', servername: 'localhost', path: '/mcp', method: 'POST', agent: false as const }
    const options = { ...to, localAddress: strangerAddress() }
    const headers = { 'Content-Type': 'application/json', Accept: 'application/json', ...USER_HEADERS }
    const request = https.request({ ...options, port, cert, key, ca, headers }, response => {
      response.resume()
      response.on('close', () => resolve(response.statusCode === 200))
    })
    request.on('error', () => resolve(false))
    request.end(toolCall('search_docs'))
  })
}

let probes = 0

/** Probes fail until a step is live, and a failed handshake counts ten times: they may not use up what the load has. */
function strangerAddress(): string {
  return `127.0.1.${1 + (probes++ % 200)}`
}

/** Serial of the certificate that a new connection is given. */
export function presentedSerial(port: number, { cert, key, ca }: Credential): Promise<string | undefined> {
  return new Promise(resolve => {
    const from = { localAddress: strangerAddress() }
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', cert, key, ca, ...from }, () => {
      resolve(socket.getPeerX509Certificate()?.serialNumber)
      socket.end()
    })
    socket.on('error', () => resolve(undefined))
  })
}

function serverOf(ca: CertificateAuthority): Identity {
  return mintLeaf(ca, { cn: 'mcp-server', dns: ['localhost'], usages: ['serverAuth'] })
}

function credentialOf({ chain, key }: Identity, ca: string): Credential {
  return { cert: chain, key, ca }
}

function clientOf(ca: CertificateAuthority, cn = 'kong'): Identity {
  return mintLeaf(ca, { cn, uris: [GATEWAY_URI], usages: ['clientAuth'] })
}

function keysOf({ chain, key }: Identity): Record<string, string> {
  return { 'tls.crt': chain, 'tls.key': key }
}

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTHeaderParameters, SignJWT } from 'jose'
import type { JsonObject } from '../../src/core/json.ts'

export interface SigningKey {
  readonly kid: string
  readonly alg: string
  readonly privateKey: CryptoKey
  /** Public, as it is published. */
  readonly jwk: JWK
}

export async function signingKey(kid: string, alg = 'RS256'): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

const ISSUER = 'https://login.example.org/tenant/v2.0'

/** A token as the issuer gives it to alice: good for an hour, for `api://mcp`, unless `claims` or `header` say otherwise. */
export function tokenFor(
  key: SigningKey,
  claims: JsonObject = {},
  header: Partial<JWTHeaderParameters> = {},
  nowMs = Date.now(),
): Promise<string> {
  const now = Math.floor(nowMs / 1000)
  const all = {
    iss: ISSUER,
    aud: 'api://mcp',
    sub: 'alice',
    tid: 'acme',
    scp: 'mcp.read',
    iat: now,
    exp: now + 3600,
    ...claims,
  }
  // A claim that is null is left out.
  const payload = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null))
  return new SignJWT(payload)
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'JWT', ...header })
    .sign(key.privateKey)
}

/** Serves a JWK Set on loopback, as told, and counts how often it is asked. */
export class Issuer {
  asked = 0
  keys: JWK[]
  /** Answers in place of the keys. */
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
  readonly #server = createServer((request, response) => {
    this.asked++
    if (this.answer !== undefined) return this.answer(request, response)
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ keys: this.keys }))
  })

  private constructor(keys: JWK[]) {
    this.keys = keys
  }

  static async start(keys: JWK[]): Promise<Issuer> {
    const issuer = new Issuer(keys)
    await new Promise<void>(resolve => issuer.#server.listen(0, '127.0.0.1', resolve))
    return issuer
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/keys`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
  }
}

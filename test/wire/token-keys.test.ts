import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { TokenOutcome } from '../../src/core/identity/token.ts'
import { fetchText } from '../../src/edge/fetch-text.ts'
import { FileKeySource, parseKeySet } from '../../src/edge/jwks.ts'
import { JwtVerifier } from '../../src/edge/tokens.ts'
import { jwtConfig } from '../support/identity.ts'
import { Issuer, type SigningKey, signingKey, tokenFor } from '../support/issuer.ts'
import { startScriptedServer } from '../support/scripted-server.ts'
import { startTestSidecar } from '../support/sidecar.ts'

const MINUTE_MS = 60_000

let first: SigningKey
let second: SigningKey
let issuer: Issuer | undefined
let nowMs = Date.now()

beforeAll(async () => {
  first = await signingKey('first')
  second = await signingKey('second')
})
afterEach(async () => {
  await issuer?.stop()
  issuer = undefined
  nowMs = Date.now()
  vi.unstubAllEnvs()
})

async function serve(...keys: SigningKey[]): Promise<{ issuer: Issuer; verifier: JwtVerifier; kept: string[] }> {
  issuer = await Issuer.start(keys.map(key => key.jwk))
  const kept: string[] = []
  const verifier = new JwtVerifier(jwtConfig({ jwks: issuer.url }), {
    report: { loaded: () => {}, kept: why => kept.push(why) },
    now: () => nowMs,
  })
  return { issuer, verifier, kept }
}

function shown(outcome: TokenOutcome): string {
  return outcome.ok ? 'good' : outcome.error.reason
}

/** A token that nobody has shown before. */
let serial = 0
function anotherToken(key: SigningKey, header = {}): Promise<string> {
  return tokenFor(key, { jti: String(serial++) }, header, nowMs)
}

describe('keys are fetched', () => {
  test('once, however many tokens come at the same time', async () => {
    const { issuer: at, verifier } = await serve(first)
    const tokens = await Promise.all(Array.from({ length: 20 }, () => anotherToken(first)))
    const outcomes = await Promise.all(tokens.map(async token => verifier.verify(token, '')))
    expect(outcomes.map(shown)).toEqual(tokens.map(() => 'good'))
    expect(at.asked).toBe(1)
  })

  test('and one token is verified once, however many calls bring it', async () => {
    const { verifier } = await serve(first)
    const token = await anotherToken(first)
    const outcomes = await Promise.all(Array.from({ length: 20 }, async () => verifier.verify(token, '')))
    expect(new Set(outcomes).size).toBe(1)
    expect(verifier.verify(token, '')).toBe(outcomes[0])
  })

  test('anew when a token names a new key: rotation between two calls', async () => {
    const { issuer: at, verifier } = await serve(first)
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
    at.keys = [first.jwk, second.jwk]
    nowMs += 31_000
    const token = await anotherToken(second)
    expect(shown(await verifier.verify(token, ''))).toBe('good')
    expect(at.asked).toBe(2)
  })

  test('once for a flood of unknown key ids, and again after the cool-down', async () => {
    const { issuer: at, verifier } = await serve(first)
    await verifier.verify(await anotherToken(first), '')
    nowMs += 31_000
    const flood = await Promise.all(Array.from({ length: 50 }, (_, n) => anotherToken(first, { kid: `made-up-${n}` })))
    const outcomes = await Promise.all(flood.map(async token => verifier.verify(token, '')))
    expect(new Set(outcomes.map(shown))).toEqual(new Set(['user_token_invalid']))
    expect(at.asked).toBe(2)
    for (const token of flood.slice(0, 5)) await verifier.verify(token, '')
    expect(at.asked).toBe(2)
    nowMs += 31_000
    await verifier.verify(await anotherToken(first, { kid: 'made-up' }), '')
    expect(at.asked).toBe(3)
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
  })

  test('anew in the background when they are old, while the old ones serve', async () => {
    const { issuer: at, verifier } = await serve(first)
    const token = await anotherToken(first)
    await verifier.verify(token, '')
    nowMs += 6 * MINUTE_MS
    expect(verifier.verify(token, '')).not.toBeInstanceOf(Promise)
    await vi.waitFor(() => expect(at.asked).toBe(2))
  })
})

describe('a key that the issuer has withdrawn', () => {
  test('takes remembered tokens with it', async () => {
    const { issuer: at, verifier } = await serve(first, second)
    const token = await anotherToken(first)
    expect(shown(await verifier.verify(token, ''))).toBe('good')
    at.keys = [second.jwk]
    nowMs += 6 * MINUTE_MS
    await vi.waitFor(async () => expect(shown(await verifier.verify(token, ''))).toBe('user_token_invalid'))
  })
})

describe('the issuer is down', () => {
  test('for ten minutes: nobody notices', async () => {
    const { issuer: at, verifier, kept } = await serve(first)
    await verifier.verify(await anotherToken(first), '')
    at.answer = (_, response) => response.destroy()
    for (let minute = 0; minute < 10; minute++) {
      nowMs += MINUTE_MS
      expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
    }
    await vi.waitFor(() => expect(kept.length).toBeGreaterThan(0))
  })

  test('for longer than keys may be stale: new tokens cannot be verified, and can when it is back', async () => {
    const { issuer: at, verifier } = await serve(first)
    const known = await anotherToken(first)
    await verifier.verify(known, '')
    at.answer = (_, response) => response.destroy()
    nowMs += 59 * MINUTE_MS
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
    expect(shown(await verifier.verify(known, ''))).toBe('good')
    await vi.waitFor(() => expect(at.asked).toBe(2))
    nowMs += 2 * MINUTE_MS
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('user_token_unverifiable')
    at.answer = undefined
    nowMs += 6000
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
  })

  test('from the start: 503, not 401, and tried again no more often than every five seconds', async () => {
    const { issuer: at, verifier } = await serve(first)
    at.answer = (_, response) => response.writeHead(500).end()
    expect(await verifier.warm()).toBe(false)
    for (let n = 0; n < 10; n++) {
      expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('user_token_unverifiable')
    }
    expect(at.asked).toBe(1)
    at.answer = undefined
    nowMs += 6000
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('good')
  })

  test('from the start: /readyz says so, and it is no reason not to be ready', async () => {
    issuer = await Issuer.start([first.jwk])
    const url = issuer.url
    await issuer.stop()
    const upstream = await startScriptedServer()
    const running = await startTestSidecar(upstream.url, config => {
      const jwt = { issuer: 'https://login.example.org', audience: 'api://mcp', jwks: url }
      config['identity'] = { source: 'jwt', required: true, jwt }
    })
    onTestFinished(async () => {
      await running.stop()
      await upstream.stop()
    })
    const ready = await fetch(`${running.admin}/readyz`)
    expect(ready.status).toBe(200)
    const { checks } = (await ready.json()) as { checks: Record<string, unknown> }
    expect(checks['keys']).toEqual({
      ok: false,
      detail: expect.stringContaining(`the keys at ${url} cannot be used (`),
    })
  })
})

describe('an answer that cannot be keys', () => {
  test.each([
    {
      name: 'huge, by its length',
      answer: { 'content-length': '999999999' },
      body: 'x',
      want: /larger than 262144 bytes/,
    },
    { name: 'huge, in chunks', answer: {}, body: 'x'.repeat(300_000), want: /larger than 262144 bytes/ },
    { name: 'no JSON', answer: {}, body: '<html>', want: /not JSON/ },
    { name: 'another JSON', answer: {}, body: '{"keys":{}}', want: /not a JWK Set/ },
    { name: 'no keys', answer: {}, body: '{"keys":[]}', want: /no public key/ },
    {
      name: 'too many keys',
      answer: {},
      body: JSON.stringify({ keys: Array(101).fill({ kty: 'RSA' }) }),
      want: /more than 100 keys/,
    },
    { name: 'secret keys only', answer: {}, body: '{"keys":[{"kty":"oct","k":"AAAA"}]}', want: /no public key/ },
  ])('$name', async ({ answer, body, want }) => {
    const { issuer: at, verifier, kept } = await serve(first)
    at.answer = (_, response) => {
      response.writeHead(200, answer)
      response.write(body)
      if (!('content-length' in answer)) response.end()
    }
    expect(shown(await verifier.verify(await anotherToken(first), ''))).toBe('user_token_unverifiable')
    expect(kept.join()).toMatch(want)
  })

  test('slow: it is given up as a whole, not byte by byte', async () => {
    const { issuer: at } = await serve(first)
    at.answer = (_, response) => {
      response.writeHead(200)
      const drip = setInterval(() => response.write(' '), 20)
      response.on('close', () => clearInterval(drip))
    }
    await expect(fetchText(at.url, { bytes: 1000, ms: 200 })).rejects.toThrow('no complete answer within 200 ms')
  })

  test('a redirect is not followed', async () => {
    const { issuer: at } = await serve(first)
    at.answer = (_, response) => response.writeHead(302, { location: at.url }).end()
    await expect(fetchText(at.url, { bytes: 1000, ms: 5000 })).rejects.toThrow('status 302')
    expect(at.asked).toBe(1)
  })
})

describe('the proxy of the environment', () => {
  async function proxy(): Promise<{ url: string; heads: string[]; stop: () => Promise<unknown> }> {
    const heads: string[] = []
    const server = createServer(socket => {
      socket.on('error', () => {})
      socket.once('data', data => {
        heads.push(data.toString('latin1').split('\r\n')[0] ?? '')
        socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n')
      })
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return { url, heads, stop: () => new Promise(resolve => server.close(resolve)) }
  }

  test('HTTPS_PROXY is asked for the issuer', async () => {
    const { url, heads, stop } = await proxy()
    vi.stubEnv('HTTPS_PROXY', url)
    vi.stubEnv('NO_PROXY', '')
    await expect(fetchText('https://login.example.test/keys', { bytes: 1000, ms: 5000 })).rejects.toThrow()
    expect(heads).toEqual(['CONNECT login.example.test:443 HTTP/1.1'])
    await stop()
  })

  test('NO_PROXY leaves it out', async () => {
    const { url, heads, stop } = await proxy()
    const { issuer: at } = await serve(first)
    vi.stubEnv('HTTP_PROXY', url)
    vi.stubEnv('NO_PROXY', '127.0.0.1')
    expect(await fetchText(at.url, { bytes: 10_000, ms: 5000 })).toContain('"kid":"first"')
    expect(heads).toEqual([])
    await stop()
  })
})

describe('keys from a file', () => {
  test('are followed, and kept when the file cannot be used', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'jwks-'))
    const path = join(dir, 'jwks.json')
    const kept: string[] = []
    const report = { loaded: () => {}, kept: (why: string) => kept.push(why) }
    const verifier = new JwtVerifier(jwtConfig({ jwks: path }), { report })
    onTestFinished(async () => {
      verifier.close()
      await rm(dir, { recursive: true })
    })
    const old = await anotherToken(first)
    const become = (token: string, want: string): Promise<void> =>
      vi.waitFor(async () => expect(shown(await verifier.verify(token, ''))).toBe(want), { timeout: 10_000 })

    expect(shown(await verifier.verify(old, ''))).toBe('user_token_unverifiable')
    await writeFile(path, JSON.stringify({ keys: [first.jwk] }))
    await become(old, 'good')
    await writeFile(path, '{"keys": [')
    await vi.waitFor(() => expect(kept.at(-1)).toBe('not JSON'), { timeout: 10_000 })
    expect(shown(await verifier.verify(old, ''))).toBe('good')
    await writeFile(join(dir, 'next'), JSON.stringify({ keys: [second.jwk] }))
    await rename(join(dir, 'next'), path)
    await become(old, 'user_token_invalid')
    expect(shown(await verifier.verify(await anotherToken(second), ''))).toBe('good')
  })

  test('are read at once when somebody asks', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'jwks-'))
    const path = join(dir, 'jwks.json')
    const keys = new FileKeySource(path, { loaded: () => {}, kept: () => {} })
    onTestFinished(async () => {
      keys.close()
      await rm(dir, { recursive: true })
    })
    expect(await keys.get()).toBeUndefined()
    await writeFile(path, JSON.stringify({ keys: [first.jwk] }))
    await keys.reload()
    expect((await keys.get())?.members.size).toBe(1)
  })
})

describe('what is remembered', () => {
  test('ends with the token', async () => {
    const { verifier } = await serve(first)
    const token = await tokenFor(first, { exp: Math.floor(nowMs / 1000) + 60 }, {}, nowMs)
    expect(shown(await verifier.verify(token, ''))).toBe('good')
    nowMs += 89_000
    expect(shown(await verifier.verify(token, ''))).toBe('good')
    nowMs += 2000
    expect(shown(await verifier.verify(token, ''))).toBe('user_token_expired')
  })

  test('is bounded: what was not used lately is verified again', async () => {
    const set = parseKeySet(JSON.stringify({ keys: [first.jwk] }))
    if (!set.ok) throw new Error(set.error)
    const verifier = new JwtVerifier(jwtConfig(), {
      report: { loaded: () => {}, kept: () => {} },
      keys: { get: () => set.value, getNewer: () => undefined, close: () => {} },
      mostCached: 4,
    })
    const tokens = await Promise.all(Array.from({ length: 8 }, () => anotherToken(first)))
    for (const token of tokens) await verifier.verify(token, '')
    expect(tokens.filter(token => !(verifier.verify(token, '') instanceof Promise)).length).toBeLessThanOrEqual(4)
    expect(verifier.verify(tokens[7] as string, '')).not.toBeInstanceOf(Promise)
  })
})

/**
 * Fetches a small text, bounded in size and in time from the first byte to the last. Redirects are not followed.
 * `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are honoured; certificates are checked against Node's roots and
 * `NODE_EXTRA_CA_CERTS`.
 *
 * @throws Error, in words, for anything but a 200 within the limits.
 */
export async function fetchText(url: string, limits: { bytes: number; ms: number }): Promise<string> {
  // Loaded when it is needed: most sidecars verify no tokens, and those that read keys from a file fetch nothing.
  const { EnvHttpProxyAgent, request } = await import('./late/undici.ts')
  const dispatcher = new EnvHttpProxyAgent()
  const signal = AbortSignal.timeout(limits.ms)
  try {
    const { statusCode, headers, body } = await request(url, {
      dispatcher,
      signal,
      headers: { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' },
    })
    body.on('error', () => {})
    if (statusCode !== 200) throw new Error(`status ${statusCode}`)
    if (Number(headers['content-length'] ?? 0) > limits.bytes) throw new Error(`larger than ${limits.bytes} bytes`)
    const chunks: Buffer[] = []
    let total = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      total += chunk.length
      if (total > limits.bytes) throw new Error(`larger than ${limits.bytes} bytes`)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks).toString('utf8')
  } catch (error) {
    if (signal.aborted) throw new Error(`no complete answer within ${limits.ms} ms`, { cause: error })
    throw error
  } finally {
    // One fetch in minutes does not need a connection kept.
    await dispatcher.destroy().catch(() => {})
  }
}

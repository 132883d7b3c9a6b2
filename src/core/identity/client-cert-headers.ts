import type { IdentityConfig } from '../../config/config.ts'
import type { ClientCertificate } from './caller.ts'

/** Header lines `[name, value, …]` that tell the upstream of the verified client certificate. */
export type ClientCertificateHeaders = (certificate: ClientCertificate) => readonly string[]

/** The lines are made once for each certificate and kept as long as its connection keeps the certificate. */
export function compileClientCertificateHeaders(kinds: IdentityConfig['clientCert']): ClientCertificateHeaders {
  const made = new WeakMap<ClientCertificate, readonly string[]>()
  const withCertificate = kinds.includes('xfcc-cert')
  const withXfcc = withCertificate || kinds.includes('xfcc')
  const withRfc9440 = kinds.includes('rfc9440')
  return certificate => {
    const before = made.get(certificate)
    if (before !== undefined) return before
    const lines: string[] = []
    if (withXfcc) lines.push('X-Forwarded-Client-Cert', xfcc(certificate, withCertificate))
    if (withRfc9440) {
      lines.push('Client-Cert', byteSequence(certificate.der))
      if (certificate.chain.length > 0) lines.push('Client-Cert-Chain', certificate.chain.map(byteSequence).join(', '))
    }
    made.set(certificate, lines)
    return lines
  }
}

/**
 * One element of `X-Forwarded-Client-Cert`: `Hash`, `Subject`, `URI`, `DNS`, and `Cert` when asked for, in the order in
 * which Envoy writes them. `Subject` and `URI` are there even when they are empty, as with Envoy.
 *
 * @source Envoy, "HTTP header manipulation", x-forwarded-client-cert.
 */
export function xfcc(certificate: ClientCertificate, withCertificate: boolean): string {
  let value = `Hash=${certificate.fingerprint256}`
  if (withCertificate) value += `;Cert="${encodeURIComponent(pem(certificate.der))}"`
  value += `;Subject=${quotedName(printable(certificate.subject))}`
  if (certificate.uris.length === 0) value += ';URI='
  for (const uri of certificate.uris) value += `;URI=${quotedWhenNeeded(printable(uri))}`
  for (const name of certificate.dnsNames) value += `;DNS=${quotedWhenNeeded(printable(name))}`
  return value
}

/** A structured field's byte sequence. @source RFC 9440 §2.1, RFC 9651 §3.3.5 */
function byteSequence(der: Buffer): string {
  return `:${der.toString('base64')}:`
}

function pem(der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/**
 * A name is quoted whole. In RFC 4514 text a quote is already `\"`, which is also how Envoy wants it; a backslash becomes
 * its hexadecimal form, so that a reader who knows only `\"` and one who knows every escape see the same end.
 */
function quotedName(subject: string): string {
  let out = '"'
  for (let at = 0; at < subject.length; at++) {
    const char = subject[at] as string
    if (char === '"') out += '\\22'
    else if (char !== '\\') out += char
    else {
      const next = subject[++at]
      out += next === undefined || next === '\\' ? '\\5C' : `\\${next}`
    }
  }
  return `${out}"`
}

function quotedWhenNeeded(value: string): string {
  if (!/[,;="\\]/.test(value)) return value
  return `"${value.replaceAll('\\', '%5C').replaceAll('"', '\\"')}"`
}

/** Bytes outside printable ASCII as RFC 4514 writes them, `\C3\BC`: nothing of a certificate may end the line. */
function printable(value: string): string {
  if (PRINTABLE.test(value)) return value
  let out = ''
  for (const byte of Buffer.from(value, 'utf8')) {
    out +=
      byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}

const PRINTABLE = /^[\x20-\x7e]*$/

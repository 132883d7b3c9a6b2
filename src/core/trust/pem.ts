import { err, ok, type Result } from '../result.ts'

/** One PEM block (RFC 7468): its label, what it holds, and its text in canonical form. */
export interface PemBlock {
  readonly label: string
  readonly der: Buffer
  readonly text: string
}

export type PemFault = { readonly code: 'pem_truncated' | 'pem_garbage'; readonly message: string }

/**
 * Splits a file into its PEM blocks. Text around blocks is allowed (bundles carry comments); a block that does not end,
 * or holds anything but base64, is not: half a file must never pass for a shorter one.
 *
 * Headers inside a block (RFC 1421, as old encrypted keys have them) are kept in `text` and leave `der` empty.
 */
export function readPem(bytes: Buffer): Result<PemBlock[], PemFault> {
  const blocks: PemBlock[] = []
  let label: string | undefined
  let body: string[] = []
  for (const [index, raw] of bytes.toString('latin1').split('\n').entries()) {
    const line = raw.trim()
    const [, verb, name = ''] = /^-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----$/.exec(line) ?? []
    if (verb === undefined) {
      if (line.includes('-----BEGIN ') || line.includes('-----END ')) return garbage(index, 'a malformed PEM boundary')
      if (label !== undefined && line !== '') body.push(line)
      continue
    }
    if (verb === 'BEGIN') {
      if (label !== undefined) return truncated(label)
      label = name
      body = []
      continue
    }
    if (label !== name) return garbage(index, `the end of a block that has not begun (${name})`)
    const hasHeaders = body.some(one => one.includes(':'))
    const base64 = hasHeaders ? '' : body.join('')
    if (!isBase64(base64) || (base64 === '' && !hasHeaders))
      return garbage(index, `a ${label} block that is not base64`)
    const der = Buffer.from(base64, 'base64')
    blocks.push({ label, der, text: hasHeaders ? pemLines(label, body) : pemText(label, der) })
    label = undefined
  }
  return label === undefined ? ok(blocks) : truncated(label)
}

/** The canonical text of a block. */
function pemText(label: string, der: Buffer): string {
  return pemLines(label, der.toString('base64').match(/.{1,64}/g) ?? [])
}

function pemLines(label: string, lines: readonly string[]): string {
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)
}

function truncated(label: string): Result<never, PemFault> {
  return err({ code: 'pem_truncated', message: `ends in the middle of a ${label} block` })
}

function garbage(index: number, what: string): Result<never, PemFault> {
  return err({ code: 'pem_garbage', message: `has ${what} in line ${index + 1}` })
}

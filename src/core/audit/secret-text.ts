import type { RedactPattern } from '../../config/config.ts'
import type { SecretKeys } from './secret-keys.ts'
import { compileTriggerScan, type TriggerScan } from './trigger-scan.ts'

/**
 * Finds secrets inside a text by what they look like (`patterns`) and by the name written before them
 * (`password=…`, `"token": "…"`, `--api-key …`), and replaces them by `[redacted]` or `[redacted:<pattern>]`.
 *
 * Every search is linear in the length of the text; a text of which only the beginning is kept is searched a little
 * beyond the cut, so that no half of a secret stays because its other half was cut off.
 */
export interface SecretText {
  /** Whether a text needs `clean` at all (2), or an escape in JSON (1), or nothing (0). */
  readonly look: TriggerScan
  /** The text without its secrets, from at most `keep` characters of it. */
  clean(text: string, keep: number): string
}

export function compileSecretText(patterns: readonly RedactPattern[], keys: SecretKeys): SecretText {
  const finders = patterns.map(pattern => FINDERS[pattern])
  const triggers = patterns.flatMap(pattern => TRIGGERS[pattern])
  if (!keys.isEmpty) {
    finders.push((text, found) => findNamed(text, keys, found))
    triggers.push(':', '=', '--')
  }
  if (finders.length > 0) triggers.push('%')
  const look = compileTriggerScan(triggers, patterns.includes('card') ? 13 : Number.POSITIVE_INFINITY)

  function cover(text: string, keep: number): string {
    const found: Span[] = []
    for (const find of finders) find(text, found)
    if (found.length === 0) return text.length > keep ? text.slice(0, keep) : text
    found.sort((a, b) => a.start - b.start || b.end - a.end)
    let out = ''
    let at = 0
    for (const { start, end, label } of found) {
      if (start >= keep) break
      if (end <= at) continue
      // Spans that overlap become one marker: the later one only lengthens what is hidden.
      if (start >= at) out += `${text.slice(at, start)}${label}`
      at = end
    }
    return at < keep ? out + text.slice(at, keep) : out
  }

  function clean(text: string, keep: number): string {
    const searched = text.length > keep + BEYOND_CUT ? text.slice(0, keep + BEYOND_CUT) : text
    if (look(searched) < 2) return searched.length > keep ? searched.slice(0, keep) : searched
    if (!ENCODED.test(searched)) return cover(searched, keep)
    // A secret may be percent-encoded, more than once; when it is, the decoded text is what is written.
    let shown = cover(searched, Number.POSITIVE_INFINITY)
    let decoded = shown
    for (let round = 0; round < MAX_DECODINGS && ENCODED.test(decoded); round++) {
      decoded = percentDecode(decoded)
      const covered = cover(decoded, Number.POSITIVE_INFINITY)
      if (covered !== decoded) shown = decoded = covered
    }
    // The end of what was searched may hold the beginning of a secret whose rest was not.
    return shown.slice(0, searched === text ? keep : Math.max(0, Math.min(keep, shown.length - BEYOND_CUT)))
  }

  return { look, clean }
}

interface Span {
  start: number
  end: number
  label: string
}
type Finder = (text: string, found: Span[]) => void

/** How far beyond the cut a text is searched: longer than any e-mail address, card number or key of a cloud. */
const BEYOND_CUT = 512
const MAX_DECODINGS = 3
const ENCODED = /%[0-9A-Fa-f]{2}/

/** Words of which a text must hold one for a pattern to be looked for at all. */
const TRIGGERS: Record<RedactPattern, readonly string[]> = {
  bearer: ['bearer', 'basic', 'dpop', 'negotiate'],
  jwt: ['eyj'],
  email: ['@'],
  // By the number of digits, not by a word.
  card: [],
  'cloud-key': (
    'akia asia abia acca aiza accountkey sharedaccess ya29. ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xox xapp- ' +
    'sk_live sk_test rk_live rk_test pk_live pk_test whsec_ sk- npm_ pypi- dop_v1_ hf_ hvs. dapi sg. sig='
  ).split(' '),
  'private-key': ['-----begin', 'putty-'],
  'url-userinfo': ['://'],
}

const FINDERS: Record<RedactPattern, Finder> = {
  bearer(text, found) {
    if (!SCHEME_NAME.test(text)) return
    byRegex(text, BEARER, '[redacted:bearer]', found)
    for (let match = next(BASIC, text); match !== null; match = BASIC.exec(text)) {
      // "basic understanding" is no credential: Base64 shows a digit, a capital inside or padding.
      if (/\d|[a-z+/][A-Z]|=$/.test(match[1] as string)) pushMatch(match, '[redacted:bearer]', found)
    }
  },
  jwt(text, found) {
    if (text.includes('eyJ')) byRegex(text, JWT, '[redacted:jwt]', found)
  },
  email: findEmails,
  card: findCards,
  'cloud-key'(text, found) {
    byRegex(text, CLOUD_KEY, '[redacted:cloud-key]', found)
  },
  'private-key'(text, found) {
    for (let at = text.indexOf('-----BEGIN'); at >= 0; at = text.indexOf('-----BEGIN', at + 10)) {
      if (!text.slice(at, at + 64).includes('PRIVATE KEY')) continue
      const footer = text.indexOf('-----END', at)
      // Without a footer the rest of the text is the key.
      const end = footer < 0 ? text.length : Math.min(text.length, afterFooter(text, footer + 8))
      found.push({ start: at, end, label: '[redacted:private-key]' })
    }
    const putty = text.indexOf('PuTTY-User-Key-File')
    if (putty >= 0) found.push({ start: putty, end: text.length, label: '[redacted:private-key]' })
  },
  'url-userinfo'(text, found) {
    for (let at = text.indexOf('://'); at >= 0; at = text.indexOf('://', at + 3)) {
      const start = at + 3
      let end = start
      let atSign = -1
      for (; end < text.length && !AUTHORITY_END.includes(text[end] as string); end++)
        if (text[end] === '@') atSign = end
      if (atSign >= 0) found.push({ start, end: atSign, label: '[redacted:url-userinfo]' })
    }
  },
}

const SCHEME_NAME = /bearer|basic|dpop|negotiate/i
const BEARER = /(?:bearer|dpop|negotiate)(?:[\s:]|%20|\+){1,8}([^\s"',;<>]{4,})/gi
const BASIC = /basic[\s:]{1,8}([A-Za-z0-9+/_-]{6,}={0,2})/gi
const JWT = /eyJ[\w-]{8,}(?:\.[\w-]*){0,4}/g
const AUTHORITY_END = '/?# \t\r\n"\'<>\\'

const CLOUD_KEY = new RegExp(
  [
    'A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{12,}',
    'AIza[\\w-]{20,}|ya29\\.[\\w-]{10,}',
    'gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\\w{16,}|glpat-[\\w-]{16,}',
    'xox[abeoprs]-[\\w-]{8,}|xapp-[\\w-]{10,}',
    '[srp]k_(?:live|test)_\\w{8,}|whsec_[\\w+/]{10,}|sk-[\\w-]{16,}',
    'npm_[A-Za-z0-9]{20,}|pypi-[\\w-]{20,}|dop_v1_[a-f0-9]{20,}|hf_[A-Za-z0-9]{16,}|hvs\\.[\\w-]{16,}|dapi[a-f0-9]{30,}',
    'SG\\.[\\w-]{10,}\\.[\\w-]{10,}',
    '(?:AccountKey|SharedAccessKey|SharedAccessSignature|sig)=[\\w%+/=.-]{12,}',
  ].join('|'),
  'g',
)

function byRegex(text: string, regex: RegExp, label: string, found: Span[]): void {
  for (let match = next(regex, text); match !== null; match = regex.exec(text)) pushMatch(match, label, found)
}

/** The first match of a global expression; `exec` goes on from there. `matchAll` would copy the expression each time. */
function next(regex: RegExp, text: string): RegExpExecArray | null {
  regex.lastIndex = 0
  return regex.exec(text)
}

/** The first group when there is one, else the whole match. */
function pushMatch(match: RegExpMatchArray, label: string, found: Span[]): void {
  const end = (match.index ?? 0) + match[0].length
  found.push({ start: end - (match[1] ?? match[0]).length, end, label })
}

function afterFooter(text: string, from: number): number {
  const dashes = text.indexOf('-----', from)
  return dashes < 0 || dashes - from > 64 ? text.length : dashes + 5
}

/** Around every `@`: at most 64 characters before it and 255 after it, as RFC 5321 §4.5.3.1 has them. */
function findEmails(text: string, found: Span[]): void {
  for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', at + 1)) {
    let start = at
    while (start > 0 && at - start < 64 && isLocalPart(text.charCodeAt(start - 1))) start--
    let end = at + 1
    let dot = -1
    while (end < text.length && end - at < 256 && isDomainPart(text.charCodeAt(end))) {
      if (text[end] === '.' && end > at + 1) dot = end
      end++
    }
    const dotted = dot > 0 && (dot < end - 1 || text.lastIndexOf('.', dot - 1) > at)
    if (start < at && dotted) found.push({ start, end, label: '[redacted:email]' })
  }
}

function isLocalPart(code: number): boolean {
  return isAlphanumeric(code) || code > 0x7f || LOCAL_PART_MARKS.includes(String.fromCharCode(code))
}

const LOCAL_PART_MARKS = "!#$%&'*+-/=?^_`{|}~."

function isDomainPart(code: number): boolean {
  return isAlphanumeric(code) || code === 0x2d || code === 0x2e || code > 0x7f
}

function isAlphanumeric(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a)
}

/**
 * Card numbers: 13 to 19 digits that begin as cards do, pass the Luhn check, and whose digits may be grouped by a space,
 * a dash or a dot. A group that only stands beside them (a date, a CVC) does not hide them.
 *
 * @source ISO/IEC 7812-1 (length, check digit; major industry identifiers 2 to 6)
 */
function findCards(text: string, found: Span[]): void {
  for (let run = next(DIGITS, text); run !== null; run = DIGITS.exec(text)) {
    const starts: number[] = []
    const base = run.index
    for (let i = 0; i < run[0].length; i++) if (isDigit(run[0], i) && !isDigit(run[0], i - 1)) starts.push(i)
    for (let first = 0; first < starts.length; first++) {
      const end = cardEnd(run[0], starts[first] as number)
      if (end > 0) found.push({ start: base + (starts[first] as number), end: base + end, label: '[redacted:card]' })
    }
  }
}

const DIGITS = /\d(?:[ .-]?\d){12,}/g

/** Where the longest card number that begins at `start` and ends with its group ends; 0 when there is none. */
function cardEnd(run: string, start: number): number {
  if (run[start] === undefined || !'23456'.includes(run[start] as string)) return 0
  let digits = ''
  let end = 0
  for (let i = start; i < run.length && digits.length <= 19; i++) {
    if (isDigit(run, i)) digits += run[i]
    if (isDigit(run, i + 1) && isDigit(run, i)) continue
    if (isDigit(run, i) && digits.length >= 13 && digits.length <= 19 && passesLuhn(digits)) end = i + 1
  }
  return end
}

function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return code >= 0x30 && code <= 0x39
}

export function passesLuhn(digits: string): boolean {
  let sum = 0
  for (let i = digits.length - 1, double = false; i >= 0; i--, double = !double) {
    const digit = digits.charCodeAt(i) - 0x30
    sum += double ? (digit > 4 ? digit * 2 - 9 : digit * 2) : digit
  }
  return sum % 10 === 0
}

/** Values that are written after their name: `token=…`, `"password": "…"`, `Cookie: …`, `--secret …`. */
function findNamed(text: string, keys: SecretKeys, found: Span[]): void {
  for (let match = next(NAMING, text); match !== null; match = NAMING.exec(text)) {
    const isFlag = match[0].length > 1
    const name = isFlag ? match[0].trim() : nameBefore(text, match.index)
    if (name === '' || !(keys.matches(name) || (!isFlag && keys.matches(wordBefore(text, match.index, name))))) continue
    const start = valueStart(text, match.index + match[0].length)
    // What has been through here before stays as it is.
    const end = text.startsWith('[redacted', start) ? start : valueEnd(text, start, name)
    if (end > start) found.push({ start, end, label: '[redacted]' })
  }
}

const NAMING = /[:=]|--[A-Za-z][\w.-]{0,63}[ \t]+(?=[^\s-])/g
const MAX_NAME_BEFORE = 64

/** The name that ends right before a `:` or `=`, without quotes and spaces around it. */
function nameBefore(text: string, at: number): string {
  const end = nameEnd(text, at)
  let start = end
  while (start > 0 && end - start < MAX_NAME_BEFORE && isNamePart(text.charCodeAt(start - 1))) start--
  return text.slice(start, end)
}

function nameEnd(text: string, at: number): number {
  let end = at
  for (let i = 0; i < 8 && end > 0 && ' \t"\'\\]`'.includes(text[end - 1] as string); i++) end--
  return end
}

/** The name together with the word before it, for keys of two words: `api key: …`. */
function wordBefore(text: string, at: number, name: string): string {
  const start = nameEnd(text, at) - name.length
  return text[start - 1] === ' ' ? `${nameBefore(text, start - 1)} ${name}` : ''
}

function isNamePart(code: number): boolean {
  return isAlphanumeric(code) || code === 0x5f || code === 0x2d || code === 0x2e || code > 0x7f
}

function valueStart(text: string, from: number): number {
  let start = from
  for (let i = 0; i < 8 && start < text.length && ' \t:=>'.includes(text[start] as string); i++) start++
  return start
}

function valueEnd(text: string, start: number, name: string): number {
  const escaped = text[start] === '\\' && (text[start + 1] === '"' || text[start + 1] === "'")
  const quote = text[escaped ? start + 1 : start]
  if (quote === '"' || quote === "'" || quote === '`') return quotedEnd(text, start + (escaped ? 2 : 1), quote)
  // A header has its whole line: a scheme and a credential, or several cookies.
  if (/authorization|cookie/i.test(name)) return lineEnd(text, start)
  let end = wordEnd(text, start)
  if (SCHEME.test(text.slice(start, end))) end = wordEnd(text, valueStart(text, end))
  return end
}

const SCHEME = /^(?:basic|bearer|digest|dpop|negotiate|token|apikey)$/i

function quotedEnd(text: string, from: number, quote: string): number {
  for (let end = text.indexOf(quote, from); end >= 0; end = text.indexOf(quote, end + 1)) {
    let backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0 || text[from - 2] === '\\') return end + 1
  }
  return text.length
}

function lineEnd(text: string, from: number): number {
  const end = text.indexOf('\n', from)
  return end < 0 ? text.length : end
}

function wordEnd(text: string, from: number): number {
  let end = from
  while (end < text.length && !' \t\r\n,;&)}]"\'<>`'.includes(text[end] as string)) end++
  return end
}

/** Each `%XX` decoded as UTF-8; bytes that are none become U+FFFD, which hides nothing of a secret. */
function percentDecode(text: string): string {
  return text.replace(/(?:%[0-9A-Fa-f]{2})+/g, run => Buffer.from(run.replaceAll('%', ''), 'hex').toString('utf8'))
}

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AsciiJson } from '../../src/core/audit/ascii-json.ts'
import type { Exchange } from '../../src/core/audit/exchange.ts'
import type { Recorder } from '../../src/core/audit/record.ts'
import { compileRedactor } from '../../src/core/audit/redact.ts'
import { compileSecretKeys } from '../../src/core/audit/secret-keys.ts'
import { passesLuhn } from '../../src/core/audit/secret-text.ts'
import type { JsonObject, JsonValue } from '../../src/core/json.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { auditDefaults, exchangeWith, recorderWith, toolCall } from '../support/audit.ts'

const redactor = compileRedactor(auditDefaults)
const text = (value: string, max = 4000): string => JSON.parse(redactor.text(value, max, new AsciiJson()))
const args = (value: JsonObject): JsonObject => JSON.parse(redactor.args(value, 'tool', 8000, new AsciiJson()))

describe('names that announce a secret', () => {
  const keys = compileSecretKeys(auditDefaults.redact.keys)
  test.each(
    (
      'token accessToken access_token ACCESS-TOKEN refresh.token X-Api-Key apiKey api_key_id apikey APIKey client-secret ' +
      'clientSecret2 X_API_KEYs SECRETs Password userPasswords DBPassword Set-Cookie proxyAuthorization awsCredentials private_key ' +
      'privateKeyPem ｔｏｋｅｎ tök\u200ben'
    ).split(' '),
  )('%s', name => expect(keys.matches(name.normalize('NFC').replace('ö', 'o'))).toBe(true))
  test.each('tokenizer key apiece secretary passwort keyboard author query path cooking'.split(' '))('not %s', name =>
    expect(keys.matches(name)).toBe(false),
  )
  test('a name that hides its word with an accent or a mark', () => expect(keys.matches('pássword')).toBe(true))
})

describe('texts', () => {
  test.each([
    ['Bearer abc.def-123', 'Bearer [redacted:bearer]'],
    ['sent "Bearer hunter22" there', 'sent "Bearer [redacted:bearer]" there'],
    ['Authorization: Basic dXNlcjpwYXNz', 'Authorization: [redacted]'],
    ['basic dXNlcjpwYXNzMQ==', 'basic [redacted:bearer]'],
    ['a basic understanding of it', 'a basic understanding of it'],
    ['x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y', 'x [redacted:jwt] y'],
    ['mail jane.doe+x@mail.acme.example now', 'mail [redacted:email] now'],
    ['jane%40acme.example', '[redacted:email]'],
    ['jane%2540acme.example', '[redacted:email]'],
    ['user@localhost', 'user@localhost'],
    ['card 4111 1111 1111 1111 12/27', 'card [redacted:card] 12/27'],
    ['4111-1111-1111-1111', '[redacted:card]'],
    ['378282246310005', '[redacted:card]'],
    ['4111 1111 1111 1112', '4111 1111 1111 1112'],
    ['at 1795000000000 ms', 'at 1795000000000 ms'],
    ['AKIAIOSFODNN7EXAMPLE', '[redacted:cloud-key]'],
    ['key ghp_abcdefghijklmnopqrstuvwxyz0123456789', 'key [redacted:cloud-key]'],
    ['sk-ant-api03-abcdefghijklmnop', '[redacted:cloud-key]'],
    ['-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY----- tail', '[redacted:private-key] tail'],
    ['-----BEGIN PRIVATE KEY-----\nMIIE', '[redacted:private-key]'],
    ['-----BEGIN CERTIFICATE-----\nMIIE', '-----BEGIN CERTIFICATE-----\nMIIE'],
    ['postgres://app:s3cr3t@db:5432/x', 'postgres://[redacted:url-userinfo]@db:5432/x'],
    ['https://example.org/a?token=abc&page=2', 'https://example.org/a?token=[redacted]&page=2'],
    ['https://example.org/a?page=2', 'https://example.org/a?page=2'],
    ['https%3A%2F%2Fx%2F%3Ftoken%3Dabc', 'https://x/?token=[redacted]'],
    ['{"password":"hunter2","q":1}', '{"password":[redacted],"q":1}'],
    ['{\\"password\\":\\"hunter2\\"}', '{\\"password\\":[redacted]}'],
    ["api key: 'abc def'", 'api key: [redacted]'],
    ['run --password hunter2 --verbose', 'run --password [redacted] --verbose'],
    ['Cookie: a=b; session=c\nHost: x', 'Cookie: [redacted]\nHost: x'],
    ['password = "with \\" quote" end', 'password = [redacted] end'],
    ['error: no such tool', 'error: no such tool'],
  ])('%s', (from, to) => expect(text(from)).toBe(to))

  test('what is redacted already stays as it is', () => {
    for (const from of ['token=abc', 'a@b.example', 'Bearer abcdef', '{"secret":"x"}']) {
      expect(text(text(from))).toBe(text(from))
    }
  })

  test.each(['jane@acme.example', 'Bearer abcdefghijkl', '4111111111111111', 'https://u:passw0rd@h/'])(
    'no half of %s stays when a text is cut in the middle of it',
    secret => {
      for (let before = 0; before <= 40; before++) {
        const shown = text(`${'-'.repeat(before)} ${secret} ${'z'.repeat(2000)}`, 40)
        for (const half of ['jane@acme', 'abcdef', '411111', 'passw0']) expect(shown).not.toContain(half)
      }
    },
  )
})

describe('arguments', () => {
  test.each<[JsonObject, JsonObject]>([
    [
      { accessToken: 'x', nested: { list: [{ 'client-secret': { a: 1 } }] } },
      { accessToken: '[redacted]', nested: { list: [{ 'client-secret': '[redacted]' }] } },
    ],
    [
      { pin: 4111111111111111, at: 1795000000000 },
      { pin: '[redacted:card]', at: '1795000000000' },
    ],
    [{ 'jane@acme.example': 1 }, { '[redacted:email]': 1 }],
    [
      { headers: [{ name: 'Authorization', value: 'x' }] },
      { headers: [{ name: 'Authorization', value: '[redacted]' }] },
    ],
    [{ headers: [['Cookie', 'a']] }, { headers: [['Cookie', '[redacted]']] }],
    [{ argv: ['login', '--password', 'hunter2', '-v'] }, { argv: ['login', '--password', '[redacted]', '-v'] }],
    [{ jwk: { kty: 'OKP', x: 'pub', d: 'priv' } }, { jwk: { kty: 'OKP', x: 'pub', d: '[redacted]' } }],
    [{ body: '{"token":"abc"}' }, { body: '{"token":[redacted]}' }],
    [
      { a: null, b: true, c: 1.5, d: '' },
      { a: null, b: true, c: 1.5, d: '' },
    ],
  ])('%j', (from, to) => expect(args(from)).toEqual(to))

  test('a member named __proto__ is a member like others', () => {
    const from = JSON.parse('{"__proto__":{"token":"abc"},"x":1}')
    expect(redactor.args(from, 'tool', 8000, new AsciiJson())).toBe('{"__proto__":{"token":"[redacted]"},"x":1}')
  })

  test('no patterns and no keys redact nothing', () => {
    const open = compileRedactor({ ...auditDefaults, redact: { keys: [], patterns: [] } })
    expect(open.args({ token: 'a@b.example' }, 'tool', 8000, new AsciiJson())).toBe('{"token":"a@b.example"}')
  })
})

/** Secrets that nobody could guess, of every kind that is recognised by its look. */
const letters = fc.string({
  unit: fc.constantFrom(...'abcdefghkmnpqrstuvwxyzABCDEFGHKMNPQRSTUVWXYZ23456789'),
  minLength: 24,
  maxLength: 40,
})
const upper = fc.string({ unit: fc.constantFrom(...'ABCDEFGHKMNPQRSTUVWXYZ234567'), minLength: 16, maxLength: 16 })
const card = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 14, maxLength: 14 }).map(digits => {
  const body = `4${digits.join('')}`
  return `${body}${[...'0123456789'].find(check => passesLuhn(body + check))}`
})
const secret = fc.oneof(
  letters.map(s => ({ written: `Bearer ${s}`, secret: s })),
  letters.map(s => ({ written: `eyJ${s}.eyJ${s}.${s}`, secret: s })),
  letters.map(s => ({ written: `${s.slice(0, 24)}@mail.example`, secret: s.slice(0, 24) })),
  card.map(s => ({ written: s, secret: s })),
  card.map(s => ({ written: s.replace(/(\d{4})(?=\d)/g, '$1 '), secret: s.slice(0, 4) + s.slice(4, 8) })),
  upper.map(s => ({ written: `AKIA${s}`, secret: s })),
  letters.map(s => ({ written: `ghp_${s}${s}`, secret: s })),
  letters.map(s => ({ written: `-----BEGIN PRIVATE KEY-----\n${s}\n-----END PRIVATE KEY-----`, secret: s })),
  letters.map(s => ({ written: `https://user:${s}@host.example/path`, secret: s })),
  letters.map(s => ({ written: `password=${s}`, secret: s })),
  letters.map(s => ({ written: `{"api_key": "${s}"}`, secret: s })),
  letters.map(s => ({ written: `https://h.example/?access_token=${s}`, secret: s })),
)
const encoded = fc.tuple(secret, fc.constantFrom('plain', 'percent', 'amid')).map(([{ written, secret: s }, form]) => ({
  secret: s,
  written: form === 'plain' ? written : form === 'percent' ? encodeURIComponent(written) : `see ${written} here`,
}))
const secretName = fc.constantFrom(
  'token',
  'X-Api-Key',
  'clientSecret',
  'db_password',
  'Set-Cookie',
  'privateKey',
  'credentials',
)

/** A value of JSON with the secret somewhere in it. */
function somewhere(written: string, s: string): fc.Arbitrary<JsonObject> {
  const { leaf } = fc.letrec<{ leaf: JsonValue }>(tie => ({
    leaf: fc.oneof(
      { maxDepth: 5 },
      fc.constant(written as JsonValue),
      fc.tuple(secretName, fc.constant(s)).map(([name, value]) => ({ [name]: value }) as JsonValue),
      fc.tuple(secretName, fc.constant(s)).map(([name, value]) => ({ name, value }) as JsonValue),
      fc.constant({ [written]: 1 } as JsonValue),
      fc.array(tie('leaf'), { maxLength: 3 }) as fc.Arbitrary<JsonValue>,
      fc.dictionary(fc.string({ maxLength: 5 }), tie('leaf'), {
        maxKeys: 3,
        noNullPrototype: true,
      }) as fc.Arbitrary<JsonValue>,
    ),
  }))
  return fc.record({ a: leaf, b: leaf }) as fc.Arbitrary<JsonObject>
}

const place = encoded.chain(({ written, secret: s }) =>
  fc.record({ written: fc.constant(written), s: fc.constant(s), value: somewhere(written, s) }),
)

function leaks(
  recorder: Recorder,
  written: string,
  value: JsonObject,
  put: (typeof PLACES)[number],
  refused: boolean,
): string {
  const refusal = refused
    ? { refusal: { reason: 'message_invalid' as const, detail: written }, outcome: undefined }
    : {}
  const exchange = { ...exchangeWith(), ...put(written), ...refusal }
  const messages = [{ ...(exchange.messages[0] as Message), args: value }]
  const line = recorder.exchange(refused ? 'mcp.refused' : 'mcp.call', { ...exchange, messages }, messages[0])
  // Grouped digits are the number all the same.
  return line.replace(/[ -]/g, '')
}

test('a secret at any place that a caller controls never gets into a line', () => {
  const recorder = recorderWith()
  fc.assert(
    fc.property(place, fc.constantFrom(...PLACES), fc.boolean(), ({ written, s, value }, put, refused) => {
      expect(leaks(recorder, written, value, put, refused)).not.toContain(s)
    }),
    { numRuns: 4000 },
  )
})

test('without redaction those secrets are there', () => {
  const open = recorderWith({ redact: { keys: [], patterns: [] } })
  fc.assert(
    fc.property(secret, fc.constantFrom(...PLACES.slice(1)), ({ written, secret: s }, put) => {
      expect(leaks(open, written, {}, put, false)).toContain(s.slice(0, 4))
    }),
  )
})

const PLACES: ((written: string) => Partial<Exchange>)[] = [
  () => ({}),
  written => ({ userAgent: written }),
  written => ({ forwardedFor: written }),
  written => ({ requestId: written }),
  // What is no traceparent never gets into an exchange; what follows one may be anything.
  written => ({ traceparent: `01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-${written}` }),
  written => ({ error: written }),
  written => ({ rpcError: { code: -1, message: `no: ${written}` } }),
  written => ({ messages: [toolCall(written)] }),
  written => ({ messages: [toolCall('x', {}, { method: written })] }),
  written => ({ messages: [toolCall('x', {}, { id: written })] }),
  written => ({ messages: [toolCall('x', {}, { version: written })] }),
  written => ({ messages: [toolCall('x', {}, { clientInfo: { name: written, version: written } })] }),
  written => ({ messages: [toolCall('x', {}, { objects: [{ kind: 'resource', name: written, normalized: '' }] })] }),
  written => ({ messages: [toolCall('x', {}, { objects: [{ kind: 'prompt', name: written, normalized: '' }] })] }),
]

test('the work for a text is bounded by its length, whatever is in it', () => {
  // Each of these once made a pattern go back over what it had read. Kept as long as a body may be.
  const bad = [
    'a',
    '@',
    '.@',
    'a@',
    ':',
    '://',
    '1 ',
    '1',
    'eyJ',
    'eyJ.',
    'sk-',
    'SG.',
    '-----BEGIN ',
    '%41',
    '%2541',
    '--a ',
    'token:',
    'cookie:',
    '"\\',
    'Bearer ',
  ]
  const out = new AsciiJson()
  for (const piece of bad) {
    const long = piece.repeat(Math.ceil(200_000 / piece.length))
    expect(
      redactor.args({ long, list: Array(100).fill(long.slice(0, 4000)) }, 'tool', 15_000, out).length,
    ).toBeLessThanOrEqual(15_000)
  }
})

import { beforeAll, describe, expect, test } from 'vitest'
import {
  hashOf,
  inCri,
  inDocker,
  logOf,
  rechain,
  rehash,
  type SigningKey,
  signingKey,
  verifyLines,
} from '../support/audit-log.ts'

let key: SigningKey
let other: SigningKey
/** Lines of one signed process: genesis, calls with checkpoints between them, closing line, its signature. */
let log: string[]
/** The same without a signing key: genesis, lines 2 to 31, closing line 32. */
let plain: string[]
let second: string[]
let foreignSigned: string[]

beforeAll(async () => {
  key = await signingKey()
  other = await signingKey()
  log = await logOf('signed', 30, key.signer)
  plain = await logOf('plain', 30)
  second = await logOf('second', 10, undefined, 1_795_100_000_000)
  foreignSigned = await logOf('signed', 30, other.signer)
})

const found = (files: Record<string, string[]>, options: Parameters<typeof verifyLines>[1] = {}): string[] =>
  verifyLines(files, options).problems.map(({ kind, file, line }) => `${kind} ${file}:${line}`)

const swap = (lines: string[], a: number, b: number): string[] => {
  const next = [...lines]
  next[a] = lines[b] as string
  next[b] = lines[a] as string
  return next
}
const without = (lines: string[], ...indexes: number[]): string[] => lines.filter((_, i) => !indexes.includes(i))
const edit = (lines: string[], at: number, from: string | RegExp, to: string): string[] => {
  const changed = (lines[at] as string).replace(from, to)
  expect(changed).not.toBe(lines[at])
  return lines.with(at, changed)
}
const insert = (lines: string[], at: number, ...more: string[]): string[] => lines.toSpliced(at, 0, ...more)

describe('what is untouched passes', () => {
  const intact: {
    name: string
    files: () => Record<string, string[]>
    options?: () => Parameters<typeof verifyLines>[1]
  }[] = [
    { name: 'one process', files: () => ({ a: plain }) },
    { name: 'with signatures', files: () => ({ a: log }), options: () => ({ key: key.publicKey }) },
    { name: 'signatures that nobody checks', files: () => ({ a: log }) },
    { name: 'two starts in one file', files: () => ({ a: [...plain, ...second] }) },
    {
      name: 'two processes interleaved',
      files: () => ({ a: plain.flatMap((line, i) => [line, ...second.slice(i, i + 1)]) }),
    },
    { name: 'rotated files', files: () => ({ a: plain.slice(0, 9), b: plain.slice(9, 20), c: plain.slice(20) }) },
    { name: 'as containerd keeps it', files: () => ({ a: inCri(plain) }) },
    { name: 'as containerd keeps it, in pieces', files: () => ({ a: inCri(plain, 100) }) },
    { name: 'as Docker keeps it', files: () => ({ a: inDocker(plain) }) },
    { name: 'as Docker keeps it, in pieces', files: () => ({ a: inDocker(plain, 100) }) },
    {
      name: 'beside what stderr said',
      files: () => ({ a: insert(inCri(plain), 4, '2026-11-21T01:02:03.1Z stderr F {"level":"info"}') }),
    },
    { name: 'while it still runs', files: () => ({ a: plain.slice(0, -3) }), options: () => ({ open: true }) },
    {
      name: 'without the head that was rotated away',
      files: () => ({ a: plain.slice(7) }),
      options: () => ({ from: hashOf(plain[6] as string) }),
    },
    { name: 'up to a number known from elsewhere', files: () => ({ a: plain }), options: () => ({ lastSeq: 32 }) },
  ]
  test.each(intact)('$name', ({ files, options }) => expect(found(files(), options?.())).toEqual([]))
})

interface Tampering {
  name: string
  files: () => Record<string, string[]>
  options?: () => Parameters<typeof verifyLines>[1]
  want: string[]
}
const signed = () => ({ key: key.publicKey })

describe('tampering is found, each kind by its name, with file and line', () => {
  const edits: Tampering[] = [
    { name: 'another user', files: () => ({ a: edit(plain, 4, '"id":"jane"', '"id":"john"') }), want: ['edited a:5'] },
    {
      name: 'another outcome',
      files: () => ({ a: edit(plain, 4, '"outcome":"success"', '"outcome":"refused"') }),
      want: ['edited a:5'],
    },
    {
      name: 'another tool',
      files: () => ({ a: edit(plain, 4, '"tool":"search"', '"tool":"delete"') }),
      want: ['edited a:5'],
    },
    { name: 'another argument', files: () => ({ a: edit(plain, 4, '"i":3', '"i":4') }), want: ['edited a:5'] },
    {
      name: 'another time',
      files: () => ({ a: edit(plain, 4, /"timestamp":"2026/, '"timestamp":"2025') }),
      want: ['edited a:5'],
    },
    { name: 'a member removed', files: () => ({ a: edit(plain, 4, /,"args":\{[^}]*\}/, '') }), want: ['edited a:5'] },
    {
      name: 'a member added',
      files: () => ({ a: edit(plain, 4, ',"outcome"', ',"count":2,"outcome"') }),
      want: ['edited a:5'],
    },
    { name: 'a space added', files: () => ({ a: edit(plain, 4, '{"address"', '{ "address"') }), want: ['edited a:5'] },
    {
      name: 'an escape spelt otherwise',
      files: () => ({ a: edit(plain, 4, '"jane"', '"j\\u0061ne"') }),
      want: ['edited a:5'],
    },
    {
      name: 'the genesis line',
      files: () => ({ a: edit(plain, 0, 'mcp-sidecar:1', 'mcp-sidecar:2') }),
      want: ['edited a:1'],
    },
    {
      name: 'the closing line',
      files: () => ({ a: edit(plain, 31, '"refused":0', '"refused":9') }),
      want: ['edited a:32'],
    },
    { name: 'its number', files: () => ({ a: edit(plain, 4, ',"seq":5,', ',"seq":6,') }), want: ['edited a:5'] },
    {
      name: 'its prev',
      files: () => ({ a: edit(plain, 4, /"prev":"..../, '"prev":"0000') }),
      want: ['edited a:5', 'rechained a:5'],
    },
    {
      name: 'its hash',
      files: () => ({ a: edit(plain, 4, /"hash":"....(.{60})"}}$/, '"hash":"0000$1"}}') }),
      want: ['edited a:5', 'rechained a:6'],
    },
    {
      name: 'its chain',
      files: () => ({ a: edit(plain, 4, '"id":"plain"', '"id":"other"') }),
      want: ['edited a:5', 'head a:5', 'gap a:6', 'truncated a:5'],
    },
    {
      name: 'in a piece of a line',
      files: () => ({ a: edit(inCri(plain, 100), 2, 'stdout P ', 'stdout P x') }),
      want: ['edited a:1'],
    },
    {
      name: 'a line feed of another system',
      files: () => ({ a: plain.map(line => `${line}\r`).slice(0, 2) }),
      want: ['foreign a:1', 'foreign a:2', 'empty a:0'],
    },
    {
      name: 'the end of a line cut off',
      files: () => ({ a: plain.with(4, (plain[4] as string).slice(0, -9)) }),
      want: ['foreign a:5', 'gap a:6'],
    },
    {
      name: 'the beginning of a line cut off',
      files: () => ({ a: plain.with(4, (plain[4] as string).slice(9)) }),
      want: ['foreign a:5', 'gap a:6'],
    },
    {
      name: 'two lines run together',
      files: () => ({ a: plain.toSpliced(4, 2, `${plain[4]}${plain[5]}`) }),
      want: ['edited a:5', 'gap a:5'],
    },
  ]
  const removals: Tampering[] = [
    { name: 'one line removed', files: () => ({ a: without(plain, 4) }), want: ['gap a:5'] },
    { name: 'several lines removed', files: () => ({ a: without(plain, 4, 5, 6) }), want: ['gap a:5'] },
    { name: 'lines removed at two places', files: () => ({ a: without(plain, 4, 9) }), want: ['gap a:5', 'gap a:9'] },
    { name: 'the genesis line removed', files: () => ({ a: without(plain, 0) }), want: ['head a:1'] },
    { name: 'the head removed', files: () => ({ a: plain.slice(10) }), want: ['head a:1'] },
    {
      name: 'the head removed, and another hash given',
      files: () => ({ a: plain.slice(10) }),
      options: () => ({ from: hashOf(plain[8] as string) }),
      want: ['head a:1'],
    },
    { name: 'the closing line removed', files: () => ({ a: plain.slice(0, -1) }), want: ['truncated a:31'] },
    { name: 'the end removed', files: () => ({ a: plain.slice(0, 10) }), want: ['truncated a:10'] },
    {
      name: 'the end of a running chain removed, whose number is known',
      files: () => ({ a: plain.slice(0, 10) }),
      options: () => ({ open: true, lastSeq: 12 }),
      want: ['truncated a:10'],
    },
    {
      name: 'the end of the first of two starts removed',
      files: () => ({ a: [...plain.slice(0, 20), ...second] }),
      want: ['truncated a:20'],
    },
    { name: 'a rotated file removed', files: () => ({ a: plain.slice(0, 9), c: plain.slice(20) }), want: ['gap c:1'] },
    { name: 'everything removed', files: () => ({ a: [] }), want: ['empty a:0'] },
    {
      name: 'the last piece of a line removed',
      files: () => ({ a: inCri(plain.slice(0, 2), 100).slice(0, -1) }),
      options: () => ({ open: true }),
      want: ['cut a:6'],
    },
    {
      name: 'a piece in the middle removed',
      files: () => ({ a: without(inCri(plain, 100), 1) }),
      want: ['edited a:1'],
    },
  ]
  const moves: Tampering[] = [
    { name: 'two neighbours swapped', files: () => ({ a: swap(plain, 4, 5) }), want: ['reordered a:6'] },
    {
      name: 'two distant lines swapped',
      files: () => ({ a: swap(plain, 4, 9) }),
      want: ['reordered a:6', 'reordered a:7', 'reordered a:8', 'reordered a:9', 'reordered a:10'],
    },
    { name: 'the genesis line moved', files: () => ({ a: swap(plain, 0, 1) }), want: ['head a:1', 'reordered a:2'] },
    {
      name: 'the closing line moved',
      files: () => ({ a: swap(plain, 30, 31) }),
      want: ['after-close a:32', 'reordered a:32'],
    },
    {
      name: 'rotated files in the wrong order',
      files: () => ({ b: plain.slice(9, 11), a: plain.slice(0, 9), c: plain.slice(11) }),
      want: ['head b:1', ...Array.from({ length: 9 }, (_, i) => `reordered a:${i + 1}`)],
    },
  ]
  const additions: Tampering[] = [
    { name: 'a line repeated', files: () => ({ a: insert(plain, 5, plain[4] as string) }), want: ['duplicate a:6'] },
    {
      name: 'an older line repeated',
      files: () => ({ a: insert(plain, 20, plain[4] as string) }),
      want: ['duplicate a:21'],
    },
    {
      name: 'the genesis line repeated',
      files: () => ({ a: insert(plain, 20, plain[0] as string) }),
      want: ['duplicate a:21'],
    },
    {
      name: 'a rotated file given twice',
      files: () => ({ a: plain.slice(0, 2), b: plain.slice(0, 2), c: plain.slice(2) }),
      want: ['duplicate b:1', 'duplicate b:2'],
    },
    {
      name: 'a made-up line',
      files: () => ({
        a: insert(
          plain,
          5,
          rehash((plain[4] as string).replace('jane', 'john'), { seq: 6, prev: hashOf(plain[4] as string) }),
        ),
      }),
      want: ['inserted a:7', 'rechained a:8'],
    },
    {
      name: 'a line of another log',
      files: () => ({ a: insert(plain, 5, '{"timestamp":"2026-11-21T00:00:00.000Z","level":"info"}') }),
      want: ['foreign a:6'],
    },
    { name: 'text', files: () => ({ a: insert(plain, 5, 'Segmentation fault') }), want: ['foreign a:6'] },
    { name: 'an empty line', files: () => ({ a: insert(plain, 5, '') }), want: ['foreign a:6'] },
    {
      name: 'a line after the closing line',
      files: () => ({ a: [...plain, rehash(plain[4] as string, { seq: 33, prev: hashOf(plain[31] as string) })] }),
      want: ['after-close a:33'],
    },
    {
      name: 'a line of another chain',
      files: () => ({ a: insert(plain, 5, second[4] as string) }),
      want: ['head a:6', 'truncated a:6'],
    },
  ]
  const forgeries: Tampering[] = [
    {
      name: 'one line edited and hashed anew',
      files: () => ({ a: plain.with(4, rehash((plain[4] as string).replace('jane', 'john'))) }),
      want: ['rechained a:6'],
    },
    {
      name: 'one line hashed anew, the next one linked to it',
      files: () => {
        const a = [...plain]
        a[4] = rehash((plain[4] as string).replace('jane', 'john'))
        a[5] = rehash(plain[5] as string, { prev: hashOf(a[4]) })
        return { a }
      },
      want: ['rechained a:7'],
    },
    {
      name: 'one line removed and the rest numbered anew',
      files: () => ({ a: rechain(without(plain, 4)) }),
      want: ['count a:31'],
    },
    {
      name: 'a first line that is no genesis',
      files: () => ({ a: rechain(without(plain, 0)) }),
      want: ['genesis a:1', 'count a:31'],
    },
    {
      name: 'a second genesis',
      files: () => ({ a: rechain(insert(plain, 5, plain[0] as string)) }),
      want: ['genesis a:6', 'count a:33'],
    },
    {
      name: 'a first line that refers to another',
      files: () => ({ a: plain.with(0, rehash(plain[0] as string, { prev: 'ab'.repeat(32) })) }),
      want: ['genesis a:1', 'rechained a:2'],
    },
    {
      name: 'signed, then everything after an edit chained anew',
      files: () => ({ a: rechain(edit(log, 4, 'jane', 'john')) }),
      options: signed,
      want: ['forged'],
    },
    {
      name: 'signed, then everything chained anew, and nobody has the key',
      files: () => ({ a: rechain(edit(log, 4, 'jane', 'john')) }),
      want: ['forged'],
    },
    { name: 'signed by another key', files: () => ({ a: foreignSigned }), options: signed, want: ['signature'] },
    {
      name: 'signatures taken from another chain',
      files: () => ({ a: rechain(log.map(line => line.replaceAll('"id":"signed","prev"', '"id":"stolen","prev"'))) }),
      options: signed,
      want: ['signature'],
    },
    {
      name: 'checkpoints removed and the rest chained anew',
      files: () => ({ a: rechain(log.filter(line => !line.includes('audit.checkpoint'))) }),
      options: signed,
      want: ['unsigned'],
    },
    { name: 'the last signature removed', files: () => ({ a: log.slice(0, -1) }), options: signed, want: ['unsigned'] },
    { name: 'a log that never was signed', files: () => ({ a: plain }), options: signed, want: ['unsigned a:32'] },
    {
      name: 'the closing line edited and the last checkpoint chained to it',
      files: () => ({ a: rechain(edit(log, log.length - 2, '"refused":0', '"refused":1'), log.length - 2) }),
      options: signed,
      want: ['forged'],
    },
    {
      name: 'a checkpoint that signs nothing',
      files: () => ({ a: rechain(log.map(line => line.replace(/"signature":"[^"]*"/, '"signature":""'))) }),
      options: signed,
      want: ['signature'],
    },
  ]
  const all = [...edits, ...removals, ...moves, ...additions, ...forgeries]
  test.each(all)('$name', ({ files, options, want }) => {
    const problems = found(files(), options?.())
    // A forger's traces depend on where the checkpoints fell; the kind is what has to be told.
    if (want.every(item => item.includes(':'))) expect(problems).toEqual(want)
    else expect(problems.map(problem => problem.split(' ')[0])).toContain(want[0])
  })
  test('there are more than fifty', () => expect(all.length).toBeGreaterThanOrEqual(50))
})

test('who chains everything anew without leaving a count is shown only by a signature or by a hash known from elsewhere', () => {
  const forged = rechain(edit(plain, 4, 'jane', 'john'))
  expect(found({ a: forged })).toEqual([])
  expect(verifyLines({ a: forged }).chains[0]?.lastHash).not.toBe(verifyLines({ a: plain }).chains[0]?.lastHash)
  expect(found({ a: forged }, signed())).toEqual(['unsigned a:32'])
})

test('lines that the sidecar itself did not write are told, and are no problem', () => {
  const gap =
    '{"timestamp":"2026-11-21T00:00:00.000Z","kind":"audit","event":"audit.gap","count":12,"seq":0,"chain":{"id":"plain","prev":"","hash":""}}'
  const chained = gap
    .replace('"prev":""', `"prev":"${'0'.repeat(64)}"`)
    .replace('"hash":""', `"hash":"${'0'.repeat(64)}"`)
  const lines = rechain(insert(plain.slice(0, -1), 5, chained))
  const report = verifyLines({ a: lines }, { open: true })
  expect(report.problems).toEqual([])
  expect(report.chains[0]?.dropped).toBe(12)
})

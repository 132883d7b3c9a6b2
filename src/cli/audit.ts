import { createPublicKey, type KeyObject } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError } from 'commander'
import { Unwrapper } from '../core/audit/unwrap.ts'
import { Verifier } from '../core/audit/verify.ts'
import type { ChainReport, Report } from '../core/audit/verify-report.ts'
import { firstTimestamp, readLines } from '../edge/log-file.ts'
import { CliError, type CliIo, type CliOutput, oneLine, styles } from './io.ts'

interface VerifyArguments {
  open: boolean
  from?: string
  key?: string
  lastSeq?: number
}

/** `mcp-sidecar audit verify FILE…`: whether anything in the audit lines was changed, removed, moved or added. */
export function registerAudit(program: Command, io: CliIo): void {
  program
    .command('audit')
    .description('verify audit lines')
    .command('verify')
    .argument(
      '<file...>',
      "audit lines as written to stdout, as a container runtime kept them, or their rotations ('.gz' too)",
    )
    .description('verify the hash chain: edits, gaps, reorderings, truncation')
    .option('--open', 'accept a last chain that still runs: it needs no closing line', false)
    .option('--from <hash>', 'the head was rotated away; <hash> is that of the line before the first one', hex)
    .option('--key <file>', 'public key (PEM) of the checkpoints: shows what was written anew, too')
    .option('--last-seq <n>', 'the last chain is known to have reached this (mcp_sidecar_audit_last_seq)', wholeNumber)
    .addHelpText('after', HELP)
    .action((files: string[], options: VerifyArguments) => verifyFiles(files, options, io))
}

const HELP = `
Several files are one log; they are read in the order of their first lines. Without --key the chain shows accidents and
edits, not a forger who wrote everything after his edit anew.`

async function verifyFiles(files: readonly string[], options: VerifyArguments, io: CliIo): Promise<void> {
  const found = await inOrder(files, io)
  const key = options.key === undefined ? undefined : await publicKey(options.key, io)
  const { open, from, lastSeq } = options
  const verifier = new Verifier({ open, from, key, lastSeq, firstFile: files[0] as string })
  const progress = new Progress(
    io.stderr,
    found.reduce((sum, { bytes }) => sum + bytes, 0),
  )
  for (const file of found) {
    const unwrapper = new Unwrapper()
    const cut = await readLines(
      file.path,
      (line, number) => {
        const unwrapped = unwrapper.unwrap(line, number)
        if (unwrapped.kind === 'line') verifier.line(unwrapped.bytes, { file: file.name, line: unwrapped.number })
      },
      read => progress.show(read),
    ).catch((error: NodeJS.ErrnoException) => {
      throw new CliError(1, `cannot read ${file.name}: ${error.code ?? error.message}`)
    })
    const piece = unwrapper.end()
    if (piece !== undefined) {
      verifier.broken({ file: file.name, line: piece.from }, 'a line of which the last piece is missing')
    }
    if (cut !== undefined) {
      const place = { file: file.name, line: cut.number }
      verifier.broken(place, `the file ends in the middle of a line, ${cut.rest.length} bytes after its beginning`)
    }
    progress.fileDone(file.bytes)
  }
  progress.clear()
  const report = verifier.end()
  print(report, options, io)
  io.exit(report.problemCount === 0 ? 0 : 1)
}

function print(report: Report, options: VerifyArguments, io: CliIo): void {
  const { red, green, yellow, dim } = styles(io.stdout, io.env)
  for (const { kind, file, line, message } of report.problems) {
    io.stdout.write(`${red(kind.padEnd(11))} ${file}:${line}  ${oneLine(message)}\n`)
  }
  const hidden = report.problemCount - report.problems.length
  if (hidden > 0) io.stdout.write(`… and ${hidden} more\n`)
  for (const chain of report.chains) io.stdout.write(dim(`${describe(chain, options)}\n`))
  for (const { id, dropped } of report.chains) {
    if (dropped > 0)
      io.stdout.write(yellow(`chain ${id}: the sidecar itself recorded that ${dropped} lines were not written\n`))
  }
  if (options.key === undefined && report.chains.some(chain => chain.signingKey !== undefined)) {
    io.stdout.write(
      yellow('the checkpoints are signed; give the public key with --key to have the signatures checked\n'),
    )
  }
  const verdict = report.problemCount === 0 ? green('intact') : red(count(report.problemCount, 'problem'))
  io.stdout.write(`${verdict}: ${count(report.lines, 'line')} in ${count(report.chains.length, 'chain')}\n`)
}

function describe(chain: ChainReport, { key }: VerifyArguments): string {
  const end = chain.closed ? 'closed' : 'open'
  const signed = key === undefined ? '' : `, signed up to ${chain.signed}`
  return `chain ${chain.id}: lines ${chain.first} to ${chain.last}, ${end}${signed}, last hash ${chain.lastHash}`
}

function count(n: number, what: string): string {
  return `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`
}

interface LogFile {
  readonly name: string
  readonly path: string
  readonly bytes: number
  readonly begins: string | undefined
}

/** A shell's `*` puts the newest of rotated files first; their first lines say in which order they were written. */
async function inOrder(names: readonly string[], io: CliIo): Promise<LogFile[]> {
  const files = await Promise.all(
    names.map(async name => {
      const path = resolve(io.cwd, name)
      try {
        const { size } = await stat(path)
        // One file is in order as it is, and may be a pipe: looking at how it begins would take that out of it.
        return { name, path, bytes: size, begins: names.length > 1 ? await firstTimestamp(path) : undefined }
      } catch (error) {
        throw new CliError(1, `cannot read ${name}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`)
      }
    }),
  )
  // A file without any audit line stays behind the one that it was named after; sorting is stable.
  let before = ''
  const placed = files.map(file => {
    before = file.begins ?? before
    return { file, begins: before }
  })
  placed.sort((a, b) => (a.begins < b.begins ? -1 : a.begins > b.begins ? 1 : 0))
  return placed.map(({ file }) => file)
}

async function publicKey(name: string, io: CliIo): Promise<KeyObject> {
  try {
    const key = createPublicKey(await readFile(resolve(io.cwd, name), 'utf8'))
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'EACCES') throw new CliError(2, `cannot read ${name}: ${code}`)
  }
  throw new CliError(2, `${name} holds no Ed25519 key in PEM`)
}

function hex(value: string): string {
  if (!/^[0-9a-f]{64}$/i.test(value)) throw new InvalidArgumentError('64 hexadecimal digits.')
  return value.toLowerCase()
}

function wholeNumber(value: string): number {
  const n = Number(value)
  if (!Number.isSafeInteger(n) || n < 1) throw new InvalidArgumentError('a whole number from 1.')
  return n
}

/** A bar on a terminal, nothing when piped. */
class Progress {
  readonly #out: CliOutput
  readonly #total: number
  #before = 0
  #shown = -1

  constructor(out: CliOutput, total: number) {
    this.#out = out
    this.#total = total
  }

  /** @param read  Bytes of the file that is being read. */
  show(read: number): void {
    if (!this.#out.isTTY || this.#total < 4 << 20) return
    const percent = Math.min(100, Math.floor(((this.#before + read) / this.#total) * 100))
    if (percent === this.#shown) return
    this.#shown = percent
    const width = Math.max(10, Math.min(50, this.#out.columns - 12))
    const done = Math.round((percent / 100) * width)
    this.#out.write(`\r[${'='.repeat(done)}${' '.repeat(width - done)}] ${String(percent).padStart(3)} %`)
  }

  fileDone(bytes: number): void {
    this.#before += bytes
  }

  clear(): void {
    if (this.#shown >= 0) this.#out.write('\r\u001b[K')
  }
}

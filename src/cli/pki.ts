import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { join, relative, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { mintDevPki } from '../edge/pki.ts'
import { CliError, type CliIo } from './io.ts'

interface PkiArguments {
  out: string
  dns: string[]
  ip: string[]
  days: number
  keyType: 'ec-p256' | 'ec-p384' | 'rsa-2048' | 'ed25519'
  force: boolean
}

/** `mcp-sidecar pki --out DIR`: a development CA with server, gateway and stranger certificates. */
export function registerPki(program: Command, io: CliIo): void {
  program
    .command('pki')
    .description('mint a development CA with server, gateway and stranger certificates (never for production)')
    .requiredOption('--out <dir>', 'directory to write to; created when it is missing')
    .option('--dns <name>', 'one more DNS name of the server; repeatable', collect, [])
    .option('--ip <address>', 'one more IP address of the server; repeatable', collectAddress, [])
    .option('--days <n>', 'how long the certificates are valid', wholeDays, 90)
    .addOption(
      new Option('--key-type <type>', 'kind of key')
        .choices(['ec-p256', 'ec-p384', 'rsa-2048', 'ed25519'])
        .default('ec-p256'),
    )
    .option('--force', 'write over what is there', false)
    .action((options: PkiArguments) => writePki(options, io))
}

async function writePki(options: PkiArguments, io: CliIo): Promise<void> {
  const dir = resolve(io.cwd, options.out)
  if (!options.force && existsSync(join(dir, 'ca.key'))) {
    throw new CliError(1, `${options.out} already holds a CA; take another directory, or --force to replace it`)
  }
  const pki = await mintDevPki(dir, {
    keyType: options.keyType,
    dns: options.dns,
    ips: options.ip,
    days: options.days,
    overwrite: options.force,
  }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === undefined) throw error
    throw new CliError(1, `cannot write ${error.path ?? options.out}: ${error.code}`)
  })
  const shown = (file: string) => join(options.out, relative(dir, file))
  io.stdout.write(`${shown(pki.ca.cert)}  the CA that signs them; tls.clientCa of the sidecar, CA of the gateway\n`)
  for (const identity of pki.identities) {
    io.stdout.write(`${shown(identity.cert)}  ${identity.uri}  ${identity.about}\n`)
  }
  io.stdout.write(`Each with its tls.key beside it, valid for ${options.days} days.\n`)
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

function collectAddress(value: string, before: string[]): string[] {
  if (isIP(value) === 0) throw new InvalidArgumentError('not an IP address.')
  return [...before, value]
}

function wholeDays(value: string): number {
  const days = Number(value)
  if (!Number.isInteger(days) || days < 1 || days > 3650) throw new InvalidArgumentError('a number from 1 to 3650.')
  return days
}

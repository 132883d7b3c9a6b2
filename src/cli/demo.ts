import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { mintDevPki } from '../edge/pki.ts'
import { startDemoServer } from './demo/server.ts'
import { byHand, demoConfig } from './demo/setting.ts'
import { startDemoSidecar } from './demo/sidecar-process.ts'
import { tellStory } from './demo/story.ts'
import { CliError, type CliIo, styles } from './io.ts'

interface DemoFlags {
  once: boolean
  dir?: string
}

/** `mcp-sidecar demo`: the whole story on this machine, with nothing faked. */
export function registerDemo(program: Command, io: CliIo): void {
  program
    .command('demo')
    .description(
      'the whole story on this machine: dev PKI, a real MCP server, the sidecar, a real MCP client over mTLS',
    )
    .option('--once', 'end after the story; exit 1 when it did not go as told', false)
    .option('--dir <folder>', 'where certificates, configuration and audit log go (default: a temporary folder)')
    .action((flags: DemoFlags) =>
      demo(flags, io).catch((error: NodeJS.ErrnoException) => {
        if (error.code === undefined || error.path === undefined) throw error
        throw new CliError(1, `cannot write ${error.path}: ${error.code}`)
      }),
    )
}

async function demo(flags: DemoFlags, io: CliIo): Promise<void> {
  const { bold, dim, green, red } = styles(io.stdout, io.env)
  const say = (text = '') => io.stdout.write(`${text}\n`)
  const folder =
    flags.dir === undefined ? await mkdtemp(join(tmpdir(), 'mcp-sidecar-demo-')) : resolve(io.cwd, flags.dir)
  await mkdir(folder, { recursive: true })
  const leaving: (() => Promise<unknown>)[] = []
  try {
    say(bold('mcp-sidecar demo'))
    say()
    const pki = await mintDevPki(join(folder, 'pki'), { overwrite: true })
    say(`certificates   ${pki.dir}  ${dim('a CA, a server, a gateway, and a stranger from another CA')}`)
    const server = await startDemoServer()
    leaving.push(() => server.stop())
    say(`MCP server     http://127.0.0.1:${server.port}/mcp  ${dim('loopback only, as beside a sidecar in a pod')}`)
    const configFile = join(folder, 'sidecar.yaml')
    const config = await demoConfig(folder, pki, server.port)
    await writeFile(configFile, config.text)
    const sidecar = await startDemoSidecar({
      io,
      configFile,
      adminPort: config.adminPort,
      log: join(folder, 'audit.log'),
    })
    leaving.push(() => sidecar.stop())
    say(`sidecar        https://localhost:${config.port}/mcp  ${dim(`mutual TLS; configured by ${configFile}`)}`)
    say()

    const wentAsTold = await tellStory({ io, pki, port: config.port, sidecar })
    const verified = await sidecar.verifyLog()
    const isKept = !flags.once || flags.dir !== undefined
    say(`${bold('The log')}${isKept ? `  ${sidecar.logFile}` : ''}`)
    say(`   ${verified.ok ? green(verified.text) : red(verified.text)}  ${dim('by mcp-sidecar audit verify --open')}`)
    say()
    if (!wentAsTold || !verified.ok) {
      throw new CliError(1, ['the story did not go as it should have', ...sidecar.complaints()])
    }
    if (flags.once) return
    say(byHand({ io, folder, pki, configFile, port: config.port, adminPort: config.adminPort }))
    await signalled(io, sidecar.ended)
    say()
  } finally {
    for (const leave of leaving.reverse()) await leave()
    if (flags.dir === undefined) await rm(folder, { recursive: true, force: true })
  }
}

/** Waits for Ctrl-C, or for the sidecar to end by itself. */
async function signalled(io: CliIo, ended: Promise<unknown>): Promise<void> {
  const undo: (() => void)[] = []
  const interrupt = new Promise<void>(done => {
    undo.push(io.onSignal('SIGINT', done), io.onSignal('SIGTERM', done))
  })
  await Promise.race([interrupt, ended])
  for (const off of undo) off()
}

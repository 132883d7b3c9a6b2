#!/usr/bin/env node
import { type CliIo, type CliOutput, complain } from './cli/io.ts'
import { runProgram } from './cli/program.ts'

/** The only file that touches `process`: arguments, environment and streams in, exit code out. */

const io: CliIo = {
  stdout: output(process.stdout),
  stderr: output(process.stderr),
  stdin,
  env: process.env,
  cwd: process.cwd(),
  exit: code => {
    process.exitCode = code
  },
  onSignal: (signal, handler) => {
    process.on(signal, handler)
    return () => process.off(signal, handler)
  },
  self: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
}

try {
  process.exitCode = await runProgram(process.argv.slice(2), io)
} catch (error) {
  // A bug, not a mistake of the user: the stack is wanted, and a status that is none of ours.
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  complain(io, 'this is a fault of mcp-sidecar, please report it')
  process.exitCode = 70
}
leave()

function output(stream: NodeJS.WriteStream): CliOutput {
  // A reader that leaves early (`| head`) is no fault of ours; whoever must know of it listens by itself.
  stream.on('error', () => undefined)
  return {
    write: text => void stream.write(text),
    isTTY: stream.isTTY === true,
    get columns() {
      return stream.columns ?? 80
    },
    stream,
  }
}

async function stdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

/** Ends the process once its output is with the kernel, but not later than in a second: a stalled reader keeps nobody. */
function leave(): void {
  setTimeout(() => process.exit(), 1000).unref()
  process.stdout.write('', (error?: NodeJS.ErrnoException | null) => {
    // A disk that is full has half a manifest, and whoever goes on by our status must not take it for a whole one.
    if (error && error.code !== 'EPIPE') {
      complain(io, `the output could not be written (${error.code ?? error.message})`)
      process.exitCode ||= 1
    }
    process.stderr.write('', () => process.exit())
  })
}

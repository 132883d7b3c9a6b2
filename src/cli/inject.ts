import { readdir, readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  type Change,
  defaultInjectOptions,
  type InjectOptions,
  isEnvName,
  isImage,
  isObjectName,
  isQuantity,
  type ManifestProblem,
  type Need,
  portOf,
} from '../core/manifest/options.ts'
import { injectManifest, uninjectManifest } from '../core/manifest/stream.ts'
import { version } from '../version.ts'
import { CliError, type CliIo, oneLine, styles } from './io.ts'

/** `mcp-sidecar inject` and `mcp-sidecar uninject`: manifests in on stdin or from files, manifests out on stdout. */
export function registerInject(program: Command, io: CliIo): void {
  const inject = program
    .command('inject')
    .description('put the sidecar into the workloads of a stream of manifests, and say on stderr what changed')
    .addHelpText('after', EXAMPLES)
  addInputOptions(inject)
  addInjectOptions(inject)
  inject.action((flags: InputFlags & InjectFlags) => runInject(flags, io))
  const uninject = program
    .command('uninject')
    .description('take the sidecar out again and put back everything that inject had changed')
  addInputOptions(uninject)
  uninject.action((flags: InputFlags) => runUninject(flags, io))
}

export interface InputFlags {
  filename: string[]
  quiet: boolean
  namespace?: string
}

export interface InjectFlags {
  image?: string
  classic: boolean
  annotated: boolean
  upstreamPort?: number
  upstreamContainer?: string
  listenPort: number
  adminPort: number
  certificate?: string
  trust: string
  config: string
  listenEnv?: string
  socketEnv?: string
  connections: number
  cpuLimit: string
  memoryLimit?: string
  appPrestop: InjectOptions['appPreStop']
  withCertificate: boolean
  issuer?: string
  clusterIssuer?: string
}

const EXAMPLES = `
Examples:
  mcp-sidecar inject -f deployment.yaml | kubectl apply -f -
  kubectl get deploy web -o yaml | mcp-sidecar inject --listen-env HOST | kubectl apply -f -
  mcp-sidecar inject -f k8s/ --with-certificate --issuer internal-ca --namespace shop

Annotations on the pod template win over flags; each flag has one of its name: mcp-sidecar.io/upstream-port,
listen-env, socket-env, certificate, trust, config, image, connections, …
`

function addInputOptions(command: Command): void {
  command
    .option('-f, --filename <file>', 'manifest or folder of manifests, "-" for stdin; repeatable', collect, [])
    .option('-n, --namespace <name>', 'namespace of objects that name none', named)
    .option('-q, --quiet', 'say nothing about changes', false)
}

function addInjectOptions(command: Command): void {
  const defaults = defaultInjectOptions(version())
  command
    .option('--image <reference>', `image of the sidecar (default: ${defaults.image})`, image)
    .option('--upstream-port <port>', 'port that the MCP server listens on', port)
    .option('--upstream-container <name>', 'container of the MCP server, when several could be')
    .option('--listen-env <name>', 'variable that tells the server its address; set to 127.0.0.1', environment)
    .option('--socket-env <name>', 'variable that tells the server a unix socket to listen on', environment)
    .option('--certificate <secret>', 'Secret with tls.crt and tls.key (default: <name>-mcp-sidecar-tls)', named)
    .option('--trust <configmap>', 'ConfigMap with ca.crt, the CA of the clients', named, defaults.trust)
    .option('--config <configmap>', 'ConfigMap with config.yaml', named, defaults.config)
    .option('--with-certificate', 'emit cert-manager Certificates, signed by --issuer or --cluster-issuer', false)
    .option('--issuer <name>', 'Issuer for --with-certificate', named)
    .option('--cluster-issuer <name>', 'ClusterIssuer for --with-certificate', named)
    .option('--listen-port <port>', 'port of the sidecar for mTLS', port, defaults.listenPort)
    .option('--admin-port <port>', 'port of the sidecar for probes and metrics', port, defaults.adminPort)
    .option('--connections <n>', 'open connections; the memory limit follows from it', positive, defaults.connections)
    .option('--memory-limit <quantity>', 'memory limit instead of the one that follows from --connections', quantity)
    .option('--cpu-limit <quantity>', 'CPU limit, or "none"', cpuLimit, defaults.cpuLimit ?? 'none')
    .addOption(
      new Option('--app-prestop <how>', 'how the server waits while the pod leaves its Service')
        .choices(['auto', 'sleep', 'exec', 'none'])
        .default('auto'),
    )
    .option('--annotated', 'only workloads with mcp-sidecar.io/inject: "true"', false)
    .option('--classic', 'a plain container instead of a native sidecar, for Kubernetes before 1.29', false)
}

async function runInject(flags: InputFlags & InjectFlags, io: CliIo): Promise<void> {
  const options = injectOptionsFrom(flags)
  const text = await readInput(flags, io)
  const injected = injectManifest(text, options)
  if (!injected.ok) throw new CliError(1, injected.error.map(problemLine))
  io.stdout.write(injected.value.text)
  if (!flags.quiet) {
    explainChanges(injected.value.changes, io)
    explainNeeds(injected.value.needs, flags.withCertificate, io)
  }
  io.exit(0)
}

async function runUninject(flags: InputFlags, io: CliIo): Promise<void> {
  const restored = uninjectManifest(await readInput(flags, io), flags.namespace)
  if (!restored.ok) throw new CliError(1, restored.error.map(problemLine))
  io.stdout.write(restored.value.text)
  if (!flags.quiet) explainChanges(restored.value.changes, io)
  io.exit(0)
}

/** Options of the pure injector from the flags of the command line. */
export function injectOptionsFrom(flags: InputFlags & InjectFlags): InjectOptions {
  const { issuer, clusterIssuer } = flags
  if (issuer !== undefined && clusterIssuer !== undefined) throw new CliError(2, '--issuer excludes --cluster-issuer')
  if (flags.withCertificate && issuer === undefined && clusterIssuer === undefined) {
    throw new CliError(2, '--with-certificate needs --issuer or --cluster-issuer')
  }
  if (flags.listenEnv !== undefined && flags.socketEnv !== undefined) {
    throw new CliError(2, '--listen-env excludes --socket-env: the server listens on one of the two')
  }
  const { cpuLimit: _default, ...defaults } = defaultInjectOptions(version())
  return {
    ...defaults,
    ...given({
      image: flags.image,
      namespace: flags.namespace,
      upstreamPort: flags.upstreamPort,
      upstreamContainer: flags.upstreamContainer,
      certificate: flags.certificate,
      listenEnv: flags.listenEnv,
      socketEnv: flags.socketEnv,
      memoryLimit: flags.memoryLimit,
      cpuLimit: flags.cpuLimit === 'none' ? undefined : flags.cpuLimit,
    }),
    trust: flags.trust,
    config: flags.config,
    listenPort: flags.listenPort,
    adminPort: flags.adminPort,
    connections: flags.connections,
    appPreStop: flags.appPrestop,
    mode: flags.classic ? 'classic' : 'native',
    select: flags.annotated ? 'annotated' : 'all',
    ...(flags.withCertificate
      ? { issuer: issuer === undefined ? clusterIssuerOf(clusterIssuer) : { name: issuer, kind: 'Issuer' } }
      : {}),
  }
}

function clusterIssuerOf(name: string | undefined): { name: string; kind: 'ClusterIssuer' } {
  return { name: name as string, kind: 'ClusterIssuer' }
}

function given<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never
}

async function readInput(flags: InputFlags, io: CliIo): Promise<string> {
  const names = flags.filename.length === 0 ? ['-'] : flags.filename
  const texts: string[] = []
  for (const name of names) {
    if (name === '-') texts.push(await io.stdin())
    else texts.push(...(await readFileOrFolder(name, io)))
  }
  if (texts.every(text => text.trim() === '')) throw new CliError(2, 'there is no manifest to read')
  return texts.reduce(joined)
}

async function readFileOrFolder(name: string, io: CliIo): Promise<string[]> {
  const path = resolve(io.cwd, name)
  try {
    if (!(await stat(path)).isDirectory()) return [await readFile(path, 'utf8')]
    const files = (await readdir(path)).filter(file => /\.(?:ya?ml|json)$/.test(file)).toSorted()
    return await Promise.all(files.map(file => readFile(join(path, file), 'utf8')))
  } catch (error) {
    throw new CliError(2, `cannot read ${name}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`)
  }
}

/** Two files are two documents, also when the second does not begin with a marker. */
function joined(first: string, file: string): string {
  if (first === '') return file
  // Inside a stream a byte order mark would be part of the first key, and the workload in it none that is known.
  const second = file.replace(/^\ufeff/, '')
  const start = first.endsWith('\n') ? first : `${first}\n`
  return /^(?:\s*#[^\n]*\n|\s*\n)*---(?:\s|$)/.test(second) ? `${start}${second}` : `${start}---\n${second}`
}

function problemLine(problem: ManifestProblem): string {
  const where = [problem.line === undefined ? '' : `line ${problem.line}`, problem.object, problem.path]
  return `${where.filter(part => part !== '').join(' ')}: ${problem.message}`
}

function explainChanges(changes: readonly Change[], io: CliIo): void {
  const style = styles(io.stderr, io.env)
  const mark = { change: style.green('~'), note: style.dim('i'), warning: style.yellow('!') }
  let last: string | undefined
  for (const { object, path, level, message } of changes) {
    if (object !== last) io.stderr.write(`${style.bold(oneLine(object))}\n`)
    last = object
    io.stderr.write(`  ${mark[level]} ${path === '' ? '' : `${oneLine(path)}: `}${oneLine(message)}\n`)
  }
  if (!changes.some(change => change.level === 'change')) io.stderr.write('nothing to change\n')
}

function explainNeeds(needs: readonly Need[], withCertificate: boolean, io: CliIo): void {
  const missing = needs.filter(need => !(withCertificate && need.kind === 'Secret'))
  if (missing.length === 0) return
  io.stderr.write(`${styles(io.stderr, io.env).bold('These must exist in the namespace before the pods start:')}\n`)
  for (const { kind, name, namespace, keys, purpose } of missing) {
    const place = namespace === undefined ? '' : ` in ${namespace}`
    io.stderr.write(`  ${kind} ${name}${place} with ${keys.join(' and ')}: ${purpose}\n`)
  }
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

function port(value: string): number {
  const number = portOf(value)
  if (number === undefined) throw new InvalidArgumentError('a port from 1 to 65535.')
  return number
}

function positive(value: string): number {
  if (!/^[1-9][0-9]{0,6}$/.test(value)) throw new InvalidArgumentError('a whole number above 0.')
  return Number(value)
}

/** Empty is what `--image "$IMAGE"` gives when nobody has set it. */
function image(value: string): string {
  if (!isImage(value)) throw new InvalidArgumentError('not an image reference.')
  return value
}

function named(value: string): string {
  if (!isObjectName(value)) throw new InvalidArgumentError('not a name that Kubernetes takes.')
  return value
}

function environment(value: string): string {
  if (!isEnvName(value)) throw new InvalidArgumentError('not the name of an environment variable.')
  return value
}

function quantity(value: string): string {
  if (!isQuantity(value)) throw new InvalidArgumentError('a quantity such as 256Mi or 500m.')
  return value
}

function cpuLimit(value: string): string {
  return value === 'none' ? value : quantity(value)
}

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { basename, dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild'

/**
 * Bundles the program into `dist/`: one entry `mcp-sidecar.mjs`, with what it loads only when it is needed in chunks beside
 * it, and the commands in `commands/`. All but `run`, that is: the parts that it shares with another command would be a
 * chunk each, some thirty files where two are enough, and that is a twentieth of the time to ready. So the commands have
 * copies of what they share with it.
 *
 *   node scripts/build.ts [--out DIR] [--no-sourcemap] [--metafile FILE]
 */
const { values } = parseArgs({
  allowNegative: true,
  options: {
    out: { type: 'string', default: 'dist' },
    sourcemap: { type: 'boolean', default: true },
    metafile: { type: 'string' },
  },
})
const root = new URL('..', import.meta.url).pathname
const out = resolve(root, values.out)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })

/** Of zod's fifty languages one is spoken here; the others would be read at each start. */
const oneLanguage: Plugin = {
  name: 'one-language',
  setup(bundler) {
    bundler.onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, ({ path }) => ({
      contents: "export { default as en } from './en.js'",
      resolveDir: dirname(path),
    }))
  },
}

/**
 * A module of Node that is imported has all its exports read, lazy ones too: `node:http` then loads the whole of fetch
 * and WebSocket, `node:crypto` Web Crypto, `node:fs` its streams, at each start. By this way only what is asked for is
 * loaded. What CommonJS packages require is loaded when they use it, which most of it they never do here.
 */
const lazyBuiltins: Plugin = {
  name: 'lazy-builtins',
  setup(bundler) {
    bundler.onResolve({ filter: /^[a-z0-9:_/]+$/ }, ({ path, kind }) => {
      if (!isBuiltin(path)) return undefined
      const name = path.replace(/^(?!node:)/, 'node:')
      if (kind !== 'require-call') return { path: name, namespace: 'lazy-builtin', sideEffects: false }
      return LATE.has(name) ? { path: name, namespace: 'late-builtin' } : undefined
    })
    bundler.onLoad({ filter: /.*/, namespace: 'lazy-builtin' }, ({ path }) => {
      const exported = Object.entries(Object.getOwnPropertyDescriptors(process.getBuiltinModule(path)))
      const eager = exported.filter(([, property]) => 'value' in property).map(([name]) => name)
      const lines = eager
        .filter(name => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
        .map(name => `export const ${name} = builtin.${name}`)
      return {
        contents: `const builtin = process.getBuiltinModule('${path}')\n${lines.join('\n')}\nexport default builtin`,
      }
    })
    bundler.onLoad({ filter: /.*/, namespace: 'late-builtin' }, ({ path }) => ({
      contents: `module.exports = new Proxy({}, { get: (_, name) => process.getBuiltinModule('${path}')[name] })`,
    }))
  },
}

/** Modules of Node that packages of ours require and use as objects, without taking them apart. */
const LATE: ReadonlySet<string> = new Set(['node:child_process'])

/** The modules of the commands other than `run`, as `src/cli/program.ts` asks for them. */
const commands = new Set<string>()
const commandsApart: Plugin = {
  name: 'commands-apart',
  setup(bundler) {
    bundler.onResolve({ filter: /^\.\// }, ({ path, kind, importer }) => {
      if (kind !== 'dynamic-import' || !importer.endsWith('/src/cli/program.ts') || path === './run.ts')
        return undefined
      const name = basename(path, '.ts')
      commands.add(name)
      return { path: `./commands/${name}.mjs`, external: true }
    })
  },
}

const options = {
  absWorkingDir: root,
  outExtension: { '.js': '.mjs' },
  chunkNames: 'chunks/[name]-[hash]',
  entryNames: '[name]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  minifyWhitespace: true,
  minifySyntax: true,
  // Names stay as they are, so that stack traces can be read. (`keepNames` would do so too, with a call for each function
  // that is made, while calls are served as well.)
  sourcemap: values.sourcemap ? 'linked' : false,
  legalComments: 'external',
  logLevel: 'warning',
  define: { MCP_SIDECAR_VERSION: JSON.stringify(manifest.version) },
  // CommonJS dependencies call `require` for Node's own modules, which an ES module has only by this.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
} satisfies BuildOptions

const parts = [
  await build({
    ...options,
    entryPoints: { 'mcp-sidecar': 'src/main.ts' },
    outdir: out,
    plugins: [commandsApart, oneLanguage, lazyBuiltins],
    metafile: true,
  }),
  await build({
    ...options,
    entryPoints: [...commands].map(name => `src/cli/${name}.ts`),
    outdir: join(out, 'commands'),
    plugins: [oneLanguage, lazyBuiltins],
    metafile: true,
  }),
].map(({ metafile }) => metafile)

for (const part of parts) namelessImports(part)
const entry = join(out, 'mcp-sidecar.mjs')
const code = readFileSync(entry, 'utf8')
if (!code.startsWith('#!')) writeFileSync(entry, `#!/usr/bin/env node\n${code}`)
chmodSync(entry, 0o755)
if (values.metafile !== undefined) writeFileSync(values.metafile, JSON.stringify(parts))
report(parts)

/** Ends the build when we import a CommonJS package only when it is needed: of its names nothing would be left. */
function namelessImports({ inputs }: Metafile): void {
  for (const [file, { imports }] of Object.entries(inputs)) {
    if (!file.startsWith('src/')) continue
    const nameless = imports.find(({ kind, path }) => kind === 'dynamic-import' && inputs[path]?.format === 'cjs')
    if (nameless === undefined) continue
    throw new Error(
      `${file}: import() of ${nameless.path}, which is CommonJS: go through a module as src/edge/late/ has`,
    )
  }
}

/** What is in the bundle, largest first. */
function report(metafiles: readonly Metafile[]): void {
  const chunks = metafiles.flatMap(({ outputs }) => Object.entries(outputs)).filter(([file]) => file.endsWith('.mjs'))
  let total = 0
  for (const [file, { bytes, inputs, entryPoint }] of chunks.toSorted(([, a], [, b]) => b.bytes - a.bytes)) {
    total += bytes
    if (bytes < 20_000 && entryPoint !== 'src/main.ts') continue
    const packages = new Map<string, number>()
    for (const [input, { bytesInOutput }] of Object.entries(inputs)) {
      const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1] ?? 'src'
      packages.set(name, (packages.get(name) ?? 0) + bytesInOutput)
    }
    const biggest = [...packages].toSorted(([, a], [, b]) => b - a).slice(0, 5)
    const parts = biggest.map(([name, size]) => `${name} ${kib(size)}`).join(', ')
    process.stdout.write(`${basename(file).padEnd(32)} ${kib(bytes).padStart(8)}  ${parts}\n`)
  }
  const size = existsSync(entry) ? statSync(entry).size : 0
  process.stdout.write(`${chunks.length} files, ${kib(total)} in all, entry ${kib(size)}\n`)
}

function kib(bytes: number): string {
  return `${(bytes / 1024).toFixed(0)} KiB`
}

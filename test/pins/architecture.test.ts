import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

/** What the tree promises, held by reading it. Whoever breaks one of these has a reason; it goes into the list here. */

const SOURCES = filesOf('src', '.ts').map(path => ({ path, text: readFileSync(path, 'utf8') }))
const CODE = SOURCES.map(({ path, text }) => ({ path, code: withoutComments(text) }))
const IMPORTS = CODE.flatMap(({ path, code }) => importsOf(path, code))

describe('core does no I/O', () => {
  const core = CODE.filter(({ path }) => path.startsWith('src/core/'))

  test('it imports only what computes', () => {
    const foreign = IMPORTS.filter(
      ({ from, to, isType }) => from.startsWith('src/core/') && !to.startsWith('.') && !isType,
    )
    expect(new Set(foreign.map(({ to }) => to))).toEqual(
      new Set(['node:buffer', 'node:crypto', 'node:net', 'yaml', 'zod'].sort()),
    )
    // Of node:net nothing but the reading of addresses.
    const ofNet = foreign.filter(({ to }) => to === 'node:net').flatMap(({ names }) => names)
    expect(new Set(ofNet)).toEqual(new Set(['isIP', 'isIPv6']))
  })

  test.each([
    ['reads no clock', /\bDate\.now\b|\bperformance\b|\bhrtime\b|\bnew Date\(\s*\)/],
    ['rolls no dice', /\bMath\.random\b|\brandom(?:UUID|Bytes|Int|FillSync)\b|\bgetRandomValues\b|\bgenerateKey/],
    ['waits for nothing', /\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bfetch\(/],
    ['knows no process', /\bprocess\.\w|\bconsole\b|\bglobalThis\b/],
  ])('it %s', (_, forbidden) => {
    expect(core.filter(({ code }) => forbidden.test(code)).map(({ path }) => path)).toEqual([])
  })
})

describe('imports go one way', () => {
  /** Who may import whom; `type` where only types may be asked for. */
  const MAY: Record<string, Record<string, 'all' | 'type'>> = {
    'main.ts': { cli: 'all' },
    cli: {
      cli: 'all',
      'sidecar.ts': 'all',
      'version.ts': 'all',
      journey: 'all',
      edge: 'all',
      live: 'all',
      config: 'all',
      core: 'all',
    },
    'sidecar.ts': { journey: 'all', edge: 'all', live: 'all', config: 'all', core: 'all' },
    // The journey says what it needs as interfaces, and never asks who is behind them.
    journey: { journey: 'all', live: 'all', core: 'all' },
    edge: { edge: 'all', journey: 'type', live: 'all', config: 'all', core: 'all' },
    live: { live: 'all', config: 'type', core: 'all' },
    config: { config: 'all', core: 'all' },
    core: { core: 'all', config: 'type' },
    'version.ts': {},
  }

  test('from main down to core', () => {
    const wrong = IMPORTS.filter(({ to }) => to.startsWith('.')).flatMap(({ from, to, isType }) => {
      const target = normalize(join(dirname(from), to))
      const allowed = target === 'package.json' ? 'all' : MAY[partOf(from)]?.[partOf(target)]
      return allowed === 'all' || (allowed === 'type' && isType) ? [] : [`${from} → ${target}`]
    })
    expect(wrong).toEqual([])
  })

  test('core asks the configuration for nothing but its types, all in one file', () => {
    const asked = IMPORTS.filter(({ from, to }) => from.startsWith('src/core/') && to.includes('/config/'))
    expect(asked.length).toBeGreaterThan(0)
    expect(new Set(asked.map(({ to }) => to.split('/').at(-1)))).toEqual(new Set(['config.ts']))
  })
})

test('only src/main.ts touches the process', () => {
  // What the runtime does or tells, and nobody outside has a say in.
  const RUNTIME = /^(?:nextTick|memoryUsage|constrainedMemory|availableMemory|versions)$/
  const touching = CODE.flatMap(({ path, code }) =>
    [...code.matchAll(/(?<![.\w#'/-])process\.(\w+)/g)]
      .filter(([, member]) => !RUNTIME.test(member ?? ''))
      .map(([found]) => `${path}: ${found}`),
  )
  expect(touching.filter(found => !found.startsWith('src/main.ts: '))).toEqual([])
  expect(touching).toContain('src/main.ts: process.argv')
  expect(IMPORTS.filter(({ to }) => to === 'node:process' || to === 'process')).toEqual([])
})

test('there are no barrels: a file exports what it defines', () => {
  const reexporting = CODE.filter(({ code }) => /^export\s+(?:type\s+)?(?:\*|\{[^}]*\})\s+from\b/m.test(code))
  expect(reexporting.map(({ path }) => path).filter(path => path !== 'src/config/load.ts')).toEqual([])
  expect(SOURCES.filter(({ path }) => /\/index\.ts$/.test(path))).toEqual([])
})

describe('files are short enough to be read', () => {
  // Tables of tests may be longer: nobody has to hold the whole of them in mind.
  const longest = (path: string) => (path.startsWith('test/') ? 500 : 350)
  const LONGER: Record<string, string> = {
    'src/sidecar.ts': 'the composition root: every part is named once, in the order in which it starts',
    'src/journey/relay.ts': 'one answer from head to end is one state, which no two files could hold together',
    'src/core/audit/record.ts': 'the audit line, member by member in the order in which it is read',
    'src/core/mcp/strict-json.ts': 'one pass over the bytes of a message',
    'src/edge/pki.ts': 'certificates of every kind that the development CA makes',
  }
  const files = ['src', 'test', 'bench', 'scripts'].flatMap(folder => filesOf(folder, '.ts'))
  const long = files.filter(path => readFileSync(path, 'utf8').split('\n').length - 1 > longest(path))

  test('or there is a reason', () => {
    expect(long.filter(path => LONGER[path] === undefined)).toEqual([])
  })

  test('and no reason for what has become short', () => {
    expect(Object.keys(LONGER).filter(path => !long.includes(path))).toEqual([])
  })
})

describe('the tree is about the product', () => {
  const texts = filesOf('.', '').filter(path => !/\.(?:png|gz|der)$/.test(path))

  // In pieces, so that this file is not what is found.
  test.each([
    [
      'places of the machine it was written on',
      new RegExp(['/work/', '(?:main|shared)|/tmp/', 'h/|/home/\\w+/'].join('')),
    ],
    [
      'ways to work that readers have no part in',
      new RegExp(['TO', 'DO\\b|FIX', 'ME\\b|\\bclau', 'de\\b|\\bissue ', '#?\\d+'].join(''), 'i'),
    ],
    [
      'registries of somebody',
      new RegExp(['artifac', 'tory|jfro', 'g|registry\\.npm', 'js|nex', 'us\\.'].join(''), 'i'),
    ],
  ])('it does not name %s', (_, forbidden) => {
    expect(texts.filter(path => forbidden.test(readFileSync(path, 'utf8')))).toEqual([])
  })

  test('the lock file says what is installed, not where it was had from', () => {
    const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
      packages: Record<string, { resolved?: string; integrity?: string; optional?: boolean }>
    }
    const packages = Object.entries(lock.packages).filter(([path]) => path !== '')
    expect(packages.length).toBeGreaterThan(50)
    expect(packages.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path)).toEqual([])
    // Builds for other platforms are named only; npm checks them against the registry's word where they are wanted.
    const unsealed = packages.filter(([, { integrity, optional }]) => integrity === undefined && optional !== true)
    expect(unsealed.map(([path]) => path)).toEqual([])
  })
})

describe('documents', () => {
  const pages = filesOf('.', '.md')

  test.each(pages)('%s links to what is there', page => {
    const text = readFileSync(page, 'utf8')
    const broken = [...text.matchAll(/\]\((?!https?:|mailto:)([^)\s]+)\)/g)].flatMap(([, link = '']) => {
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? page : normalize(join(dirname(page), path))
      if (!existsSync(target)) return [link]
      return anchor === undefined || anchorsOf(target).has(anchor) ? [] : [link]
    })
    expect(broken).toEqual([])
  })

  test('every page is linked from another', () => {
    const all = pages.map(page => ({ page, text: readFileSync(page, 'utf8') }))
    const unlinked = pages.filter(page => {
      const name = page.split('/').at(-1) ?? ''
      return /^docs\/[^/]+$/.test(page) && !all.some(other => other.page !== page && other.text.includes(name))
    })
    expect(unlinked).toEqual([])
  })

  test.each(pages.filter(page => page.startsWith('docs/decisions/')))(
    '%s has its number, its name and its day',
    page => {
      const number = /\/(\d{4})-[a-z0-9-]+\.md$/.exec(page)?.[1]
      expect(readFileSync(page, 'utf8')).toMatch(new RegExp(`^# ${number}: .+\n\n\\d{4}-\\d{2}-\\d{2}\n`))
    },
  )
})

/** Files below a folder, without what is made or fetched (.gitignore). */
function filesOf(folder: string, suffix: string): string[] {
  const MADE = /^(?:\.git|node_modules|dist|coverage)$|\.log$/
  return readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    if (MADE.test(entry.name)) return []
    const path = join(folder, entry.name)
    if (entry.isDirectory())
      return path === 'certs' ? ['certs/README.md'].filter(readme => readme.endsWith(suffix)) : filesOf(path, suffix)
    return entry.isFile() && path.endsWith(suffix) ? [path] : []
  })
}

function partOf(path: string): string {
  return path.split('/')[1] ?? path
}

interface Import {
  readonly from: string
  readonly to: string
  readonly isType: boolean
  readonly names: readonly string[]
}

function importsOf(from: string, code: string): Import[] {
  const statements = code.matchAll(/^(?:import|export)\s+(type\s+)?([\w\s{},*$]*?)\s+from\s+'([^']+)'/gm)
  const bare = code.matchAll(/^import\s+'([^']+)'/gm)
  const dynamic = code.matchAll(/\bimport\('([^']+)'\)/g)
  return [
    ...[...statements].map(([, type, clause = '', to = '']) => {
      const named = (/\{([^}]*)\}/s.exec(clause)?.[1] ?? '')
        .split(',')
        .map(name => name.trim())
        .filter(Boolean)
      const isType = type !== undefined || (named.length > 0 && named.every(name => name.startsWith('type ')))
      return { from, to, isType, names: named }
    }),
    ...[...bare, ...dynamic].map(([, to = '']) => ({ from, to, isType: false, names: [] })),
  ]
}

/** Comments begin at the beginning of a line, after code and a space, or are docstrings; a `//` in a URL is none. */
function withoutComments(text: string): string {
  return text.replaceAll(/^\s*\/\*.*?\*\/|(?<=^|\s)\/\/.*$/gms, match => (match.startsWith('//') ? '' : '\n'))
}

/** Anchors of headings, as code hosts make them. */
function anchorsOf(page: string): Set<string> {
  const headings = [...readFileSync(page, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading)
  return new Set(
    headings.map(heading =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

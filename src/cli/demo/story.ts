import type { JsonObject, JsonValue } from '../../core/json.ts'
import type { DevPki } from '../../edge/pki.ts'
import { type CliIo, oneLine, type Styles, styles } from '../io.ts'
import { type Attempt, demoCaller } from './client.ts'
import { CALLS_A_MINUTE } from './setting.ts'
import type { DemoSidecar } from './sidecar-process.ts'

export interface Stage {
  readonly io: CliIo
  readonly pki: DevPki
  readonly port: number
  readonly sidecar: DemoSidecar
}

interface Chapter {
  readonly title: string
  readonly told: string
  readonly tool: string
  readonly args: Record<string, string>
  readonly as: 'gateway' | 'stranger'
  /** Calls made before, so that the one that is shown is the one that counts. */
  readonly before: number
  readonly expect: (attempt: Attempt) => boolean
  readonly line: (line: JsonObject) => boolean
}

const at = (line: JsonObject, path: string): JsonValue | undefined =>
  path.split('.').reduce<JsonValue | undefined>((value, key) => (value as JsonObject | undefined)?.[key], line)

const CHAPTERS: readonly Chapter[] = [
  {
    title: 'A call that is allowed',
    told: 'The gateway forwards a call of ada, who has the scope docs.read. A rule allows what she asks for.',
    tool: 'search_docs',
    args: { query: 'certificate' },
    as: 'gateway',
    before: 0,
    expect: attempt => attempt.kind === 'answer' && attempt.text === 'How to rotate a certificate',
    line: line => at(line, 'outcome') === 'success' && at(line, 'mcp.tool') === 'search_docs',
  },
  {
    title: 'A call that policy refuses',
    told: 'No rule allows ada to delete, so the call never reaches the server. Her client gets an error that it can read.',
    tool: 'delete_doc',
    args: { title: 'On-call handbook' },
    as: 'gateway',
    before: 0,
    expect: attempt => attempt.kind === 'rpc-error' && attempt.code === 403,
    line: line => at(line, 'decision.reason') === 'tool_not_permitted',
  },
  {
    title: 'A call that a quota refuses',
    told: `She may make ${CALLS_A_MINUTE} calls a minute. What policy refused did not count; this is one more than that.`,
    tool: 'search_docs',
    args: { query: 'menu' },
    as: 'gateway',
    before: CALLS_A_MINUTE - 1,
    expect: attempt => attempt.kind === 'rpc-error' && attempt.code === 429,
    line: line => at(line, 'decision.reason') === 'quota_exhausted',
  },
  {
    title: "A stranger's certificate",
    told: "It bears the gateway's names, but another CA has signed it. The connection ends before a byte of HTTP is read.",
    tool: 'search_docs',
    args: { query: 'handbook' },
    as: 'stranger',
    before: 0,
    expect: attempt => attempt.kind === 'no-connection',
    line: line => at(line, 'event') === 'connection.refused',
  },
]

/** Lets the calls be made and tells of each what was asked, what the client saw and what was recorded. */
export async function tellStory({ io, pki, port, sidecar }: Stage): Promise<boolean> {
  const style = styles(io.stdout, io.env)
  const say = (text = '') => io.stdout.write(`${text}\n`)
  const callers = { gateway: demoCaller(pki, 'gateway', port), stranger: demoCaller(pki, 'stranger', port) }
  let allWell = true
  try {
    for (const [index, chapter] of CHAPTERS.entries()) {
      const caller = callers[chapter.as]
      for (let i = 0; i < chapter.before; i++) await caller.call(chapter.tool, chapter.args)
      const attempt = await caller.call(chapter.tool, chapter.args)
      const line = await sidecar.takeLine(chapter.line)
      const isWell = chapter.expect(attempt) && line !== undefined
      allWell &&= isWell
      say(style.bold(`${index + 1}  ${chapter.title}`))
      say(`   ${chapter.told}`)
      const call = `${chapter.tool}(${Object.values(chapter.args)
        .map(value => JSON.stringify(value))
        .join(', ')})`
      say(`   ${call}  ${shown(attempt, style)}${isWell ? '' : style.red('  (not what was expected)')}`)
      say(style.dim('   audit line'))
      for (const text of line ? facts(line) : ['none was written']) say(style.dim(`     ${text}`))
      say()
    }
  } finally {
    await Promise.all(Object.values(callers).map(caller => caller.close()))
  }
  return allWell
}

function shown(attempt: Attempt, { green, yellow, red }: Styles): string {
  switch (attempt.kind) {
    case 'answer':
      return green(`→ ${oneLine(attempt.text)}`)
    case 'rpc-error':
      return yellow(`→ error ${attempt.code}: ${oneLine(attempt.message)}`)
    case 'no-connection':
      return red(`→ no connection: ${oneLine(attempt.message)}`)
  }
}

/** The fields that a reader looks at first, aligned; the whole line is in the log. */
function facts(line: JsonObject): string[] {
  const get = (path: string) => {
    const value = at(line, path)
    return value === undefined || value === null
      ? ''
      : typeof value === 'object'
        ? JSON.stringify(value)
        : String(value)
  }
  const join = (separator: string, ...parts: string[]) => parts.filter(part => part !== '').join(separator)
  const unit = (path: string, name: string) => (get(path) === '' ? '' : `${get(path)} ${name}`)
  const rows: [string, string][] = [
    ['event', join(', ', get('event'), unit('durationMs', 'ms'))],
    ['peer', join('  ', get('peer.name'), get('peer.uri') || get('peer.subject'), get('peer.tls'))],
    ['user', join(' of ', get('user.id'), get('user.org'))],
    ['call', join(' ', get('mcp.method'), get('mcp.tool'), get('args'))],
    ['decision', join(', ', join(' by ', get('decision.effect'), get('decision.rule')), get('decision.reason'))],
    [
      'quota',
      get('quota.name') === '' ? '' : `${get('quota.name')}, ${get('quota.remaining')} of ${get('quota.limit')} left`,
    ],
    ['outcome', join(', ', get('outcome'), get('status') === '' ? '' : `HTTP ${get('status')}`, get('error'))],
    [
      'chain',
      join('  ', `line ${get('seq')}`, `${get('chain.hash').slice(0, 16)}… after ${get('chain.prev').slice(0, 16)}…`),
    ],
  ]
  return rows.filter(([, value]) => value !== '').map(([name, value]) => `${name.padEnd(9)} ${value}`)
}

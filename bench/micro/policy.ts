import type { RuleConfig } from '../../src/config/config.ts'
import type { Message } from '../../src/core/mcp/message.ts'
import { decide, visible } from '../../src/core/policy/decide.ts'
import { callerOf, policyOf, rule, toolCall } from '../../test/support/policy.ts'

/** Nanoseconds for one decision, by shape and number of rules: `node bench/micro/policy.ts`. */

const caller = callerOf({ id: 'user-7', org: 'acme', scopes: ['mcp.read', 'mcp.write'], roles: ['developer'] })
const ROUNDS = 100_000
/** What was decided last goes here, so that no decision can be left out. */
let sink: unknown

/** Ten tools to a rule, some by prefix, a tenth of the rules denying, as a platform team would write them. */
function mixed(count: number): RuleConfig[] {
  return Array.from({ length: count }, (_, n) => {
    const effect = n % 10 === 9 ? 'deny' : 'allow'
    const when = n % 3 === 0 ? { scopes: ['mcp.read'] } : n % 3 === 1 ? { orgs: ['acme'] } : { roles: ['developer'] }
    const verb = effect === 'deny' ? 'delete' : 'read'
    const tools = Array.from({ length: 10 }, (_, t) => (t === 9 ? `team${n}_${verb}_*` : `team${n}_${verb}${t}`))
    return rule({ id: `r${n}`, effect, when, methods: ['tools/call'], tools })
  })
}

const shapes: {
  name: string
  rules: (count: number) => RuleConfig[]
  hit: (count: number) => Message
  miss: Message
}[] = [
  {
    name: 'tools by team',
    rules: mixed,
    hit: count => toolCall(`team${count > 1 ? (count >> 1) + ((count >> 1) % 10 === 9 ? 1 : 0) : 0}_read3`),
    miss: toolCall('nobody_has_this'),
  },
  {
    name: 'one rule to a user, all tools',
    rules: count =>
      Array.from({ length: count }, (_, n) => rule({ id: `r${n}`, when: { users: [`user-${n}`] }, tools: ['*'] })),
    hit: () => toolCall('search'),
    miss: toolCall('search', {}),
  },
  {
    name: 'arguments within limits',
    rules: count => mixed(count).map(r => ({ ...r, args: { limit: { max: 100 }, path: { prefix: '/srv/docs/' } } })),
    hit: count =>
      toolCall(`team${count > 1 ? (count >> 1) + ((count >> 1) % 10 === 9 ? 1 : 0) : 0}_read3`, {
        limit: 10,
        path: '/srv/docs/a/b.md',
        query: 'x',
      }),
    miss: toolCall('nobody_has_this', { limit: 10, path: '/srv/docs/a/b.md', query: 'x' }),
  },
  {
    name: 'worst: nothing tells the rules apart',
    rules: count => Array.from({ length: count }, (_, n) => rule({ id: `r${n}`, tools: [`*_suffix_${n}_*`] })),
    hit: count => toolCall(`x_suffix_${count - 1}_y`),
    miss: toolCall('nobody_has_this'),
  },
]

console.log(
  'shape'.padEnd(40),
  'rules'.padStart(6),
  'permitted'.padStart(10),
  'refused'.padStart(10),
  'visible'.padStart(10),
)
for (const { name, rules, hit, miss } of shapes) {
  for (const count of [1, 20, 1000]) {
    const policy = policyOf(rules(count))
    const permitted = hit(count)
    const tool = permitted.objects[0]?.name ?? ''
    const cells = [
      nanoseconds(() => decide(policy, caller, permitted)),
      nanoseconds(() => decide(policy, caller, miss)),
      nanoseconds(() => visible(policy, caller, 'tool', tool)),
    ]
    console.log(name.padEnd(40), String(count).padStart(6), ...cells.map(ns => `${ns.toFixed(0)} ns`.padStart(10)))
  }
}

/** Best of seven, so that a neighbour on the machine does not count. */
function nanoseconds(once: () => unknown): number {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 7; round++) {
    const started = process.hrtime.bigint()
    for (let n = 0; n < ROUNDS; n++) sink = once()
    best = Math.min(best, Number(process.hrtime.bigint() - started) / ROUNDS)
    if (best * ROUNDS > 500e6) break
  }
  return best
}

if (sink === undefined) throw new Error('nothing was decided')

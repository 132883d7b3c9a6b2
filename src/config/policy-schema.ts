import * as z from 'zod'
import type { PolicyConfig } from './config.ts'
import { boolean, integer, label, list, number, oneOf, pattern, text } from './scalars.ts'

/** The policy as it is written, inline or in a file of its own. What a rule means is said in docs/policy.md. */

const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()], {
  error: 'expected text, a number, true, false or null',
})

const argument = z.strictObject({
  required: boolean().exactOptional().describe('The argument must be there. Otherwise it is judged only when it is.'),
  equals: scalar.exactOptional().describe('The argument is this value.'),
  enum: list(scalar).exactOptional().describe('The argument is one of these values.'),
  min: number().exactOptional().describe('The argument is a number and not less.'),
  max: number().exactOptional().describe('The argument is a number and not more.'),
  minLength: integer(0, 1_000_000_000)
    .exactOptional()
    .describe('Text of at least so many characters, or a list of so many entries.'),
  maxLength: integer(0, 1_000_000_000)
    .exactOptional()
    .describe('Text of at most so many characters, or a list of so many entries.'),
  prefix: text('a path').exactOptional().describe('A path that, once normalised, lies under this one.'),
  hosts: list(pattern()).exactOptional().describe('A URL whose host is one of these; "*" within a label, "**" across.'),
  pattern: text('a regular expression', 1000)
    .exactOptional()
    .describe('RE2 expression that the whole argument matches.'),
})

export const ruleSchema = z.strictObject({
  id: label("the rule's id").describe('What the rule is called in answers, audit lines and metrics.'),
  effect: oneOf(['allow', 'deny']).describe('A deny that matches always wins over any allow.'),
  shadow: boolean().prefault(false).describe('The rule is recorded as if it counted, and does not count.'),
  when: z
    .strictObject({
      peers: list(pattern()).exactOptional().describe('Names of peers, any of.'),
      users: list(pattern()).exactOptional().describe('User ids, any of.'),
      orgs: list(pattern()).exactOptional().describe('Organisations, any of.'),
      scopes: list(pattern()).exactOptional().describe('Scopes, all of.'),
      roles: list(pattern()).exactOptional().describe('Roles, any of.'),
    })
    .prefault({})
    .describe('Who is calling. A condition that is absent means any.'),
  methods: list(pattern()).exactOptional().describe('MCP methods, such as tools/call.'),
  tools: list(pattern())
    .exactOptional()
    .describe('Tool names. A call of a tool is matched only by a rule that has this list.'),
  resources: list(pattern())
    .exactOptional()
    .describe('Resource URIs; "*" stays within a segment, "**" crosses. Needed to match a call that names one.'),
  prompts: list(pattern()).exactOptional().describe('Prompt names. Needed to match a call that names one.'),
  args: z
    .record(text('the name of an argument', 256), argument)
    .exactOptional()
    .describe('Constraints by argument; a dotted name reaches into objects.'),
})

export const policySchema = z.strictObject({
  mode: oneOf(['enforce', 'shadow'])
    .prefault('enforce')
    .describe('shadow: verdicts are recorded, and every call is served.'),
  default: oneOf(['deny', 'allow']).prefault('deny').describe('What happens to a call that no rule matches.'),
  denyStyle: oneOf(['explain', 'hide'])
    .prefault('explain')
    .describe('explain: the caller learns the rule. hide: the tool looks as if it were not there.'),
  refusals: oneOf(['in-band', 'http'])
    .prefault('in-band')
    .describe('in-band: refusals by policy and quota are JSON-RPC errors with HTTP 200. http: they are 403 and 429.'),
  rules: list(ruleSchema, 10_000).default([]).describe('The rules; their order does not matter.'),
}) satisfies z.ZodType<PolicyConfig>

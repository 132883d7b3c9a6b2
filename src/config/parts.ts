import { dirname, resolve } from 'node:path'
import type { JsonValue } from '../core/json.ts'
import type { Config, RuleConfig } from './config.ts'
import { type ConfigOrigin, type Reading, readConfiguration, withAbsolutePaths } from './load.ts'
import { ruleSchema } from './policy-schema.ts'
import { configSchema } from './schema.ts'

/** A configuration, or what of it is valid by itself, for who looks for everything that is wrong. */
export interface Parts extends Reading {
  /** The sections in which nothing is wrong. */
  readonly config: Partial<Config>
  /** The rules of the policy in which nothing is wrong, by their place in the list. */
  readonly rules: ReadonlyMap<number, RuleConfig>
}

/** Reads a configuration as `loadConfig` does, and lets one fault hide no more than the section that it is in. */
export function loadParts(text: string, origin: ConfigOrigin): Parts {
  const reading = readConfiguration(text, origin)
  const { value, problems } = reading
  const isSound = (at: string): boolean =>
    !problems.some(({ path }) => path === '' || path === at || path.startsWith(`${at}.`) || path.startsWith(`${at}[`))

  const sections = Object.entries(configSchema.shape).flatMap(([key, schema]) => {
    const parsed = isSound(key) ? schema.safeParse(value[key]) : undefined
    return parsed?.success ? [[key, parsed.data]] : []
  })
  const policy = value['policy']
  const written = (typeof policy === 'object' && policy !== null && !Array.isArray(policy) && policy['rules']) || []
  const rules = (Array.isArray(written) ? written : []).flatMap((rule: JsonValue, index): [number, RuleConfig][] => {
    const parsed = isSound(`policy.rules[${index}]`) ? ruleSchema.safeParse(rule) : undefined
    return parsed?.success ? [[index, parsed.data]] : []
  })
  const config = withAbsolutePaths(Object.fromEntries(sections) as Partial<Config>, dirname(resolve(origin.path)))
  return { ...reading, config, rules: new Map(rules) }
}

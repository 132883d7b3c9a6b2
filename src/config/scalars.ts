import * as z from 'zod'

// A configuration is read a few times in a process's life: compiling its schema to code never pays, and takes longer.
z.config({ jitless: true })

/**
 * The kinds of value that a configuration is made of, each with its unit and its bounds. A message says what is
 * expected and never what was found: the text at that place may have come from a secret in the environment, so
 * `load.ts` alone quotes it, as it is written in the file.
 */

/**
 * The same kind of value is the same schema wherever it is asked for: made anew for each key, the schemas were a tenth
 * of the time to ready. They do not change; `describe` and the like give a new one.
 */
function once<A extends readonly unknown[], S>(make: (...about: A) => S): (...about: A) => S {
  const made = new Map<string, S>()
  return (...about) => {
    const key = about.join('\n')
    const known = made.get(key)
    if (known !== undefined) return known
    const schema = make(...about)
    made.set(key, schema)
    return schema
  }
}

const MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

/** `250ms`, `2s`, `1.5m`, `1h`, `1d` → milliseconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text)
  if (!match) return undefined
  const ms = Number(match[1]) * MS[match[2] as keyof typeof MS]
  return Number.isInteger(ms) ? ms : undefined
}

/** `512B`, `15KiB`, `4MiB`, `1GiB` → bytes; undefined when it is none. */
function parseSize(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(B|KiB|MiB|GiB)$/.exec(text)
  if (!match) return undefined
  const bytes = Number(match[1]) * BYTES[match[2] as keyof typeof BYTES]
  return Number.isInteger(bytes) ? bytes : undefined
}

/** A message for a value of the wrong kind; a missing value is told by the general one. */
const instead = (message: string) => (issue: { input?: unknown }) => (issue.input === undefined ? undefined : message)

/**
 * A duration in milliseconds between two bounds, themselves written as durations. Timers of the runtime hold 31 bits of
 * milliseconds and fire at once when given more, so none is longer than 24 days.
 */
export const duration = once((min: string, max: string = '24d') => {
  const [minMs, maxMs] = [parseDuration(min), parseDuration(max)]
  if (minMs === undefined || maxMs === undefined) throw new TypeError(`not a duration: ${min} or ${max}`)
  const what = 'expected a duration with its unit, such as 250ms, 2s, 5m or 1h'
  return z
    .string({ error: instead(what) })
    .meta({ pattern: '^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d)|.*\\$\\{.*)$' })
    .transform((text, context) => {
      const ms = parseDuration(text)
      if (ms !== undefined && ms >= minMs && ms <= maxMs) return ms
      context.addIssue(ms === undefined ? what : `expected a duration from ${min} to ${max}`)
      return z.NEVER
    })
})

/** A size in bytes between two bounds, themselves written as sizes. */
export const size = once((min: string, max: string) => {
  const [minBytes, maxBytes] = [parseSize(min), parseSize(max)]
  if (minBytes === undefined || maxBytes === undefined) throw new TypeError(`not a size: ${min} or ${max}`)
  const what = 'expected a size with its unit, such as 512B, 15KiB or 4MiB'
  return z
    .string({ error: instead(what) })
    .meta({ pattern: '^([0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB)|.*\\$\\{.*)$' })
    .transform((text, context) => {
      const bytes = parseSize(text)
      if (bytes !== undefined && bytes >= minBytes && bytes <= maxBytes) return bytes
      context.addIssue(bytes === undefined ? what : `expected a size from ${min} to ${max}`)
      return z.NEVER
    })
})

/** A whole number; text that spells one is taken too, because `${NAME}` always yields text. */
export const integer = once((min: number, max: number) => {
  const what = `expected a whole number from ${min} to ${max}`
  return z.preprocess(
    numeral,
    z
      .int({ error: instead(what) })
      .min(min, what)
      .max(max, what),
  )
})

export const number = once(() => {
  return z.preprocess(numeral, z.number({ error: instead('expected a number') }))
})

export const boolean = once(() => {
  return z.preprocess(
    value => (value === 'true' ? true : value === 'false' ? false : value),
    z.boolean({ error: instead('expected true or false') }),
  )
})

function numeral(value: unknown): unknown {
  return typeof value === 'string' && /^-?\d{1,15}(\.\d{1,15})?$/.test(value) ? Number(value) : value
}

/** Text of a bounded length, without control characters. */
export const text = once((what: string = 'text', max: number = 2048) => {
  return z
    .string({ error: instead(`expected ${what}; a number or a word such as true or null needs quotes to be text`) })
    .min(1, `expected ${what}, not an empty one`)
    .max(max, `expected ${what} of at most ${max} characters`)
    .refine(isPrintable, { error: `expected ${what} without control characters` })
})

/** Text that satisfies a test; `what` says what is expected. */
export function textThat(what: string, test: (text: string) => boolean, max = 2048) {
  return z
    .string({ error: instead(`expected ${what}`) })
    .max(max, `expected ${what}`)
    .refine(value => isPrintable(value) && test(value), { error: `expected ${what}` })
}

/** A pattern in which `*` (and for some lists `**`) stands for any run of characters; there are no other signs. */
export function pattern(what = 'a pattern') {
  return text(what, 512)
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, { error: instead(`expected ${listed(values)}`) })
}

/** A list that is not empty: an empty one would silently mean "nothing" or "anything", and nobody can tell which. */
export function list<T extends z.ZodType>(item: T, max = 1000) {
  const known = lists.get(item)?.get(max) as z.ZodArray<T> | undefined
  if (known !== undefined) return known
  const schema = z
    .array(item, { error: instead('expected a list') })
    .min(1, 'an empty list is not allowed; leave the key out')
    .max(max, `expected at most ${max} entries`)
  const ofItem = lists.get(item) ?? new Map<number, z.ZodType>()
  lists.set(item, ofItem.set(max, schema))
  return schema
}

const lists = new WeakMap<z.ZodType, Map<number, z.ZodType>>()

/** A list that may be written as `[]`, because that is its default. */
export function listOrNone<T extends z.ZodType>(item: T, max = 1000) {
  return z.array(item, { error: instead('expected a list') }).max(max, `expected at most ${max} entries`)
}

/** One value or a list of them. */
export function oneOrList<T extends z.ZodType>(item: T, max = 100) {
  return z.preprocess(value => (value === undefined || Array.isArray(value) ? value : [value]), list(item, max))
}

/** A file name; relative ones are resolved by `load.ts` against the folder of the file that names them. */
export const filePath = once(() => {
  return text('a file name', 4096)
})

/** `host:port`, an IPv6 host in brackets. */
export const socketAddress = once(() => {
  const what = 'expected an address and port such as "0.0.0.0:8443" or "[::1]:8443"'
  return z.string({ error: instead(what) }).transform((address, context) => {
    const match = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(address)
    const port = Number(match?.[3])
    if (match && port <= 65_535) return { host: match[1] ?? match[2] ?? '', port }
    context.addIssue(what)
    return z.NEVER
  })
})

/** Names of things that turn up in audit lines, metric labels and headers. */
export function label(what: string) {
  return textThat(`${what}: letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 64`, value =>
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(value),
  )
}

function listed(values: readonly string[]): string {
  return values.length === 1 ? `${values[0]}` : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`
}

function isPrintable(value: string): boolean {
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index)
    if (code < 0x20 || code === 0x7f) return false
  }
  return true
}

/** A DNS name or an IP address, an IPv6 address with or without brackets. */
export function isHostName(value: string): boolean {
  return /^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?$/.test(value) || /^\[?[0-9A-Fa-f:]{2,45}\]?$/.test(value)
}

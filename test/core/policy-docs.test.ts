import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { loadPolicy } from '../../src/config/load.ts'
import { compilePolicy } from '../../src/core/policy/compile.ts'
import { readFixtures, runCase } from '../../src/core/policy/fixtures.ts'
import { loadPatternEngine } from '../../src/edge/pattern-engine.ts'

const text = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8')
const blocks = [...text.matchAll(/^```yaml (policy|cases|fixtures)\n(.*?)^```$/gms)].map(match => ({
  kind: match[1] as string,
  text: match[2] as string,
  line: text.slice(0, match.index).split('\n').length,
}))
const engine = await loadPatternEngine()

describe.each(blocks.filter(({ kind }) => kind === 'policy'))('the policy in line $line of docs/policy.md', policy => {
  const next = blocks[blocks.indexOf(policy) + 1]
  const fixtures = readFixtures({ cases: parse(next?.kind === 'cases' ? next.text : '[]') })
  const loaded = loadPolicy(policy.text, { path: 'docs/policy.md', env: {} })
  const compiled = loaded.ok ? compilePolicy(loaded.value.policy, engine) : loaded

  test('is valid, and so are its cases', () => {
    expect(compiled).toMatchObject({ ok: true })
    expect(fixtures).toMatchObject({ ok: true })
  })

  test.each(fixtures.ok ? fixtures.value.cases : [])('$name', one => {
    if (!compiled.ok) throw new Error('no policy')
    expect(runCase(compiled.value, one).differences).toEqual([])
  })
})

test('there are examples, and all of them are run', () => {
  const kinds = blocks.map(({ kind }) => kind)
  expect(kinds.filter(kind => kind === 'policy').length).toBeGreaterThanOrEqual(6)
  expect(kinds.filter(kind => kind === 'cases').length).toBe(kinds.filter(kind => kind === 'policy').length)
  expect(text.match(/^```yaml/gm)?.length).toBe(blocks.length)
})

test('the example of a file of fixtures can be read', () => {
  const example = blocks.find(({ kind }) => kind === 'fixtures')
  expect(readFixtures(parse(example?.text ?? ''))).toMatchObject({ ok: true })
})

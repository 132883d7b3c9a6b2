import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { defaultInjectOptions, type InjectOptions } from '../../src/core/manifest/options.ts'
import { injectManifest, uninjectManifest } from '../../src/core/manifest/stream.ts'

/**
 * Each `<case>.yaml` is injected with the options of its first line and compared with `<case>.golden.yaml`: what is said
 * on stderr as comments, then the manifests, or the problems when it is refused. UPDATE_GOLDEN=1 writes them anew.
 */
const dir = new URL('../golden/inject/', import.meta.url)
const cases = readdirSync(dir).filter(name => name.endsWith('.yaml') && !name.endsWith('.golden.yaml'))

function optionsOf(text: string): InjectOptions {
  const options: Record<string, unknown> = { ...defaultInjectOptions('0.0.0') }
  const line = /^# options: (.*?)\r?\n/.exec(text)?.[1] ?? ''
  for (const pair of line.split(' ').filter(part => part !== '')) {
    const [key, value] = pair.split('=') as [string, string]
    if (key === 'issuer') {
      const [kind, name] = value.split('/')
      options['issuer'] = { kind, name }
    } else options[key] = /^[0-9]+$/.test(value) ? Number(value) : value
  }
  return options as unknown as InjectOptions
}

const meaning = (text: string) => parseAllDocuments(text, { merge: true }).map(doc => doc.toJS() as unknown)

test('there are enough cases', () => {
  expect(cases.length).toBeGreaterThanOrEqual(40)
})

describe.each(cases)('%s', name => {
  const text = readFileSync(new URL(name, dir), 'utf8')
  const options = optionsOf(text)
  const injected = injectManifest(text, options)

  test('is as the golden file has it', () => {
    const said = injected.ok
      ? [
          ...injected.value.changes.map(change => `${change.level} ${change.object} ${change.path}: ${change.message}`),
          ...injected.value.needs.map(
            need => `needs ${need.kind} ${need.namespace ?? ''}/${need.name}: ${need.keys.join(', ')}`,
          ),
        ]
      : injected.error.map(
          problem => `refused line ${problem.line} ${problem.object} ${problem.path}: ${problem.message}`,
        )
    const got = `${said.map(line => `#| ${line}\n`).join('')}${injected.ok ? injected.value.text : ''}`
    const golden = new URL(name.replace(/\.yaml$/, '.golden.yaml'), dir)
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(golden, got)
    expect(got).toBe(readFileSync(golden, 'utf8'))
  })

  test('injected twice is injected once', () => {
    if (!injected.ok) return expect(injected.error.every(problem => problem.message !== '')).toBe(true)
    const again = injectManifest(injected.value.text, options)
    expect(again).toMatchObject({ ok: true, value: { text: injected.value.text } })
  })

  test('uninjected means what it meant', () => {
    if (!injected.ok) return expect(injected.error.length).toBeGreaterThan(0)
    const restored = uninjectManifest(injected.value.text)
    expect(restored.ok && meaning(restored.value.text)).toEqual(meaning(text))
  })
})

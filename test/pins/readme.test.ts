import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import manifest from '../../package.json' with { type: 'json' }
import { formatProblem, loadConfig } from '../../src/config/load.ts'

const PAGES = ['README.md', 'docs/configuration.md']

test.each(PAGES.flatMap(page => examplesIn(page).map((text, index) => ({ name: `${page} ${index + 1}`, text }))))(
  'the configuration in $name loads',
  ({ text }) => {
    const loaded = loadConfig(text, { path: '/etc/sidecar.yaml', env: {} })
    expect(loaded.ok ? [] : loaded.error.map(formatProblem)).toEqual([])
  },
)

test('the scripts that README.md and CONTRIBUTING.md name are there', () => {
  const text = readFileSync('README.md', 'utf8') + readFileSync('CONTRIBUTING.md', 'utf8')
  const named = [...text.matchAll(/npm run ([a-z]+)/g)].map(([, name]) => name)
  expect(named.length).toBeGreaterThan(0)
  expect(Object.keys(manifest.scripts)).toEqual(expect.arrayContaining(named))
})

function examplesIn(page: string): string[] {
  return [...readFileSync(page, 'utf8').matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) => text ?? '')
}

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { JsonObject } from '../../src/core/json.ts'

const root = new URL('../../', import.meta.url).pathname
const goldenDir = join(root, 'test/golden/k8s')

/** Every kustomization of `k8s/`, by its folder. */
export function kustomizations(dir = 'k8s'): string[] {
  const here = existsSync(join(root, dir, 'kustomization.yaml')) ? [dir] : []
  const below = readdirSync(join(root, dir), { withFileTypes: true }).filter(entry => entry.isDirectory())
  return [...here, ...below.flatMap(entry => kustomizations(join(dir, entry.name)))].toSorted()
}

const goldenOf = (dir: string) => join(goldenDir, `${dir.replaceAll('/', '-')}.yaml`)

export const hasKubectl: boolean = (() => {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

const fresh = new Map<string, string>()

/** What `kubectl kustomize` makes of a folder; undefined where there is no kubectl. UPDATE_GOLDEN=1 checks it in. */
export function render(dir: string): string | undefined {
  if (!hasKubectl) return undefined
  const known = fresh.get(dir)
  if (known !== undefined) return known
  const text = execFileSync('kubectl', ['kustomize', join(root, dir)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(goldenOf(dir), text)
  fresh.set(dir, text)
  return text
}

/** The rendering as it is checked in, so that it can be validated where there is no kubectl. */
export function checkedIn(dir: string): string {
  return existsSync(goldenOf(dir)) ? readFileSync(goldenOf(dir), 'utf8') : ''
}

/** The rendering to validate: a fresh one where that can be had. */
export function rendered(dir: string): string {
  return render(dir) ?? checkedIn(dir)
}

export function objectsIn(text: string): JsonObject[] {
  return parseAllDocuments(text)
    .map(doc => doc.toJS() as JsonObject | null)
    .filter(object => object !== null)
}

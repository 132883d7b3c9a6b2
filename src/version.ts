import { readFileSync } from 'node:fs'

declare const MCP_SIDECAR_VERSION: string | undefined

/** The version of this program: written in by the bundler, read from package.json when run from source. */
export function version(): string {
  if (typeof MCP_SIDECAR_VERSION === 'string') return MCP_SIDECAR_VERSION
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
  return manifest.version
}

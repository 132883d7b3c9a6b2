import { onTestFinished } from 'vitest'
import type { TlsConfig } from '../../src/config/config.ts'
import { TrustSource, type TrustSourceOptions } from '../../src/edge/trust-source.ts'

/** TLS settings of a test: the defaults of the contract, with files named as a Secret and a trust bundle name them. */
export function tlsConfig(files: { dir?: string; caDir?: string } = {}, more: Partial<TlsConfig> = {}): TlsConfig {
  const dir = files.dir ?? '/tls'
  const caDir = files.caDir ?? dir
  return {
    cert: `${dir}/tls.crt`,
    key: `${dir}/tls.key`,
    clientCa: `${caDir}/ca.crt`,
    crl: undefined,
    crlCoverage: 'full',
    minVersion: 'TLSv1.3',
    groups: ['X25519MLKEM768', 'X25519', 'P-256'],
    maxConnectionAgeMs: undefined,
    ...more,
  }
}

export interface FollowedTrust {
  readonly source: TrustSource
  /** What was told, in order: `loaded 2`, `kept 1: key_mismatch`. */
  readonly told: string[]
  readonly missed: string[]
}

/** A trust source that is started, writes down what it tells, and stops with the test. */
export async function followTrust(tls: TlsConfig, options: Partial<TrustSourceOptions> = {}): Promise<FollowedTrust> {
  const told: string[] = []
  const missed: string[] = []
  const source = new TrustSource({
    tls,
    events: {
      outcome(outcome) {
        const codes = outcome.result === 'kept' ? `: ${outcome.problems.map(({ code }) => code).join(' ')}` : ''
        told.push(`${outcome.result} ${outcome.generation}${codes}`)
      },
      missed: changed => missed.push(...changed),
    },
    // Shorter than the default, so that the many tests of one situation each stay short.
    watch: { debounceMs: 20, pollMs: 600_000 },
    ...options,
  })
  onTestFinished(() => source.stop())
  await source.start()
  return { source, told, missed }
}

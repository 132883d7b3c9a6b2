import type { Check } from './admin.ts'
import type { AuditState } from './audit-sink.ts'
import type { QuotaStoreStatus } from './quota-store.ts'
import type { SettingsOutcome } from './settings-source.ts'
import type { TrustStatus } from './trust-source.ts'

/** Everything that the probes look at, as it stands now. */
export interface Standing {
  readonly state: string
  readonly trust: TrustStatus
  readonly settings: SettingsOutcome
  readonly audit: AuditState
  readonly upstream: { readonly url: string; readonly up: boolean | undefined; readonly exposed: boolean | undefined }
  readonly breaker: 'closed' | 'half-open' | 'open'
  readonly quotas: QuotaStoreStatus
  /** Of the last look for keys that verify access tokens; undefined where none are used, and before it. */
  readonly keys: { readonly ok: boolean; readonly detail: string } | undefined
}

/** The checks of `/readyz`: what turns it, and what whoever looks at night wants to know besides. */
export function readiness(standing: Standing): Check[] {
  const { state, trust, settings, audit, upstream, breaker, quotas, keys } = standing
  const problems = trust.problems.map(({ path, message }) => `${path} ${message}`)
  return [
    { name: 'state', ok: state === 'serving', detail: state },
    { name: 'certificate', ok: trust.isServing, detail: validity(trust.notAfterMs) },
    {
      name: 'trust',
      ok: problems.length === 0,
      informational: true,
      detail:
        problems.length === 0
          ? `generation ${trust.generation}`
          : `kept generation ${trust.generation}: ${problems.join('; ')}`,
    },
    {
      name: 'config',
      ok: settings.result !== 'kept',
      informational: true,
      detail: [`generation ${settings.generation}`, ...settings.problems, ...waitingDetail(settings)].join('; '),
    },
    { name: 'audit', ok: audit === 'open', detail: audit },
    { name: 'upstream', ok: upstream.up === true, detail: upstreamDetail(upstream) },
    { name: 'breaker', ok: breaker === 'closed', informational: true, detail: breaker },
    { name: 'quotas', ok: quotas.up, informational: true, detail: quotas.detail },
    ...(keys === undefined ? [] : [{ name: 'keys', informational: true, ...keys }]),
  ]
}

/** The startup gate: a native sidecar starts before its application, so the upstream is not asked for. */
export function startupChecks(checks: readonly Check[]): Check[] {
  return checks.filter(check => check.name !== 'upstream')
}

export function isGood(check: Check): boolean {
  return check.ok || check.informational === true
}

function waitingDetail({ waiting }: SettingsOutcome): string[] {
  return waiting.length === 0 ? [] : [`${waiting.join(', ')} will change at the next start`]
}

function upstreamDetail({ url, up, exposed }: Standing['upstream']): string {
  const around = exposed === true ? '; it also answers on the pod\u2019s own address, around the sidecar' : ''
  return `${url} ${up === true ? 'accepts' : 'refuses'} connections${around}`
}

function validity(notAfterMs: number | undefined): string {
  return notAfterMs === undefined ? 'no certificate yet' : `valid until ${new Date(notAfterMs).toISOString()}`
}

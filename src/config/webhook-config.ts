import { LineCounter, parseDocument } from 'yaml'
import * as z from 'zod'
import {
  defaultInjectOptions,
  type InjectOptions,
  isEnvName,
  isObjectName,
  isQuantity,
} from '../core/manifest/options.ts'
import { err, ok, type Result } from '../core/result.ts'
import type { SocketAddress } from './config.ts'

/** Configuration of `mcp-sidecar webhook`, validated and with defaults. */
export interface WebhookConfig {
  /** HTTPS for the API server. */
  readonly listen: SocketAddress
  /** Plain HTTP for probes and metrics. */
  readonly admin: SocketAddress
  readonly tls: { readonly cert: string; readonly key: string }
  readonly excludedNamespaces: readonly string[]
  readonly inject: InjectOptions
}

const address = z.string().transform((text, context): SocketAddress => {
  const match = /^(\[[0-9a-fA-F:.]+\]|[^\s:[\]]+):([0-9]{1,5})$/.exec(text)
  const port = Number(match?.[2])
  if (!match || port > 65535) {
    context.addIssue({ code: 'custom', message: 'must be an address and a port, such as 0.0.0.0:8443' })
    return z.NEVER
  }
  return { host: (match[1] as string).replace(/^\[|\]$/g, ''), port }
})
const port = z.number().int().min(1).max(65535)
const objectName = z.string().refine(isObjectName, 'must be the name of an object')
const variable = z.string().refine(isEnvName, 'must be the name of an environment variable')
const amount = z.string().refine(isQuantity, 'must be a quantity such as 256Mi or 500m')

/** Namespaces that run the cluster or this webhook: a webhook that stops these can stop a cluster from healing. */
const CLUSTER_NAMESPACES = ['kube-system', 'kube-public', 'kube-node-lease', 'cert-manager', 'mcp-sidecar-system']

function schemaFor(version: string) {
  const defaults = defaultInjectOptions(version)
  const inject = z.strictObject({
    select: z.enum(['annotated', 'all']).default('annotated'),
    image: z.string().min(1).default(defaults.image),
    mode: z.enum(['native', 'classic']).default(defaults.mode),
    upstreamPort: port.optional(),
    upstreamContainer: z.string().min(1).optional(),
    listenPort: port.default(defaults.listenPort),
    adminPort: port.default(defaults.adminPort),
    certificate: objectName.optional(),
    trust: objectName.default(defaults.trust),
    config: objectName.default(defaults.config),
    listenEnv: variable.optional(),
    socketEnv: variable.optional(),
    connections: z.number().int().min(1).max(10_000_000).default(defaults.connections),
    cpuRequest: amount.default(defaults.cpuRequest),
    cpuLimit: z.union([z.literal('none'), amount]).default(defaults.cpuLimit ?? 'none'),
    memoryRequest: amount.default(defaults.memoryRequest),
    memoryLimit: amount.optional(),
    lameDuckSeconds: z.number().int().min(0).max(600).default(defaults.lameDuckSeconds),
    graceSeconds: z.number().int().min(0).max(3600).default(defaults.graceSeconds),
    appPreStop: z.enum(['auto', 'sleep', 'exec', 'none']).default(defaults.appPreStop),
  })
  return z.strictObject({
    listen: address.prefault('0.0.0.0:8443'),
    admin: address.prefault('0.0.0.0:9090'),
    tls: z
      .strictObject({
        cert: z.string().min(1).default('/var/run/mcp-sidecar/tls/tls.crt'),
        key: z.string().min(1).default('/var/run/mcp-sidecar/tls/tls.key'),
      })
      .prefault({}),
    excludedNamespaces: z.array(objectName).default(CLUSTER_NAMESPACES),
    inject: inject.prefault({}),
  })
}

/**
 * Reads the webhook's configuration; unknown keys are errors. An empty file means all defaults.
 *
 * @returns  The configuration, or every problem as `path: message`, with its line where the file has one.
 */
export function readWebhookConfig(text: string, version: string): Result<WebhookConfig, readonly string[]> {
  const lines = new LineCounter()
  const doc = parseDocument(text, { lineCounter: lines })
  if (doc.errors.length > 0) {
    return err(doc.errors.map(error => `line ${error.linePos?.[0].line ?? 1}: ${error.message.split('\n')[0]}`))
  }
  let value: unknown
  try {
    value = doc.toJS() ?? {}
  } catch (error) {
    // An alias without its anchor, or aliases of aliases that would blow up.
    return err([(error as Error).message])
  }
  const parsed = schemaFor(version).safeParse(value)
  if (!parsed.success) {
    return err(
      parsed.error.issues.map(issue => {
        const node = doc.getIn(issue.path as (string | number)[], true) as
          | { range?: [number, number, number] }
          | undefined
        const line = node?.range ? `line ${lines.linePos(node.range[0]).line} ` : ''
        return `${line}${issue.path.join('.') || '(top)'}: ${issue.message}`
      }),
    )
  }
  const { inject, ...rest } = parsed.data
  if (inject.listenEnv !== undefined && inject.socketEnv !== undefined) {
    return err(['inject.socketEnv: excludes listenEnv: the server listens on one of the two'])
  }
  const { cpuLimit, ...others } = inject
  const given = Object.fromEntries(Object.entries(others).filter(([, value]) => value !== undefined))
  return ok({
    ...rest,
    inject: { already: 'keep', ...(cpuLimit === 'none' ? {} : { cpuLimit }), ...given } as InjectOptions,
  })
}

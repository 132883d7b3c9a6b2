import type { JsonObject, JsonValue } from '../json.ts'
import { APP_PROBES_ENV, type AppProbes } from './app-probes.ts'
import { type InjectOptions, memoryMiBFor, SIDECAR } from './options.ts'

export const SOCKET_PATH = '/run/mcp/server.sock'
export const SOCKET_VOLUME = 'mcp-sidecar-upstream'
export const SOCKET_DIRECTORY = '/run/mcp'

/** Everything the container is made from; the same input gives the same container, byte for byte. */
export interface SidecarInput {
  readonly options: InjectOptions
  readonly upstream: string
  readonly certificate: string
  readonly probes: AppProbes
  /** The pod has an `fsGroup`, so that files of group 440 can be read. */
  readonly hasFsGroup: boolean
}

/** The sidecar's container, native or classic. */
export function sidecarContainer({ options, upstream, probes }: SidecarInput): JsonObject {
  const memory = options.memoryLimit ?? `${memoryMiBFor(options.connections)}Mi`
  const probe = (path: string, timing: JsonObject): JsonObject => ({
    httpGet: { path, port: options.adminPort, scheme: 'HTTP' },
    ...timing,
  })
  const env: JsonValue[] = [
    { name: 'MCP_SIDECAR_UPSTREAM', value: upstream },
    { name: 'MCP_SIDECAR_LISTEN', value: `0.0.0.0:${options.listenPort}` },
    { name: 'MCP_SIDECAR_ADMIN', value: `0.0.0.0:${options.adminPort}` },
    { name: 'MCP_SIDECAR_CONNECTIONS', value: String(options.connections) },
    field('POD_NAME', 'metadata.name'),
    field('POD_NAMESPACE', 'metadata.namespace'),
    field('POD_IPS', 'status.podIPs'),
    field('NODE_NAME', 'spec.nodeName'),
  ]
  if (Object.keys(probes).length > 0) env.push({ name: APP_PROBES_ENV, value: JSON.stringify(probes) })
  return {
    name: SIDECAR,
    image: options.image,
    args: ['run', '--config', '/etc/mcp-sidecar/config.yaml'],
    ...(options.mode === 'native' ? { restartPolicy: 'Always' } : {}),
    ports: [
      { name: 'mcp-tls', containerPort: options.listenPort, protocol: 'TCP' },
      { name: 'mcp-admin', containerPort: options.adminPort, protocol: 'TCP' },
    ],
    env,
    resources: {
      requests: { cpu: options.cpuRequest, memory: options.memoryRequest },
      limits: { ...(options.cpuLimit === undefined ? {} : { cpu: options.cpuLimit }), memory },
    },
    startupProbe: probe('/startupz', { periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 120 }),
    readinessProbe: probe('/readyz', { periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2 }),
    livenessProbe: probe('/livez', { periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 }),
    lifecycle: { preStop: { exec: { command: ['mcp-sidecar', 'drain'] } } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: 1001,
      runAsNonRoot: true,
      runAsUser: 1001,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [
      { name: 'mcp-sidecar-config', mountPath: '/etc/mcp-sidecar', readOnly: true },
      { name: 'mcp-sidecar-tls', mountPath: '/var/run/mcp-sidecar/tls', readOnly: true },
      { name: 'mcp-sidecar-trust', mountPath: '/var/run/mcp-sidecar/ca', readOnly: true },
      // In a volume of its own: every container of a pod shares the loopback, so that operations go by a file.
      { name: 'mcp-sidecar-run', mountPath: '/run/mcp-sidecar' },
      ...(upstream.startsWith('unix:') ? [{ name: SOCKET_VOLUME, mountPath: SOCKET_DIRECTORY }] : []),
    ],
  }
}

/** Volumes that the sidecar mounts, in the order of its mounts. */
export function sidecarVolumes({ options, upstream, certificate, hasFsGroup }: SidecarInput): JsonObject[] {
  // Without an fsGroup the kubelet leaves the files to root, and only a mode for all lets uid 1001 read them. No other
  // container mounts this volume, and the pod's fsGroup is not ours to set: it would re-own the application's volumes.
  const defaultMode = hasFsGroup ? 0o440 : 0o444
  return [
    { name: 'mcp-sidecar-config', configMap: { name: options.config, defaultMode: 0o444 } },
    { name: 'mcp-sidecar-tls', secret: { secretName: certificate, defaultMode } },
    { name: 'mcp-sidecar-trust', configMap: { name: options.trust, defaultMode: 0o444 } },
    { name: 'mcp-sidecar-run', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
    ...(upstream.startsWith('unix:')
      ? [{ name: SOCKET_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }]
      : []),
  ]
}

/** Names of all volumes that an injection may have added. */
export const SIDECAR_VOLUMES: readonly string[] = [
  'mcp-sidecar-config',
  'mcp-sidecar-tls',
  'mcp-sidecar-trust',
  'mcp-sidecar-run',
  SOCKET_VOLUME,
]

function field(name: string, fieldPath: string): JsonObject {
  return { name, valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } } }
}

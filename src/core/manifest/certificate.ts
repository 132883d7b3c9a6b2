import type { JsonObject } from '../json.ts'
import type { Front } from './inject-object.ts'
import { GENERATED, type InjectOptions } from './options.ts'

/**
 * The cert-manager Certificate of one workload: 30 days, renewed 7 days before the end, with a new key each time.
 *
 * @param services  Names of the Services in front of the workload; the workload's own name when there are none.
 * @source          cert-manager.io/v1; the trust root is not taken from this Secret, since `ca.crt` there changes with
 *                  the leaf's issuer.
 */
export function certificateFor(
  front: Front,
  services: readonly string[],
  namespace: string,
  issuer: NonNullable<InjectOptions['issuer']>,
): JsonObject {
  const names = services.length > 0 ? services : [front.name]
  const dnsNames = names.flatMap(name => [
    `${name}.${namespace}.svc.cluster.local`,
    `${name}.${namespace}.svc`,
    `${name}.${namespace}`,
    name,
  ])
  const first = dnsNames[0] as string
  return {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    metadata: {
      name: `${front.name}-mcp-sidecar`,
      namespace,
      annotations: { [GENERATED]: 'true' },
    },
    spec: {
      secretName: front.certificate,
      duration: '720h',
      renewBefore: '168h',
      // A common name holds 64 bytes at most (RFC 5280, ub-common-name); the names that count are the SANs.
      ...(first.length <= 64 ? { commonName: first } : {}),
      dnsNames,
      privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
      usages: ['digital signature', 'server auth'],
      issuerRef: { name: issuer.name, kind: issuer.kind, group: 'cert-manager.io' },
    },
  }
}

/** The sidecar with everything on: header identity, 20 rules, two windows, audit with chain to a pipe, metrics. */
export function sidecarConfig(at: {
  port: number
  admin: number
  upstreamPort: number
  pki: { ca: string; serverCert: string; serverKey: string }
  operationsSocket: string
}): string {
  const rules = Array.from(
    { length: 19 },
    (_, i) =>
      `    - { id: team-${i}, effect: allow, when: { roles: [team-${i}] }, methods: [tools/call], tools: ["team${i}_*"] }`,
  )
  return `
listen: { address: "127.0.0.1:${at.port}" }
upstream: { url: "http://127.0.0.1:${at.upstreamPort}" }
admin: { address: "127.0.0.1:${at.admin}", operations: "unix:${at.operationsSocket}" }
tls: { cert: ${at.pki.serverCert}, key: ${at.pki.serverKey}, clientCa: ${at.pki.ca} }
peers:
  - name: gateway
    match: { uri: "spiffe://**" }
    mayAssert: { users: ["*"], orgs: [acme], scopes: [mcp.read, mcp.write], roles: [developer], emails: ["*@acme.example"] }
unsafeAnyPeer: true
drain: { lameDuck: 0s, grace: 2s }
limits: { connections: 4000, handshakes: 1000, streamsPerUser: 4000 }
identity: { source: headers, required: true }
policy:
  rules:
${rules.join('\n')}
    - { id: readers, effect: allow, when: { scopes: [mcp.read] }, methods: [tools/call], tools: ["search_*"], args: { limit: { max: 100 } } }
quotas:
  - { name: per-user, key: user, match: { methods: [tools/call] }, windows: [{ limit: 100000000, per: 1m }, { limit: 1000000000, per: 1h }] }
`
}

import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { DevName, DevPki } from '../../edge/pki.ts'
import { type CliIo, styles } from '../io.ts'

/** Calls that one user may make in a minute; the story uses them up. */
export const CALLS_A_MINUTE = 3

export function identityOf(pki: DevPki, name: DevName): { cert: string; key: string; uri: string } {
  const found = pki.identities.find(identity => identity.name === name)
  if (!found) throw new Error(`the development PKI has no ${name}`)
  return found
}

/** A configuration as somebody would write it, on ports that are free now. */
export async function demoConfig(
  folder: string,
  pki: DevPki,
  upstreamPort: number,
): Promise<{ text: string; port: number; adminPort: number }> {
  const [port, adminPort] = await freePorts(8443, 9090)
  const server = identityOf(pki, 'server')
  const gateway = identityOf(pki, 'gateway')
  const text = `listen: { address: "127.0.0.1:${port}" }
upstream: { url: "http://127.0.0.1:${upstreamPort}" }
admin:
  address: "127.0.0.1:${adminPort}"
  operations: ${JSON.stringify(`unix:${join(folder, 'ops.sock')}`)}
tls:
  cert: ${JSON.stringify(server.cert)}
  key: ${JSON.stringify(server.key)}
  clientCa: ${JSON.stringify(pki.ca.cert)}

# Who may connect, and what it may say about the users whose calls it forwards.
peers:
  - name: gateway
    match: { uri: ${JSON.stringify(gateway.uri)} }
    mayAssert: { users: ["*"], orgs: [acme], scopes: [docs.read] }

# What may be called: a rule for each thing that is wanted, nothing else.
policy:
  default: deny
  rules:
    - id: readers-search
      effect: allow
      when: { scopes: [docs.read] }
      methods: [tools/call]
      tools: ["search_*"]

# How much of it.
quotas:
  - name: calls-per-user
    key: user
    match: { methods: [tools/call] }
    windows: [{ limit: ${CALLS_A_MINUTE}, per: 1m }]

drain: { lameDuck: 0s, grace: 2s }
`
  return { text, port, adminPort }
}

export interface HandsOn {
  readonly io: CliIo
  readonly folder: string
  readonly pki: DevPki
  readonly configFile: string
  readonly port: number
  readonly adminPort: number
}

/** How to go on by hand, while everything still runs. */
export function byHand({ io, folder, pki, configFile, port, adminPort }: HandsOn): string {
  const { bold, dim } = styles(io.stdout, io.env)
  const gateway = identityOf(pki, 'gateway')
  const self = io.self.map(quoted).join(' ')
  const call = (tool: string, args: string, user: string) =>
    [
      `curl --cacert ${quoted(pki.ca.cert)} --cert ${quoted(gateway.cert)} --key ${quoted(gateway.key)} \\`,
      `  https://localhost:${port}/mcp -H 'Content-Type: application/json' \\`,
      `  -H 'Accept: application/json, text/event-stream' \\`,
      `  -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: ${tool}' \\`,
      `  -H 'X-User-ID: ${user}' -H 'X-Org-ID: acme' -H 'X-User-Scopes: docs.read' \\`,
      `  -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"${tool}","arguments":${args},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}'`,
    ].join('\n')
  return [
    bold('Try it by hand'),
    dim('# a call that is allowed, by another user with a window of her own'),
    call('search_docs', '{"query":"certificate"}', 'grace'),
    dim('# one that is not'),
    call('delete_doc', '{"title":"Menu of the canteen"}', 'grace'),
    dim("# what ada's window holds; the policy may be edited and read again"),
    `${self} quotas explain --config ${quoted(configFile)} --org acme --user ada`,
    `${self} reload --config ${quoted(configFile)}`,
    dim('# the audit lines as they come, and the metrics'),
    `tail -f ${quoted(join(folder, 'audit.log'))}`,
    `curl -s http://127.0.0.1:${adminPort}/metrics | grep ^mcp_`,
    '',
    `Everything keeps running until ${bold('Ctrl-C')}.`,
  ].join('\n')
}

function quoted(text: string): string {
  return /^[A-Za-z0-9_./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** The wanted ports where they are free, others where they are not. */
async function freePorts(...wanted: number[]): Promise<[number, number]> {
  const ports = await Promise.all(wanted.map(async port => (await bound(port)) ?? (await bound(0)) ?? 0))
  return ports as [number, number]
}

function bound(port: number): Promise<number | undefined> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const { port: given } = server.address() as AddressInfo
      server.close(() => resolve(given))
    })
  })
}

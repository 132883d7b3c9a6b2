import { describe, expect, test } from 'vitest'
import { compileHosts } from '../../src/core/identity/host-origin.ts'

const CERTIFICATE = { dns: ['search.tools.svc.cluster.local', 'mcp.example.org', '*.apps.example.org'] }

function rules(hosts: string[] = [], origins: string[] = [], resource?: string) {
  return compileHosts({ hosts, origins }, CERTIFICATE, resource)
}

describe('Host', () => {
  test.each([
    // What gateways send: the Service in every form, the public name, the address of a pod.
    ['search', true],
    ['search.tools', true],
    ['search.tools.svc', true],
    ['search.tools.svc.cluster.local', true],
    ['search.tools.svc.cluster.local:8443', true],
    ['search:8443', true],
    ['mcp.example.org', true],
    ['MCP.Example.ORG:443', true],
    ['mcp.example.org.', true],
    ['mcp.example.org.:8443', true],
    ['a.apps.example.org', true],
    ['10.1.2.3', true],
    ['10.1.2.3:8443', true],
    ['127.0.0.1:8443', true],
    ['[::1]:8443', true],
    ['[2001:DB8::1]', true],
    // What a rebound name or a mistake looks like.
    ['evil.example.com', false],
    ['localhost', false],
    ['localhost:8443', false],
    ['apps.example.org', false],
    ['a.b.apps.example.org', false],
    ['search.other', false],
    ['tools.search', false],
    ['mcp.example.org.evil.example.com', false],
    ['evil-mcp.example.org', false],
    ['mcp.example.org@evil.example.com', false],
    ['mcp.example.org:443:443', false],
    ['mcp.example.org:port', false],
    ['mcp.example.org:123456', false],
    ['mcp.example.org/', false],
    ['mcp.example.org, evil.example.com', false],
    ['mcp.example.org\t', false],
    ['mcp..example.org', false],
    ['::1', false],
    ['[::1', false],
    ['[evil]', false],
    ['[::1]evil', false],
    ['1.2.3.4.5', false],
    ['0x7f.1', false],
    ['', false],
    ['.', false],
    ['*', false],
    ['*.apps.example.org', false],
  ])('%j is accepted: %s', (host, accepted) => {
    const hosts = rules()
    expect(hosts.acceptsHost(host)).toBe(accepted)
    expect(hosts.acceptsHost(host)).toBe(accepted)
  })

  test('a request without one is not served', () => {
    expect(rules().acceptsHost(undefined)).toBe(false)
  })

  test.each([
    ['localhost', 'localhost:8443', true],
    ['localhost:8443', 'localhost', true],
    ['LOCALHOST', 'localhost', true],
    ['mcp_backend', 'mcp_backend', true],
    ['*.internal', 'a.internal', true],
    ['*.internal', 'internal', false],
    ['*', 'anything.example.com', true],
    ['*', 'not a host', false],
    ['[fd00::1]', 'evil', false],
  ])('with %j listed, %j is accepted: %s', (listed, host, accepted) => {
    expect(rules([listed]).acceptsHost(host)).toBe(accepted)
  })

  test('the public name of the resource is accepted', () => {
    expect(rules([], [], 'https://Public.Example.NET:8443/mcp').acceptsHost('public.example.net')).toBe(true)
  })

  test('a short name in the certificate has no other forms', () => {
    const hosts = compileHosts({ hosts: [], origins: [] }, { dns: ['search.tools', '*.tools.svc'] }, undefined)
    expect(hosts.acceptsHost('search.tools')).toBe(true)
    expect(hosts.acceptsHost('search')).toBe(false)
  })

  test('made-up names are judged however many there are', () => {
    const hosts = rules()
    for (let n = 0; n < 2000; n++) expect(hosts.acceptsHost(`h${n}.example.com`)).toBe(false)
    expect(hosts.acceptsHost('mcp.example.org')).toBe(true)
  })
})

describe('Origin', () => {
  test.each([
    [[], undefined, true],
    [[], 'https://chat.example.org', false],
    [[], 'null', false],
    [['https://chat.example.org'], 'https://chat.example.org', true],
    [['https://chat.example.org'], 'https://Chat.Example.org:443', true],
    [['https://chat.example.org'], 'http://chat.example.org', false],
    [['https://chat.example.org'], 'https://chat.example.org:8443', false],
    [['https://chat.example.org'], 'https://chat.example.org.evil.example', false],
    [['https://chat.example.org'], 'https://evil.chat.example.org', false],
    [['null'], 'null', true],
    [['*'], 'https://anything.example', true],
  ])('with %j listed, %j is accepted: %s', (listed, origin, accepted) => {
    expect(rules([], listed).acceptsOrigin(origin)).toBe(accepted)
  })
})

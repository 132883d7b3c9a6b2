/**
 * Ways to make a backend see an identity, a certificate, an address or a request that the sidecar has not verified.
 * Each is sent by a listed peer beside an honest request of alice's; every dishonest value has `evil` in it.
 */
export interface HeaderTrick {
  readonly name: string
  /** Lines added to (or, by `instead`, put in the place of) the honest ones. */
  readonly lines: readonly (readonly [string, string])[]
  /** Whether the honest identity lines are sent as well. */
  readonly instead?: boolean
  /**
   * `gone`: the request is served as alice's, and nothing that was added arrives. `refused`: with this reason.
   */
  readonly want: 'gone' | { readonly refused: string }
}

const AMBIGUOUS = { refused: 'user_header_ambiguous' }
const MALFORMED = { refused: 'request_malformed' }

const IDENTITY_NAMES = ['X-User-ID', 'X-User-Email', 'X-Org-ID', 'X-User-Scopes', 'X-User-Roles']

/** Spellings that some backend folds onto the name, and that are not the name itself. */
function foldedSpellings(name: string): string[] {
  return [
    name.replaceAll('-', '_'),
    name.replaceAll('-', '.'),
    name.replace('-', '_'),
    name.replace(/-([^-]*)$/, '_$1'),
    name.toLowerCase().replaceAll('-', '_'),
    name.toUpperCase().replaceAll('-', '_'),
    name.replace('-', '.'),
    name.replaceAll('-', '~'),
    name.replaceAll('-', '+'),
    name.replaceAll('-', '!'),
    name.replaceAll('-', '*'),
    name.replaceAll('-', '|'),
    name.replaceAll('-', "'"),
    name.replaceAll('-', '`'),
    name.replaceAll('-', '^'),
    name.replaceAll('-', '&'),
    name.replaceAll('-', '#'),
    name.replaceAll('-', '$'),
    name.replaceAll('-', '%'),
  ]
}

/** Spellings of the very same name: a second line in any of them is a repeat. */
function sameSpellings(name: string): string[] {
  return [name, name.toLowerCase(), name.toUpperCase(), swapCase(name)]
}

function swapCase(name: string): string {
  return [...name].map((char, at) => (at % 2 === 0 ? char.toLowerCase() : char.toUpperCase())).join('')
}

const aliases: HeaderTrick[] = IDENTITY_NAMES.flatMap(name =>
  foldedSpellings(name).map(
    (spelling): HeaderTrick => ({ name: `alias ${spelling}`, lines: [[spelling, 'evil']], want: AMBIGUOUS }),
  ),
)

const aliasesAlone: HeaderTrick[] = ['X_User_ID', 'X.User.ID', 'x_user-id', 'X-User.ID', 'X_USER_ID'].map(
  (spelling): HeaderTrick => ({
    name: `only the alias ${spelling}`,
    lines: [[spelling, 'evil']],
    instead: true,
    want: AMBIGUOUS,
  }),
)

const repeats: HeaderTrick[] = IDENTITY_NAMES.flatMap(name =>
  sameSpellings(name).map(
    (spelling): HeaderTrick => ({ name: `repeated as ${spelling}`, lines: [[spelling, 'evil']], want: AMBIGUOUS }),
  ),
)

const NEVER_PASSED = [
  'X-Forwarded-Client-Cert',
  'X_Forwarded_Client_Cert',
  'x.forwarded.client.cert',
  'X-FORWARDED-CLIENT_CERT',
  'X~Forwarded~Client~Cert',
  'Client-Cert',
  'Client_Cert',
  'CLIENT.CERT',
  'Client-Cert-Chain',
  'Client_Cert_Chain',
  'client-cert.chain',
  'X-Forwarded-For',
  'X_Forwarded_For',
  'x.forwarded.for',
  'X-Forwarded-Proto',
  'X_Forwarded_Proto',
  'X-Forwarded-Host',
  'X_FORWARDED_HOST',
  'X-Forwarded.Host',
  'X-Forwarded-Port',
  'X-Forwarded-Prefix',
  'X-Forwarded-Server',
  'X-Forwarded-User',
  'X_Forwarded_User',
  'X-Forwarded-Email',
  'X-Forwarded-Groups',
  'X-Forwarded-Preferred-Username',
  'X-Forwarded-Uri',
  'X-Forwarded-Method',
  'X-Forwarded-Tls-Client-Cert',
  'X-Forwarded-Tls-Client-Cert-Info',
  'Forwarded',
  'forwarded',
  'X-Real-IP',
  'X_Real_IP',
  'X-Client-IP',
  'True-Client-IP',
  'CF-Connecting-IP',
  'X-Cluster-Client-IP',
  'X-Originating-IP',
  'X-Envoy-External-Address',
  'X-Envoy-Original-Path',
  'X-Envoy-Internal',
  'X_Envoy_Peer_Metadata',
  'X-Envoy-Original-Host',
  'SSL-Client-Cert',
  'ssl_client_cert',
  'SSL-Client-Verify',
  'SSL-Client-Subject-DN',
  'X-SSL-Client-CN',
  'X-SSL-Client-S-DN',
  'X-Client-Cert',
  'X-Client-Certificate',
  'X-Amzn-Mtls-Clientcert',
  'X-Amzn-Oidc-Identity',
  'X-ARR-ClientCert',
  'l5d-client-id',
  'Remote-User',
  'Remote_User',
  'X-Remote-User',
  'X-Remote-Group',
  'X-Auth-Request-User',
  'X-Auth-Request-Email',
  'X-Authenticated-User',
  'X.Authenticated.User',
  'X-Authenticated-Groups',
  'X-WebAuth-User',
  'X-Goog-Authenticated-User-Email',
  'X-MS-Client-Principal',
  'X-MS-Client-Principal-Name',
  'Impersonate-User',
  'Impersonate-Group',
  'X-HTTP-Method-Override',
  'X_HTTP_Method_Override',
  'X-HTTP-Method',
  'X-Method-Override',
  'X-Original-URL',
  'X-Original-URI',
  'X-Rewrite-URL',
  'X-Original-Host',
  'X-Host',
  'X-HTTP-Host-Override',
  'Proxy',
  'proxy',
  'Proxy-Connection',
  'Keep-Alive',
  'TE',
  'Trailer',
  'Upgrade',
  'HTTP2-Settings',
  'Content_Type',
  'CONTENT.TYPE',
  'Content_Encoding',
  'Accept_Encoding',
  'Accept-Encoding',
  'User_Agent',
  'Last_Event_ID',
  'Mcp_Session_Id',
  'mcp.session.id',
  'MCP_METHOD',
  'Mcp_Name',
  'Mcp_Protocol_Version',
  'Mcp-Param_region',
  'mcp-init-host',
  'X_Request_ID',
  'x.request.id',
  'Authorization',
  'Proxy-Authorization',
  'Proxy_Authorization',
  'DPoP',
  'Cookie',
  'Origin',
]

const dropped: HeaderTrick[] = NEVER_PASSED.map(
  (name): HeaderTrick => ({ name: `${name} of the peer's own`, lines: [[name, 'evil']], want: 'gone' }),
)

const CONNECTION_OPTIONS = [
  'X-User-ID',
  'x-user-id, close',
  'close, X_User_ID',
  'X-User-ID, X-Org-ID, X-User-Scopes, X-User-Roles, X-User-Email',
  'keep-alive, X-Forwarded-Client-Cert',
  'Client-Cert',
  'X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host',
  'Host',
  'Content-Type',
  'Content-Length',
  'Mcp-Method',
  'Authorization, Cookie',
  'X-Request-ID',
  ',,X-USER-ID,,',
  '"X-User-ID"',
]

const connection: HeaderTrick[] = [
  ...CONNECTION_OPTIONS.map(
    (options): HeaderTrick => ({ name: `Connection: ${options}`, lines: [['Connection', options]], want: 'gone' }),
  ),
  {
    name: 'Connection names a custom header that is there',
    lines: [
      ['Connection', 'X-Custom'],
      ['X-Custom', 'evil'],
    ],
    want: 'gone',
  },
  {
    name: 'Connection names a custom header in another spelling',
    lines: [
      ['Connection', 'x_custom'],
      ['X-Custom', 'evil'],
    ],
    want: 'gone',
  },
  {
    name: 'two Connection lines',
    lines: [
      ['Connection', 'close'],
      ['connection', 'X-User-ID, X-Custom'],
      ['X-Custom', 'evil'],
    ],
    want: 'gone',
  },
]

const malformed: HeaderTrick[] = [
  { name: 'space in the name', lines: [['X User ID', 'evil']], want: MALFORMED },
  { name: 'space before the colon', lines: [['X-User-ID ', 'evil']], want: MALFORMED },
  { name: 'tab in the name', lines: [['X-User-ID\t', 'evil']], want: MALFORMED },
  { name: 'NUL in the name', lines: [['X-User\0ID', 'evil']], want: MALFORMED },
  { name: 'non-ASCII letter in the name', lines: [['X-Uſer-ID', 'evil']], want: MALFORMED },
  { name: 'non-breaking space in the name', lines: [['X-User\u00a0ID', 'evil']], want: MALFORMED },
  { name: 'soft hyphen for the hyphen', lines: [['X\u00adUser\u00adID', 'evil']], want: MALFORMED },
  { name: 'slash for the hyphen', lines: [['X/User/ID', 'evil']], want: MALFORMED },
  { name: 'colon for the hyphen', lines: [['X:User:ID', 'evil']], want: MALFORMED },
  { name: 'empty name', lines: [['', 'evil']], want: MALFORMED },
  { name: 'line feed in the name', lines: [['X-A\nX-User-ID', 'evil']], want: MALFORMED },
  { name: 'CR LF in a value', lines: [['X-Custom', 'a\r\nX-User-ID: evil']], want: MALFORMED },
  { name: 'bare LF in a value', lines: [['X-Custom', 'a\nX-User-ID: evil']], want: MALFORMED },
  { name: 'bare CR in a value', lines: [['X-Custom', 'a\rX-User-ID: evil']], want: MALFORMED },
  { name: 'NUL in a value', lines: [['X-Custom', 'a\0evil']], want: MALFORMED },
  { name: 'a character that becomes LF as one byte', lines: [['X-Custom', 'a\u010aX-User-ID: evil']], want: MALFORMED },
  { name: 'a character that becomes CR as one byte', lines: [['X-Custom', 'a\u010dX-User-ID: evil']], want: MALFORMED },
  { name: 'Host twice', lines: [['host', 'evil']], want: MALFORMED },
  {
    name: 'Origin twice',
    lines: [
      ['Origin', 'https://evil'],
      ['origin', 'https://evil'],
    ],
    want: MALFORMED,
  },
  {
    name: 'Authorization twice',
    lines: [
      ['Authorization', 'Bearer evil'],
      ['authorization', 'Bearer evil'],
    ],
    want: { refused: 'user_token_ambiguous' },
  },
]

const INVALID = { refused: 'user_header_invalid' }

const values: HeaderTrick[] = [
  { name: 'two users joined by a proxy', lines: [['X-User-ID', 'alice, evil']], instead: true, want: INVALID },
  { name: 'two users joined without a space', lines: [['X-User-ID', 'evil,alice']], instead: true, want: INVALID },
  { name: 'UTF-8 in the user', lines: [['X-User-ID', 'evil\u00c3\u00bc']], instead: true, want: INVALID },
  { name: 'non-breaking space in the user', lines: [['X-User-ID', 'evil\u00a0']], instead: true, want: INVALID },
  { name: 'tab in the user', lines: [['X-User-ID', 'evil\tevil']], instead: true, want: INVALID },
  { name: 'user of 257 characters', lines: [['X-User-ID', `evil${'x'.repeat(253)}`]], instead: true, want: INVALID },
  { name: 'empty user', lines: [['X-User-ID', '']], instead: true, want: { refused: 'user_missing' } },
  { name: 'user of spaces', lines: [['X-User-ID', '   ']], instead: true, want: { refused: 'user_missing' } },
  { name: 'DEL in the user', lines: [['X-User-ID', 'evil\x7f']], instead: true, want: MALFORMED },
  {
    name: 'two organisations joined',
    lines: [
      ['X-User-ID', 'alice'],
      ['X-Org-ID', 'acme, evil'],
    ],
    instead: true,
    want: INVALID,
  },
  {
    name: 'non-ASCII role',
    lines: [
      ['X-User-ID', 'alice'],
      ['X-User-Roles', 'evil\u00e9'],
    ],
    instead: true,
    want: INVALID,
  },
  {
    name: '257 scopes',
    lines: [
      ['X-User-ID', 'alice'],
      ['X-User-Scopes', Array.from({ length: 257 }, (_, n) => `evil${n}`).join(' ')],
    ],
    instead: true,
    want: INVALID,
  },
]

export const HEADER_TRICKS: readonly HeaderTrick[] = [
  ...aliases,
  ...aliasesAlone,
  ...repeats,
  ...dropped,
  ...connection,
  ...malformed,
  ...values,
]

/** What a gateway sends for alice. */
export const HONEST: readonly (readonly [string, string])[] = [
  ['Host', 'mcp.example.org'],
  ['Content-Type', 'application/json'],
  ['Accept', 'application/json, text/event-stream'],
]
export const HONEST_IDENTITY: readonly (readonly [string, string])[] = [
  ['X-User-ID', 'alice'],
  ['X-User-Email', 'alice@acme.example'],
  ['X-Org-ID', 'acme'],
  ['X-User-Scopes', 'mcp.read mcp.write'],
  ['X-User-Roles', 'developer'],
]

export function linesOf(trick: HeaderTrick): string[] {
  const honest = trick.instead === true ? HONEST : [...HONEST, ...HONEST_IDENTITY]
  return [...honest, ...trick.lines].flat()
}

import * as z from 'zod'
import { boolean, duration, label, list, listOrNone, oneOf, oneOrList, pattern, text, textThat } from './scalars.ts'

/** Who may connect, and who the users behind their calls are. */
const headerName = () => textThat('the name of a header', name => /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(name))
const claimName = () => text('the name of a claim', 128)
const fingerprint = () =>
  textThat('a SHA-256 fingerprint: 64 hex digits, with or without colons', value =>
    /^([0-9A-Fa-f]{64}|([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})$/.test(value),
  ).transform(value => value.replaceAll(':', '').toLowerCase())

const assertion = (what: string) => list(pattern()).default([]).describe(what)

export const peers = z.array(
  z.strictObject({
    name: label("the peer's name").describe('What this peer is called in policy, audit lines and quotas.'),
    match: z
      .strictObject({
        uri: pattern().exactOptional().describe('URI in the subject alternative names, for example a SPIFFE ID.'),
        dns: pattern().exactOptional().describe('DNS name in the subject alternative names.'),
        cn: pattern().exactOptional().describe('Common name of the subject.'),
        fingerprint256: fingerprint().exactOptional().describe('SHA-256 of the certificate, hex.'),
      })
      .describe('Every condition given must hold. "*" stays within a segment, "**" crosses.'),
    mayAssert: z
      .strictObject({
        users: assertion('User ids.'),
        orgs: assertion('Organisations.'),
        scopes: assertion('Scopes; a ceiling, scopes beyond it are cut.'),
        roles: assertion('Roles.'),
        emails: assertion('E-mail addresses.'),
        forwardedFor: boolean().prefault(false).describe("Whether this peer's X-Forwarded-For is continued."),
      })
      .prefault({})
      .describe('What this certificate may claim about a user; a list that is absent means nothing of that kind.'),
  }),
  { error: issue => (issue.input === undefined ? undefined : 'expected a list') },
)

const jwt = z
  .strictObject({
    issuer: textThat('an https:// URL', isHttpUrl).describe('Required value of iss.'),
    audience: oneOrList(text('an audience')).describe('Accepted values of aud, one or a list.'),
    jwks: text('an https:// URL or a file name', 4096).describe(
      'Where the keys of the issuer are: an https:// URL, or a file.',
    ),
    algorithms: list(
      oneOf(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']),
    )
      .prefault(['RS256', 'ES256', 'PS256', 'EdDSA'])
      .describe('Accepted signature algorithms.'),
    requiredScopes: list(text('a scope', 256)).default([]).describe('Scopes without which no token is accepted.'),
    claims: z
      .strictObject({
        user: oneOrList(claimName())
          .prefault(['oid', 'sub'])
          .describe('Claims that hold the user id, the first present counts.'),
        email: oneOrList(claimName()).prefault(['email']).describe('Claims that hold the e-mail address.'),
        org: oneOrList(claimName()).prefault(['tid']).describe('Claims that hold the organisation.'),
        scopes: oneOrList(claimName()).prefault(['scp', 'scope']).describe('Claims that hold the scopes.'),
        roles: oneOrList(claimName()).prefault(['roles']).describe('Claims that hold the roles.'),
      })
      .prefault({})
      .describe('Which claims the user is read from.'),
    certificateBound: boolean()
      .prefault(false)
      .describe("Requires cnf.x5t#S256 to be the peer's certificate (RFC 8705)."),
    clockSkew: duration('0s', '10m').prefault('30s').describe('How far clocks may differ when exp and nbf are judged.'),
  })
  .transform(({ clockSkew, ...rest }) => ({ ...rest, clockSkewMs: clockSkew }))

export const identity = z
  .strictObject({
    source: oneOf(['headers', 'jwt', 'both'])
      .prefault('headers')
      .describe("Where the user comes from. both: the user in the headers must be the token's."),
    required: boolean().prefault(true).describe('Whether a call without a user is refused.'),
    forward: z
      .strictObject({
        user: headerName().prefault('X-User-ID').describe('Header with the user id.'),
        email: headerName().prefault('X-User-Email').describe('Header with the e-mail address.'),
        org: headerName().prefault('X-Org-ID').describe('Header with the organisation.'),
        scopes: headerName().prefault('X-User-Scopes').describe('Header with the scopes, separated by spaces.'),
        roles: headerName().prefault('X-User-Roles').describe('Header with the roles, separated by spaces.'),
      })
      .prefault({})
      .describe('Names of the headers in which the user arrives and is handed to the upstream.'),
    clientCert: list(oneOf(['xfcc', 'rfc9440', 'xfcc-cert']))
      .prefault(['xfcc'])
      .describe(
        "How the upstream learns of the peer's certificate: xfcc (Hash, Subject, URI, DNS), rfc9440 (Client-Cert), xfcc-cert.",
      ),
    pass: listOrNone(oneOf(['Authorization', 'Cookie', 'Proxy-Authorization', 'DPoP']))
      .default([])
      .describe('Credentials that reach the upstream; those not listed are removed.'),
    jwt: jwt.optional().describe('How tokens are verified; needed when source is jwt or both.'),
    resource: textThat('an https:// URL without query and fragment', isResource)
      .optional()
      .describe('Canonical URL of this MCP server; turns on RFC 9728 metadata and names it in WWW-Authenticate.'),
  })
  .transform(value => ({ ...value, jwt: value.jwt, resource: value.resource }))

function isHttpUrl(value: string): boolean {
  return /^https?:\/\//.test(value) && URL.canParse(value)
}

function isResource(value: string): boolean {
  return isHttpUrl(value) && !value.includes('#') && !value.includes('?') && !new URL(value).username
}

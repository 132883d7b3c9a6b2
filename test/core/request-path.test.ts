import { describe, expect, test } from 'vitest'
import { readTarget } from '../../src/core/request-path.ts'

/** The session that the target names, or why it is refused. */
function read(target: string): string {
  const found = readTarget(target)
  if (found.ok) return found.value.session === undefined ? 'no session' : `session ${found.value.session}`
  return found.error.reason
}

describe('the session of the HTTP+SSE transport', () => {
  test.each([
    ['/messages', 'no session'],
    ['/messages?x=1', 'no session'],
    ['/messages?sessionId=abc', 'session abc'],
    ['/messages?session_id=abc', 'session abc'],
    ['/messages?x=1&session-id=a%2Fb', 'session a/b'],
    ['/messages?%73essionId=abc', 'session abc'],
    ['/messages?q=a;b', 'no session'],
    ['/messages?sessionIdentity=abc', 'no session'],
  ])('%s: %s', (target, expected) => {
    expect(read(target)).toBe(expected)
  })

  // Each of these is somebody's session to one server or another, and none to a reader that knows only the plain name.
  test.each([
    '/messages?sessionId[]=victim',
    '/messages?sessionId%5B%5D=victim',
    '/messages?sessionId[0]=victim',
    '/messages?sessionId[a][b]=victim',
    '/messages?sessionId%00=victim',
    '/messages?+sessionId=victim',
    '/messages?%20session_id=victim',
    '/messages??sessionId=victim',
    '/messages?x=1;sessionId=victim',
    '/messages?sessionId=mine;sessionId=victim',
    '/messages?sessionId=mine;x=1',
    '/messages?sessionId=mine&sessionId[]=victim',
    '/messages?sessionId=mine&session_id=victim',
    '/messages?sessionId=',
    '/messages?sessionId=%ff',
    '/messages?%ff=1',
  ])('%s is refused', target => {
    expect(read(target)).toBe('request_path_malformed')
  })

  test.each(['/mcp?access_token=x', '/mcp?access_token[]=x', '/mcp?Access-Token=x'])('%s is a token', target => {
    expect(read(target)).toBe('request_token_in_query')
  })
})
